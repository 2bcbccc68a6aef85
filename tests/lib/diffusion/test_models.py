"""Load every layout of weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.diffusion.models import EPSILON, VELOCITY, Models, load, prediction_type
from lib.errors import UserError
from tests.lib.conftest import CPU, vae_name_of_2022

FILES = {
    "text_encoder": ("model.safetensors", "pytorch_model.bin"),
    "vae": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    "unet": ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
}


def assert_same_weights(a: Models, b: Models) -> None:
    for part in FILES:
        state_a, state_b = getattr(a, part).state_dict(), getattr(b, part).state_dict()
        assert state_a.keys() == state_b.keys()
        for name, value in state_a.items():
            assert torch.equal(value, state_b[name]), f"{part}: {name}"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_parts_are_ready_to_run_and_nothing_is_printed_while_loading(
    models: Models, tiny_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for loaded, channels in ((models, 8), (load(tiny_folder, CPU, torch.float32), 4)):
        for part in FILES:
            module = getattr(loaded, part)
            assert not module.training
            assert not any(parameter.requires_grad for parameter in module.parameters())
        assert loaded.latent_shape(512, 512) == (1, channels, 32, 32)
    assert capfd.readouterr() == ("", "")
    assert models.prediction_type == VELOCITY  # of the small models


def test_the_unet_and_vae_run_in_the_given_type_and_the_text_encoder_in_float32(tiny_folder: Path) -> None:
    models = load(tiny_folder, CPU, torch.bfloat16)
    assert models.unet.dtype == models.vae.dtype == torch.bfloat16
    assert models.text_encoder.dtype == torch.float32


def test_bin_files_in_the_layout_of_2022_have_identical_weights(tiny: Models, folder: Path) -> None:
    for part, (safetensors, bin_file) in FILES.items():
        state = load_file(folder / part / safetensors)
        if part == "vae":
            state = {vae_name_of_2022(name): value for name, value in state.items()}
        if part == "text_encoder":  # its names had a prefix, and there was one more buffer
            state = {f"text_model.{name}": value for name, value in state.items()}
            state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        (folder / part / safetensors).unlink()
        torch.save(state, folder / part / bin_file)
    assert_same_weights(load(folder, CPU, torch.float32), tiny)


def test_the_fp16_variant_is_loaded(tiny: Models, folder: Path) -> None:
    for part, (safetensors, _) in FILES.items():
        path = folder / part / safetensors
        halves = {name: value.half() for name, value in load_file(path).items()}
        path.unlink()
        save_file(halves, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    loaded = load(folder, CPU, torch.float32)
    weight, expected = loaded.unet.conv_in.weight, tiny.unet.conv_in.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, expected.half().float())


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damaged_weights_are_a_user_error_of_one_line(folder: Path, part: str, damage: str) -> None:
    path = folder / part / FILES[part][0]
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\0" * 1000)
    with pytest.raises(UserError) as error:
        load(folder, CPU, torch.float32)
    assert str(error.value).startswith(f"Can't load the weights in {folder} (")
    assert "Delete that folder, then run script/weights or restart the container" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_damaged_tokenizer_is_a_user_error(folder: Path) -> None:
    (folder / "tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(UserError, match="Can't load the weights"):
        load(folder, CPU, torch.float32)


@pytest.mark.parametrize(
    ("text", "expected"), [("{}", EPSILON), *((json.dumps({"prediction_type": p}), p) for p in (EPSILON, VELOCITY))]
)
def test_the_schedulers_configuration_tells_what_the_unet_predicts(tmp_path: Path, text: str, expected: str) -> None:
    assert prediction_type(tmp_path) == EPSILON  # without a file
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(text)
    assert prediction_type(tmp_path) == expected


def test_a_unet_that_predicts_anything_else_is_a_user_error(folder: Path) -> None:
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "sample"}')
    with pytest.raises(UserError) as refused:
        load(folder, CPU, torch.float32)
    assert str(refused.value) == (
        f"Can't use the weights in {folder}: prediction_type in scheduler/scheduler_config.json is 'sample', but "
        "must be 'epsilon' or 'v_prediction'."
    )
