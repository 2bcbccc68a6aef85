"""Teach a text encoder to read, before a UNet listens to it: to say from a caption what the picture is on the whole.

A UNet of this size learns from noisy pictures long before it learns from captions that say nothing yet, and then hardly
asks them any more. Every token from the caption's end on sees all of it, and most of a prompt's tokens are such: so the
mean of all tokens is what is taught, and a cross-attention that has learned nothing reads it.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from workshop.training.distractions import distracted
from workshop.training.tokenizer import tokens_of
from workshop.training.trainer import Recipe, generator, train

SEED = 3
RECIPE = Recipe(steps=800, learning_rate=1e-3, ema_decay=0.99)
BATCH = 48
GRID = 8  # squares of a picture's latents, each way, whose means are to be said


def learn_to_read(
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    latents: Tensor,
    captions: list[str],
    checkpoint: Path,
    recipe: Recipe = RECIPE,
) -> None:
    """Train `text_encoder` on the captions of the latents (examples, channels, height, width)."""
    means = F.adaptive_avg_pool2d(latents.float(), GRID).flatten(1)
    said = nn.Linear(text_encoder.config.hidden_size, means.shape[1])

    def loss(step: int) -> Tensor:
        source, chance = generator(SEED, step), np.random.default_rng([SEED, step])
        chosen = torch.randint(len(means), (BATCH,), generator=source)
        texts = [distracted(captions[i], chance) for i in chosen.tolist()]
        return F.mse_loss(said(text_encoder(tokens_of(texts, tokenizer))[0].mean(dim=1)), means[chosen])

    train(nn.ModuleDict({"text_encoder": text_encoder, "said": said}), loss, recipe, checkpoint)
