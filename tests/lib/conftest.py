from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lib.diffusion.models import Models, load
from lib.weights import SMALL


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """Undo what a test does to the number of threads: two, in each of two processes, take ten times as long."""
    count = torch.get_num_threads()
    yield
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


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
