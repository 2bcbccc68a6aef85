from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from workshop.training import architecture
from workshop.training.text_pretraining import GRID, LOUDNESS, Reading, pretrain_text_encoder
from workshop.training.tokenizer import tokens_of, write_tokenizer
from workshop.training.trainer import Recipe

CAPTIONS = ["a drum beat", "a synth pad", "church bells"]


@pytest.fixture
def tokenizer(tmp_path: Path) -> CLIPTokenizer:
    torch.manual_seed(0)
    return write_tokenizer(CAPTIONS, tmp_path)


def reading_of(tokenizer: CLIPTokenizer, latents: torch.Tensor, loud_words: bool = False) -> Reading:
    return Reading(architecture.EMBEDDING_CHANNELS, tokenizer, latents, CAPTIONS, loud_words)


def test_a_text_encoder_learns_which_caption_goes_with_which_picture(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    text_encoder = architecture.text_encoder(tokenizer)
    latents = torch.randn(len(CAPTIONS), 8, GRID, GRID).half()
    reading, recipe = reading_of(tokenizer, latents), Recipe(30, 1e-3, warmup_steps=5)
    pretrain_text_encoder(text_encoder, reading, tokenizer, CAPTIONS, tmp_path / "reading.pt", recipe)
    with torch.inference_mode():
        said = reading.means(text_encoder(tokens_of(CAPTIONS, tokenizer))[0].mean(dim=1))
    distances = torch.cdist(said, latents.float().flatten(1))
    assert distances.argmin(dim=1).tolist() == [0, 1, 2]


def test_a_text_encoder_can_not_become_quiet_about_loud_words(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    text_encoder = architecture.text_encoder(tokenizer)
    reading = reading_of(tokenizer, torch.zeros(len(CAPTIONS), 8, GRID, GRID), loud_words=True)
    before = reading.words.weight.clone()
    recipe = Recipe(60, 1e-3, warmup_steps=5)
    pretrain_text_encoder(text_encoder, reading, tokenizer, CAPTIONS, tmp_path / "reading.pt", recipe)
    assert torch.equal(reading.words.weight, before)
    with torch.inference_mode():
        contexts = text_encoder(tokens_of(CAPTIONS, tokenizer))[0].mean(dim=1)
    assert torch.cdist(contexts, contexts)[0, 1:].min() > LOUDNESS / 2  # in the context itself: the map keeps lengths
