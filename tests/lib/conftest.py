import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lib.diffusion.models import Models, assemble, load
from lib.errors import UserError
from lib.weights import SMALL

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    """Restore the number of threads: with two in each of two processes, tests take ten times as long."""
    count = torch.get_num_threads()
    yield
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


@pytest.fixture(scope="session")
def small_folder() -> Path:
    return SMALL / "riffusion"


@pytest.fixture(scope="session")
def models(small_folder: Path) -> Models:
    """The small model of riffusion that the repository includes."""
    return load(small_folder, CPU, torch.float32)


def tiny_models(dtype: torch.dtype = torch.float32) -> Models:
    """Build models that have every block of Stable Diffusion 1.x, and random weights: milliseconds an evaluation."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(SMALL / "riffusion" / "tokenizer", local_files_only=True)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 5,
        up_block_types=("UpDecoderBlock2D",) * 5,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    unet = UNet2DConditionModel(
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
        layers_per_block=1,
    )
    parts = {"text_encoder": CLIPTextModel(text), "vae": vae, "unet": unet}
    return assemble(tokenizer, parts, CPU, dtype)


@pytest.fixture(scope="session")
def tiny() -> Models:
    return tiny_models()


@pytest.fixture(scope="session")
def tiny_folder(tiny: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models as a folder in hub layout, with safetensors."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    shutil.copytree(SMALL / "riffusion" / "tokenizer", folder / "tokenizer")
    for part in ("text_encoder", "vae", "unet"):
        getattr(tiny, part).save_pretrained(folder / part)
    return folder


def assert_linear_time(parse: Callable[[str], object], short: str, long: str) -> None:
    """Check the processor time, errors included, for a text and for one that is four times as long."""

    def cpu_s(text: str) -> float:
        started_s = time.process_time()
        with suppress(UserError):
            parse(text)
        return time.process_time() - started_s

    # Quadratic time would be 16 times as much. The constant is for very short times.
    assert min(cpu_s(long) for _ in range(5)) < 9 * min(cpu_s(short) for _ in range(5)) + 0.003


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let writes fail midway, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def vae_name_of_2022(name: str) -> str:
    """Return the name that a VAE's attention weights had in 2022."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        name = name.replace(f"attentions.0.{new}", f"attentions.0.{old}")
    return name
