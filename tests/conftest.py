from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lib.diffusion.models import Models, load
from lib.weights import SMALL


@pytest.fixture(scope="session", autouse=True)
def no_network_and_own_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep every test away from the hub and from the weights that a developer may have."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # its variable was read at the import
        patch.setenv("WEIGHTS", "small")
        patch.setenv("WEIGHTS_DIR", str(tmp_path_factory.mktemp("weights")))
        yield


@pytest.fixture(scope="session")
def small_folder() -> Path:
    return SMALL / "riffusion"


@pytest.fixture(scope="session")
def models(small_folder: Path) -> Models:
    return load(small_folder, torch.device("cpu"), torch.float32)


def vae_name_of_2022(name: str) -> str:
    """Return the name that a VAE's attention weights had in 2022."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f"attentions.0.{new}", f"attentions.0.{old}")
    return name
