"""Prompts of any length as embeddings for the UNet."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lib.diffusion.prompt_weights import Prompt, Span

MAX_COMMON_CHUNKS = 24  # to attend to more would take longer than a picture's attention to itself
MIN_MEAN = 1e-3  # of the root mean square; the embeddings of Stable Diffusion's text encoder have some 0.1

Token = tuple[int, float]  # its id and its weight


class PromptEncoder:
    """Turn prompts into embeddings (1, chunks x 77, channels) float32, the empty prompt's computed once.

    A prompt of more than 75 tokens goes through the text encoder in chunks of 75, each with its own beginning
    and end token, and their embeddings are joined. Weights multiply the embeddings of their tokens; the whole is
    then scaled so that its mean is what it was. Source of both: AUTOMATIC1111's web UI.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._chunk_tokens = tokenizer.model_max_length - 2
        self._empty = self._embed([[]])

    def encode(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return the embedding of each prompt, all of one length: each repeats its chunks until it has that.

        Attention weighs tokens against each other, so a prompt that is repeated as a whole steers as it does alone.
        Padded with empty chunks it would lose much of its effect to them, and of one that is repeated in part, some
        chunks would count more. So the length is one that fits all, unless that is too long: then the longest one's.
        """
        embeddings = [self._embed(list(self._chunks(prompt))) for prompt in prompts]
        tokens = [embedding.shape[1] for embedding in embeddings]
        common = math.lcm(*tokens)
        length = common if common <= MAX_COMMON_CHUNKS * self._empty.shape[1] else max(tokens)
        return [_repeated(embedding, length) for embedding in embeddings]

    def unconditional(self, embedding: Tensor) -> Tensor:
        """Return the empty prompt's embedding, as often as it takes for the length of `embedding`."""
        return _repeated(self._empty, embedding.shape[1])

    def _chunks(self, prompt: Prompt) -> Iterator[list[Token]]:
        """Yield the tokens of each chunk, at most 75; each part of the prompt begins one, be it empty."""
        parts = [[token for span in part for token in self._tokens(span)] for part in prompt.parts]
        if len(parts) > 1 and not parts[-1]:
            parts.pop()  # as in the web UI, BREAK at the end begins nothing
        for tokens in parts:
            for start in range(0, max(len(tokens), 1), self._chunk_tokens):
                yield tokens[start : start + self._chunk_tokens]

    def _tokens(self, span: Span) -> list[Token]:
        ids: list[int] = self._tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids
        return [(token_id, span.weight) for token_id in ids]

    @torch.inference_mode()
    def _embed(self, chunks: Sequence[Sequence[Token]]) -> Tensor:
        begin, end, pad = (getattr(self._tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad"))
        rows = []
        for chunk in chunks:
            padding = [pad] * (self._chunk_tokens - len(chunk))
            rows.append([(begin, 1.0), *chunk, *((token_id, 1.0) for token_id in (end, *padding))])

        device = self._text_encoder.device
        # One chunk at a time: a long prompt then needs no more memory than a short one.
        ids = [torch.tensor([[token_id for token_id, _ in row]], device=device) for row in rows]
        embedding = torch.cat([self._text_encoder(row)[0] for row in ids], dim=1).float()
        weights = torch.tensor([weight for row in rows for _, weight in row], device=device)
        if (weights == 1).all():
            return embedding
        weighted = embedding * weights.reshape(1, -1, 1)
        return weighted * _mean_ratio(embedding, weighted)


def _repeated(embedding: Tensor, length: int) -> Tensor:
    """Repeat the chunks of an embedding from the first on until there are `length` tokens."""
    times = -(-length // embedding.shape[1])
    return embedding.repeat(1, times, 1)[:, :length]


def _mean_ratio(before: Tensor, after: Tensor) -> float:
    """Return before's mean over after's; 1 where a mean is lost in the spread, and its ratio would be chance."""
    means = before.mean().item(), after.mean().item()
    if min(map(abs, means)) < MIN_MEAN * before.square().mean().sqrt().item():
        return 1.0
    return means[0] / means[1]
