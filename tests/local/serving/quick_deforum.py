"""Deforum's predictor with 64x64 frames and one step per frame, so that the shortest documented run takes two seconds.

The prompt GREEDY allocates more memory than the machine has, as a run on a full GPU does.
"""

import torch
from torch import Tensor

import predict_deforum
from lib.deforum import Recipe

GREEDY = "more memory than there is"


class Predictor(predict_deforum.Predictor):
    """Deforum, small and quick."""

    recipe = Recipe(size_px=64, steps=10, strength=0.85)

    def setup(self) -> None:
        super().setup()
        greedy = self.models.tokenizer(GREEDY, padding="max_length", return_tensors="pt").input_ids

        def allocate(_encoder: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
            if torch.equal(args[0].cpu(), greedy):
                torch.empty(2**50)

        self.models.text_encoder.register_forward_pre_hook(allocate)
