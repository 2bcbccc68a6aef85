"""Prompts of any length, with weights, as embeddings for the UNet.

`(word)` counts 1.1 times, `[word]` 1/1.1 times, `(word:1.3)` 1.3 times; brackets nest, and a backslash makes a
bracket literal. This is the syntax that AUTOMATIC1111's web UI made common, its treatment of unbalanced brackets
included: a closing one alone is literal, an opening one alone counts until the end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.errors import UserError, shown

ROUND_WEIGHT = 1.1
SQUARE_WEIGHT = 1 / 1.1
MAX_WEIGHT = 100.0  # far above what any prompt uses; it keeps every product finite
MIN_MEAN = 1e-3  # of the root mean square; the embeddings of Stable Diffusion's text encoder have some 0.1

TOKEN = re.compile(
    r"""\\(?P<literal>[()\[\]\\])        # an escaped bracket or backslash
    | :\s*+(?P<weight>[+-]?(?:\d++(?:\.\d*+)?|\.\d++))\s*+\)  # ":1.3)", the end of a weighted group
    | (?P<bracket>[()\[\]])
    | (?P<text>[^\\()\[\]:]+|[\\:])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Span:
    """A stretch of text and the weight of its tokens."""

    text: str
    weight: float


def parse(name: str, prompt: str) -> list[Span]:
    """Split `prompt`, the value of the input `name`, into spans of one weight; raise a UserError for a bad weight."""
    texts: list[str] = []
    weights = np.ones(len(prompt))  # one for each of texts, and room for all there may be
    open_brackets: dict[str, list[int]] = {"(": [], "[": []}  # where each open group begins

    def weigh(since: int, factor: float) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            weights[since : len(texts)] *= factor

    for match in TOKEN.finditer(prompt):
        group, bracket = match.lastgroup, match["bracket"]
        if bracket in ("(", "["):
            open_brackets[bracket].append(len(texts))
        elif bracket == ")" and open_brackets["("]:
            weigh(open_brackets["("].pop(), ROUND_WEIGHT)
        elif bracket == "]" and open_brackets["["]:
            weigh(open_brackets["["].pop(), SQUARE_WEIGHT)
        elif group == "weight" and open_brackets["("]:
            weigh(open_brackets["("].pop(), float(match["weight"]))
        else:
            texts.append(match["literal"] or match[0])
    for since in open_brackets["("]:
        weigh(since, ROUND_WEIGHT)
    for since in open_brackets["["]:
        weigh(since, SQUARE_WEIGHT)

    return _joined(name, texts, weights[: len(texts)].tolist())


def _joined(name: str, texts: list[str], weights: list[float]) -> list[Span]:
    """Join neighbours of equal weight: a token must not end where only a literal bracket stood."""
    spans: list[Span] = []
    for text, weight in zip(texts, weights, strict=True):
        if not 0 <= weight <= MAX_WEIGHT:
            raise UserError(f"{name}: the weight of {shown(text)} is {weight:g}, but must be from 0 to {MAX_WEIGHT:g}")
        if spans and spans[-1].weight == weight:
            spans[-1] = Span(spans[-1].text + text, weight)
        else:
            spans.append(Span(text, weight))
    return spans


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
        self._empty = self._embed([], [])

    def encode(self, prompts: Sequence[str]) -> list[Tensor]:
        """Return the embedding of each prompt, all padded with the empty prompt's to the longest one's length."""
        embeddings = [self._embed(*self._tokens(prompt)) for prompt in prompts]
        length = max(embedding.shape[1] for embedding in embeddings)
        return [self._padded(embedding, length) for embedding in embeddings]

    def unconditional(self, embedding: Tensor) -> Tensor:
        """Return the empty prompt's embedding, padded to the length of `embedding`."""
        return self._padded(self._empty, embedding.shape[1])

    def _padded(self, embedding: Tensor, length: int) -> Tensor:
        missing = (length - embedding.shape[1]) // self._empty.shape[1]
        return torch.cat([embedding, *[self._empty] * missing], dim=1)

    def _tokens(self, prompt: str) -> tuple[list[int], list[float]]:
        ids: list[int] = []
        weights: list[float] = []
        for span in parse("prompt", prompt):
            span_ids = self._tokenizer(span.text, add_special_tokens=False, verbose=False).input_ids
            ids += span_ids
            weights += [span.weight] * len(span_ids)
        return ids, weights

    @torch.inference_mode()
    def _embed(self, ids: list[int], weights: list[float]) -> Tensor:
        chunk = self._chunk_tokens
        begin, end, pad = (getattr(self._tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "pad"))
        rows, row_weights = [], []
        for start in range(0, max(len(ids), 1), chunk):
            part, part_weights = ids[start : start + chunk], weights[start : start + chunk]
            padding = chunk - len(part)
            rows.append([begin, *part, end, *[pad] * padding])
            row_weights.append([1.0, *part_weights, *[1.0] * (padding + 1)])

        device = self._text_encoder.device
        # One chunk at a time: a long prompt then needs no more memory than a short one.
        hidden = [self._text_encoder(torch.tensor([row], device=device))[0] for row in rows]
        embedding = torch.cat(hidden, dim=1).float()
        if all(weight == 1.0 for weight in weights):
            return embedding
        weighted = embedding * torch.tensor(row_weights, device=device).reshape(1, -1, 1)
        return weighted * _mean_ratio(embedding, weighted)


def _mean_ratio(before: Tensor, after: Tensor) -> float:
    """Return before's mean over after's; 1 where a mean is lost in the spread, and its ratio would be chance."""
    means = before.mean().item(), after.mean().item()
    if min(map(abs, means)) < MIN_MEAN * before.square().mean().sqrt().item():
        return 1.0
    return means[0] / means[1]
