"""Deforum's own face on 64x64 frames and one step for each, so that the shortest documented run takes two seconds.

A prompt of its own asks the allocator for more than there is, as a run on a full GPU does.
"""

from collections.abc import Sequence

import torch

import lib.deforum
from lib.diffusion.prompt_weights import PromptEncoder
from predict_deforum import Predictor

__all__ = ["Predictor"]

lib.deforum.SIZE_PX = 64
lib.deforum.STEPS = 10
lib.deforum.FIRST_STEP = 9


class GreedyEncoder(PromptEncoder):
    def encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        if list(prompts) == ["more memory than there is"]:
            torch.empty(2**50)
        return super().encode(prompts)


setattr(lib.deforum, "PromptEncoder", GreedyEncoder)  # noqa: B010 - mypy knows it as what it was
