import copy

import pytest
import torch
from transformers import CLIPTokenizer

from lib.diffusion.models import Models
from lib.diffusion.prompt_weights import PromptEncoder, Span, parse
from lib.errors import UserError


@pytest.fixture(scope="module")
def encoder(models: Models) -> PromptEncoder:
    return PromptEncoder(models.tokenizer, models.text_encoder)


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("", []),
        ("a cat", [("a cat", 1.0)]),
        ("a (cat)", [("a ", 1.0), ("cat", 1.1)]),
        ("a ((cat))", [("a ", 1.0), ("cat", 1.21)]),
        ("a [cat]", [("a ", 1.0), ("cat", 1 / 1.1)]),
        ("(cat:1.3) sat", [("cat", 1.3), (" sat", 1.0)]),
        ("(cat : 0.5 )", [("cat ", 0.5)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3.0), (" c", 1.5)]),
        (r"a \(cat\) \[x\] \\", [(r"a (cat) [x] " + "\\", 1.0)]),
        ("at 16:9, 3:4 (ratio)", [("at 16:9, 3:4 ", 1.0), ("ratio", 1.1)]),
        ("smile :) and :]", [("smile :) and :]", 1.0)]),
        ("never (closed [here", [("never ", 1.0), ("closed ", 1.1), ("here", 1.0)]),
        ("(a:b) (:1.2)", [("a:b", 1.1), (" ", 1.0)]),
        ("(word:1e9)", [("word:1e9", 1.1)]),
        ("🎹 (日本:1.2)", [("🎹 ", 1.0), ("日本", 1.2)]),
        ("a\\b", [("a\\b", 1.0)]),
    ],
)
def test_syntax(prompt: str, spans: list[tuple[str, float]]) -> None:
    assert [span.text for span in parse("prompt", prompt)] == [text for text, _ in spans]
    assert [span.weight for span in parse("prompt", prompt)] == pytest.approx([weight for _, weight in spans])


@pytest.mark.parametrize("prompt", ["(cat:-1)", "(cat:101)", "(" * 200 + "cat", "(cat:" + "9" * 400 + ")"])
def test_a_weight_out_of_bounds_is_refused_by_name(prompt: str) -> None:
    with pytest.raises(UserError, match=r"^prompt_b: the weight of 'cat' is .*, but must be from 0 to 100$"):
        parse("prompt_b", prompt)


def test_an_unweighted_prompt_is_what_the_text_encoder_makes_of_it(models: Models, encoder: PromptEncoder) -> None:
    tokenizer: CLIPTokenizer = models.tokenizer
    for prompt in ("funky synth solo", "", "é🎹"):
        ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.inference_mode():
            expected = models.text_encoder(ids)[0]
        torch.testing.assert_close(encoder.encode([prompt])[0], expected)


def test_weight_one_changes_nothing(encoder: PromptEncoder) -> None:
    assert torch.equal(*encoder.encode(["a (red:1) ball", "a red ball"]))


def test_a_weight_multiplies_its_own_tokens_and_keeps_the_mean(models: Models) -> None:
    text_encoder = copy.deepcopy(models.text_encoder)
    text_encoder.final_layer_norm.bias += 0.1  # untrained, its embeddings have no mean
    plain, weighted = PromptEncoder(models.tokenizer, text_encoder).encode(["ab cd", "ab (cd:1.5)"])
    ratio = weighted / plain  # (1, 77, channels); the rest is scaled by what restores the mean
    others = ratio[0, 0, 0]
    # One token a byte: the beginning, a, b</w>, c, d</w>.
    torch.testing.assert_close(ratio[0, 3:5], torch.full_like(ratio[0, 3:5], 1.5 * others.item()), rtol=1e-4, atol=0)
    torch.testing.assert_close(ratio[0, 5:], torch.full_like(ratio[0, 5:], others.item()), rtol=1e-4, atol=0)
    assert weighted.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)


def test_a_long_prompt_goes_in_chunks_of_75_tokens(encoder: PromptEncoder) -> None:
    words = ["w"] * 300  # a token each
    whole = encoder.encode([" ".join(words)])[0]
    assert whole.shape[1] == 4 * 77
    first = encoder.encode([" ".join(words[:75])])[0]
    assert torch.equal(whole[:, :77], first)
    assert encoder.encode([" ".join(words[:76])])[0].shape[1] == 2 * 77


def test_a_late_word_of_a_long_prompt_counts(encoder: PromptEncoder) -> None:
    one, other = encoder.encode(["w " * 200 + "drums", "w " * 200 + "bells"])
    assert torch.equal(one[:, : 2 * 77], other[:, : 2 * 77])
    assert not torch.equal(one[:, 2 * 77 :], other[:, 2 * 77 :])


def test_prompts_are_padded_with_the_empty_prompt_to_one_length(encoder: PromptEncoder) -> None:
    short, long = encoder.encode(["hi", "w " * 100])
    empty = encoder.encode([""])[0]
    assert short.shape == long.shape == (1, 2 * 77, empty.shape[2])
    assert torch.equal(short[:, 77:], empty)
    assert torch.equal(encoder.unconditional(long), torch.cat([empty, empty], dim=1))


def test_hostile_prompts_are_only_text(encoder: PromptEncoder) -> None:
    for prompt in ("🎹" * 500, "\0", "<|endoftext|>", "\\", ")(][:", "a" * 4000):
        embedding = encoder.encode([prompt])[0]
        assert embedding.isfinite().all()
        assert embedding.shape[1] % 77 == 0


def test_spans_join_across_literal_brackets() -> None:
    assert parse("prompt", r"f\(x\)") == [Span("f(x)", 1.0)]
