"""Encode prompts of any length as embeddings for the UNet."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lib.prompt_weights import Prompt, Span

MAX_COMMON_CHUNKS = 24  # 1848 tokens, less than half as many as a 512 x 512 picture has in self-attention
MIN_MEAN = 1e-3  # relative to the root mean square; that of Stable Diffusion's text encoder is about 0.1

Token = tuple[int, float]  # id and weight


class PromptEncoder:
    """Encode prompts as embeddings (1, chunks x 77, channels) float32. The empty prompt is encoded once.

    A prompt of more than 75 tokens is encoded in chunks of 75, each with its own begin and end token, and their
    embeddings are concatenated. Weights multiply the embeddings of their tokens. The result is then scaled so that its
    mean stays the same. Both follow AUTOMATIC1111's web UI.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._chunk_tokens = tokenizer.model_max_length - 2
        self._empty = self._embed([[]])

    def encode(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return the embedding of each prompt, all of the same length. Shorter prompts repeat their chunks.

        Attention weighs tokens against each other, so a prompt that is repeated as a whole has the same effect as once.
        Padding with empty chunks would weaken it, and repeating only some of its chunks would emphasize those. So the
        length is a common multiple of all, or that of the longest prompt if the common multiple is too long.
        """
        embeddings = [self._embed(list(self._chunks(prompt))) for prompt in prompts]
        tokens = [embedding.shape[1] for embedding in embeddings]
        common = math.lcm(*tokens)
        length = common if common <= MAX_COMMON_CHUNKS * self._empty.shape[1] else max(tokens)
        return [_repeated(embedding, length) for embedding in embeddings]

    def unconditional(self, embedding: Tensor) -> Tensor:
        """Return the empty prompt's embedding, repeated to the length of `embedding`."""
        return fitted(self._empty, embedding)

    def _chunks(self, prompt: Prompt) -> Iterator[list[Token]]:
        """Yield the tokens of each chunk, at most 75. Each part of the prompt starts a chunk, even an empty one."""
        parts = [[token for span in part for token in self._tokens(span)] for part in prompt.parts]
        if len(parts) > 1 and not parts[-1]:
            parts.pop()  # as in the web UI, BREAK at the end starts no chunk
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
        # One chunk at a time, so that a long prompt needs no more memory than a short one.
        ids = [torch.tensor([[token_id for token_id, _ in row]], device=device) for row in rows]
        embedding = torch.cat([self._text_encoder(row)[0] for row in ids], dim=1).float()
        weights = torch.tensor([weight for row in rows for _, weight in row], device=device)
        if (weights == 1).all():
            return embedding
        weighted = embedding * weights.reshape(1, -1, 1)
        return weighted * _mean_ratio(embedding, weighted)


def fitted(embedding: Tensor, other: Tensor) -> Tensor:
    """Return an embedding that is repeated to the length of another."""
    return _repeated(embedding, other.shape[1])


def _repeated(embedding: Tensor, length: int) -> Tensor:
    """Repeat the chunks of an embedding, in order, to `length` tokens."""
    times = -(-length // embedding.shape[1])
    return embedding.repeat(1, times, 1)[:, :length]


def _mean_ratio(before: Tensor, after: Tensor) -> float:
    """Return the ratio of the means, or 1 if a mean is so close to 0 that the ratio would be arbitrary."""
    means = before.mean().item(), after.mean().item()
    if min(map(abs, means)) < MIN_MEAN * before.square().mean().sqrt().item():
        return 1.0
    return means[0] / means[1]
