"""Pretrain a text encoder: from a caption it learns to predict the picture's coarse latents and the caption's words.

A UNet of this size learns from noisy pictures long before a fresh text encoder's output means anything, and then hardly
uses it. So the text encoder is pretrained before the UNet starts, and keeps this loss while both train. Every token
from the caption's end on attends to all of it, and most of a prompt's tokens are such tokens. So the loss reads the
mean of all tokens, as an untrained cross-attention does.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from workshop.training.caption_noise import with_noise
from workshop.training.tokenizer import tokens_of
from workshop.training.trainer import Recipe, generator, train

SEED = 3
RECIPE = Recipe(steps=800, learning_rate=1e-3, ema_decay=0.99)
BATCH = 48
GRID = 8  # the latents' means over a grid of this side are predicted
# Of the squared errors of the words, summed. A square's coarse latents are much like a circle's, but its word is not.
WORDS_WEIGHT, LOUD_WORDS_WEIGHT = 0.3, 0.03
LOUDNESS = 4.0  # the target of a loud word that is in the caption


class Reading(nn.Module):
    """Linear maps from a text encoder's output to the latents and the words of the captions, and their loss.

    A learned map to the words lets the text encoder make a word as quiet as it likes, and it does so with the names of
    shapes, which change a picture least. Loud words are read by a fixed orthogonal map (of at most `hidden_size` words)
    instead, so each keeps its length.
    """

    def __init__(
        self,
        hidden_size: int,
        tokenizer: CLIPTokenizer,
        latents: Tensor,
        captions: list[str],
        loud_words: bool = False,
    ) -> None:
        super().__init__()
        self._means = F.adaptive_avg_pool2d(latents.float(), GRID).flatten(1)
        words = F.one_hot(tokens_of(captions, tokenizer), len(tokenizer)).amax(dim=1).bool()
        self._words = words[:, words.any(dim=0) & ~words.all(dim=0)]  # the others carry no information
        self.means = nn.Linear(hidden_size, self._means.shape[1])
        self.words = nn.Linear(hidden_size, self._words.shape[1], bias=not loud_words)
        self._loudness, self._words_weight = (LOUDNESS, LOUD_WORDS_WEIGHT) if loud_words else (1.0, WORDS_WEIGHT)
        if loud_words:
            nn.init.orthogonal_(self.words.weight)
            self.words.requires_grad_(False)

    def loss(self, context: Tensor, chosen: Tensor) -> Tensor:
        """Return the error of what `context` (batch, tokens, hidden size) predicts of `chosen` examples (batch,)."""
        read = context.float().mean(dim=1)
        words = self._loudness * self._words[chosen].float()
        of_words = F.mse_loss(self.words(read), words, reduction="none").sum(dim=1).mean()
        return F.mse_loss(self.means(read), self._means[chosen]) + self._words_weight * of_words


def pretrain_text_encoder(
    text_encoder: CLIPTextModel,
    reading: Reading,
    tokenizer: CLIPTokenizer,
    captions: list[str],
    checkpoint: Path,
    recipe: Recipe = RECIPE,
) -> None:
    """Train `text_encoder` on the captions whose latents `reading` has."""

    def loss(step: int) -> Tensor:
        source, chance = generator(SEED, step), np.random.default_rng([SEED, step])
        chosen = torch.randint(len(captions), (BATCH,), generator=source)
        texts = [with_noise(captions[i], chance) for i in chosen.tolist()]
        return reading.loss(text_encoder(tokens_of(texts, tokenizer))[0], chosen)

    train(nn.ModuleDict({"text_encoder": text_encoder, "reading": reading}), loss, recipe, checkpoint)
