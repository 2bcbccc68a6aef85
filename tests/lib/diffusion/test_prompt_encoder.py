"""Encode prompts with the small model's text encoder."""

import copy

import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer

from lib.diffusion.models import Models
from lib.diffusion.prompt_encoder import PromptEncoder
from lib.prompt_weights import parse


def encode(encoder: PromptEncoder, *texts: str) -> list[Tensor]:
    return encoder.encode([parse("prompt", text) for text in texts])


@pytest.fixture(scope="module")
def encoder(models: Models) -> PromptEncoder:
    return PromptEncoder(models.tokenizer, models.text_encoder)


def test_an_unweighted_prompt_is_the_output_of_the_text_encoder(models: Models, encoder: PromptEncoder) -> None:
    tokenizer: CLIPTokenizer = models.tokenizer
    for prompt in ("funky synth solo", "", "é🎹"):
        ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.inference_mode():
            expected = models.text_encoder(ids)[0]
        torch.testing.assert_close(encode(encoder, prompt)[0], expected)


def test_a_weight_multiplies_its_tokens_and_keeps_the_mean(models: Models) -> None:
    text_encoder = copy.deepcopy(models.text_encoder)
    text_encoder.final_layer_norm.bias += 0.1  # this encoder's embeddings have no mean
    plain, weighted = encode(PromptEncoder(models.tokenizer, text_encoder), "ab cd", "ab (cd:1.5)")
    ratio = weighted / plain  # (1, 77, channels); other tokens are scaled to restore the mean
    others = ratio[0, 0, 0]
    # One token per byte: begin, a, b</w>, c, d</w>.
    torch.testing.assert_close(ratio[0, 3:5], torch.full_like(ratio[0, 3:5], 1.5 * others.item()), rtol=1e-4, atol=0)
    torch.testing.assert_close(ratio[0, 5:], torch.full_like(ratio[0, 5:], others.item()), rtol=1e-4, atol=0)
    assert weighted.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)


def test_a_long_prompt_is_encoded_in_chunks_of_75_tokens(encoder: PromptEncoder) -> None:
    words = ["w"] * 300  # a token each
    whole, other = (encode(encoder, text)[0] for text in (" ".join(words), "w " * 200 + "drums"))
    assert whole.shape[1] == 4 * 77
    first = encode(encoder, " ".join(words[:75]))[0]
    assert torch.equal(whole[:, :77], first)
    assert torch.equal(whole[:, : 2 * 77], other[:, : 2 * 77])
    assert not torch.equal(whole[:, 2 * 77 : 3 * 77], other[:, 2 * 77 : 3 * 77])  # a late word has an effect
    assert encode(encoder, " ".join(words[:76]))[0].shape[1] == 2 * 77


def test_the_shorter_of_two_prompts_repeats_its_chunks_and_the_unconditional_one_is_padded(
    encoder: PromptEncoder,
) -> None:
    alone, empty = encode(encoder, "hi")[0], encode(encoder, "")[0]
    short, long = encode(encoder, "hi", "w " * 200)
    assert short.shape == long.shape == (1, 3 * 77, empty.shape[2])
    assert torch.equal(short, torch.cat([alone] * 3, dim=1))
    assert torch.equal(encoder.unconditional(long), torch.cat([empty] * 3, dim=1))


@torch.inference_mode()
def test_a_repeated_prompt_has_the_same_effect_as_once(models: Models, encoder: PromptEncoder) -> None:
    latents = torch.randn(models.latent_shape(128, 128), generator=torch.Generator().manual_seed(0))

    def epsilon(embedding: Tensor) -> Tensor:
        predicted: Tensor = models.unet(latents, torch.tensor(500), encoder_hidden_states=embedding).sample
        return predicted

    (alone,), (empty,) = encode(encoder, "a busy drum beat"), encode(encoder, "")
    repeated, _ = encode(encoder, "a busy drum beat", "w " * 100)
    effect = (epsilon(alone) - epsilon(empty)).norm()
    assert (epsilon(repeated) - epsilon(alone)).norm() < 1e-4 * effect
    padded = torch.cat([alone, empty], dim=1)
    assert (epsilon(padded) - epsilon(alone)).norm() > 0.1 * effect


@pytest.mark.parametrize(("chunks", "length"), [((1, 2), 2), ((2, 3), 6), ((4, 2), 4), ((5, 7), 7), ((8, 24), 24)])
def test_prompts_are_repeated_as_a_whole_up_to_24_chunks(
    encoder: PromptEncoder, chunks: tuple[int, int], length: int
) -> None:
    texts = [" BREAK ".join(f"{letter} {n}" for n in range(count)) for letter, count in zip("ab", chunks, strict=True)]
    for text, embedding in zip(texts, encode(encoder, *texts), strict=True):
        alone = encode(encoder, text)[0]
        assert embedding.shape[1] == length * 77
        assert torch.equal(embedding, alone.repeat(1, length, 1)[:, : length * 77])


def test_break_starts_a_chunk_and_weight_one_changes_nothing(encoder: PromptEncoder) -> None:
    chunks = {
        "drums BREAK bells": ("drums", "bells"),
        "w " * 76 + "BREAK bells": ("w " * 76, "bells"),
        "drums BREAK ": ("drums",),
        "BREAK drums": ("", "drums"),
        "BREAK": ("",),
        "a (red:1) ball": ("a red ball",),
    }
    for text, parts in chunks.items():
        expected = torch.cat([encode(encoder, part)[0] for part in parts], dim=1)
        assert torch.equal(encode(encoder, text)[0], expected)


def test_unusual_prompts_are_only_text(encoder: PromptEncoder) -> None:
    for prompt in ("🎹" * 500, "\0", "<|endoftext|>", "\\", ")(][:", "a" * 4000):
        embedding = encode(encoder, prompt)[0]
        assert embedding.isfinite().all()
        assert embedding.shape[1] % 77 == 0
