from pathlib import Path

import torch
from torch import nn

from workshop.training import architecture
from workshop.training.reading import GRID, learn_to_read
from workshop.training.tokenizer import write_tokenizer
from workshop.training.trainer import Recipe

CAPTIONS = ["a drum beat", "a synth pad", "church bells"]


def test_a_text_encoder_learns_which_caption_goes_with_which_picture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = write_tokenizer(CAPTIONS, tmp_path)
    text_encoder = architecture.text_encoder(tokenizer)
    latents = torch.randn(len(CAPTIONS), 8, GRID, GRID).half()
    checkpoint = tmp_path / "reading.pt"
    learn_to_read(text_encoder, tokenizer, latents, CAPTIONS, checkpoint, Recipe(30, 1e-3, warmup_steps=5))

    head = {name: value for name, value in torch.load(checkpoint)["average"].items() if name.startswith("said.")}
    said = nn.Linear(architecture.EMBEDDING_CHANNELS, latents[0].numel())
    said.load_state_dict({name.removeprefix("said."): value for name, value in head.items()})
    with torch.inference_mode():
        tokens = tokenizer(CAPTIONS, padding="max_length", return_tensors="pt").input_ids
        distances = torch.cdist(said(text_encoder(tokens)[0].mean(dim=1)), latents.float().flatten(1))
    assert distances.argmin(dim=1).tolist() == [0, 1, 2]
