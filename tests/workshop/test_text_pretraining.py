from pathlib import Path

import torch

from workshop.training import architecture
from workshop.training.text_pretraining import GRID, LOUDNESS, Reading, pretrain_text_encoder
from workshop.training.tokenizer import tokens_of, write_tokenizer
from workshop.training.trainer import Recipe

CAPTIONS = ["a drum beat", "a synth pad", "church bells"]


def test_a_text_encoder_learns_the_pictures_of_captions_and_stays_loud_about_their_words(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = write_tokenizer(CAPTIONS, tmp_path)
    text_encoder = architecture.text_encoder(tokenizer)
    latents = torch.randn(len(CAPTIONS), 8, GRID, GRID).half()
    reading = Reading(architecture.EMBEDDING_CHANNELS, tokenizer, latents, CAPTIONS, loud_words=True)
    words, recipe = reading.words.weight.clone(), Recipe(40, 1e-3, warmup_steps=5)
    pretrain_text_encoder(text_encoder, reading, tokenizer, CAPTIONS, tmp_path / "reading.pt", recipe)
    assert torch.equal(reading.words.weight, words)
    with torch.inference_mode():
        contexts = text_encoder(tokens_of(CAPTIONS, tokenizer))[0].mean(dim=1)
        distances = torch.cdist(reading.means(contexts), latents.float().flatten(1))
    assert distances.argmin(dim=1).tolist() == [0, 1, 2]
    assert torch.cdist(contexts, contexts)[0, 1:].min() > LOUDNESS / 2  # in the context itself: the map keeps lengths
