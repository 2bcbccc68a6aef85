"""Convert a UNet to OpenVINO's format: python -m bench.diffusion.openvino_ir FOLDER f32|bf16 [--small]."""

import sys
from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor, nn

from bench.diffusion.peers import OPENVINO_TYPES, Given, Weights


class Evaluation(nn.Module):
    """A UNet as a function from three tensors to one."""

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, latents: Tensor, timestep: Tensor, prompts: Tensor) -> Tensor:
        """Return epsilon."""
        epsilon: Tensor = self.unet(latents, timestep, encoder_hidden_states=prompts, return_dict=False)[0]
        return epsilon


@torch.no_grad()
def main() -> None:
    """Write unet.xml and unet.bin to the folder in float32. OpenVINO converts them to its own type later."""
    folder, name, *size = sys.argv[1:]
    (dtype,) = (dtype for dtype, its_name in OPENVINO_TYPES.items() if its_name == name)
    # A channels_last or bfloat16 model would silently be converted to one with different results.
    unet = Weights(bool(size), dtype).unet(torch.float32)
    given = Given.drawn(unet.config)
    example = (given.latents, torch.tensor(500), given.prompts)
    model = openvino.convert_model(
        Evaluation(unet).eval(), example_input=example, input=[list(tensor.shape) for tensor in example]
    )
    openvino.save_model(model, Path(folder) / "unet.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main()
