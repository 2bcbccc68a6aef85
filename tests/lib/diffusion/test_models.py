"""Loading from every layout that weights come in, with parts of the real classes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lib.diffusion.models import EPSILON, VELOCITY, Models, load, prediction_type
from lib.errors import UserError
from tests.lib.conftest import vae_name_of_2022

CPU = torch.device("cpu")
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
def folder(small_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_folder, tmp_path / "model"))


def test_parts_are_ready_to_run(models: Models) -> None:
    for part in FILES:
        module = getattr(models, part)
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())
    assert models.latent_shape(512, 512) == (1, 8, 32, 32)


def test_the_unet_and_vae_run_in_the_given_type_and_the_text_encoder_in_float32(small_folder: Path) -> None:
    models = load(small_folder, CPU, torch.bfloat16)
    assert models.unet.dtype == models.vae.dtype == torch.bfloat16
    assert models.text_encoder.dtype == torch.float32


def test_bin_files_in_the_layout_of_2022_load_with_identical_weights(models: Models, folder: Path) -> None:
    for part, (safetensors, bin_file) in FILES.items():
        state = load_file(folder / part / safetensors)
        if part == "vae":
            state = {vae_name_of_2022(name): value for name, value in state.items()}
        if part == "text_encoder":  # its names had a prefix, and there was a buffer more
            state = {f"text_model.{name}": value for name, value in state.items()}
            state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        (folder / part / safetensors).unlink()
        torch.save(state, folder / part / bin_file)
    assert_same_weights(load(folder, CPU, torch.float32), models)


def test_the_fp16_variant_loads(models: Models, folder: Path) -> None:
    for part, (safetensors, _) in FILES.items():
        path = folder / part / safetensors
        halves = {name: value.half() for name, value in load_file(path).items()}
        path.unlink()
        save_file(halves, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    loaded = load(folder, CPU, torch.float32)
    weight, expected = loaded.unet.conv_in.weight, models.unet.conv_in.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, expected.half().float())


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("harm", ["missing", "cut", "garbage"])
def test_broken_weights_are_one_clear_sentence(folder: Path, part: str, harm: str) -> None:
    path = folder / part / FILES[part][0]
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if harm == "cut" else b"\0" * 1000)
    with pytest.raises(UserError, match=r"can't be loaded .*Delete that folder and download it again") as error:
        load(folder, CPU, torch.float32)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_tokenizer_is_one_clear_sentence(folder: Path) -> None:
    (folder / "tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(UserError, match="can't be loaded"):
        load(folder, CPU, torch.float32)


def test_nothing_is_said_while_loading(small_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(small_folder, CPU, torch.float32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("text", "expected"), [("{}", EPSILON), *((json.dumps({"prediction_type": p}), p) for p in (EPSILON, VELOCITY))]
)
def test_the_schedulers_file_says_what_the_unet_predicts(tmp_path: Path, text: str, expected: str) -> None:
    assert prediction_type(tmp_path) == EPSILON  # without a file
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(text)
    assert prediction_type(tmp_path) == expected


def test_the_small_models_predict_velocities(models: Models) -> None:
    assert models.prediction_type == VELOCITY


def test_weights_that_predict_anything_else_are_refused_in_a_sentence(folder: Path) -> None:
    (folder / "scheduler" / "scheduler_config.json").write_text('{"prediction_type": "sample"}')
    with pytest.raises(UserError) as refused:
        load(folder, CPU, torch.float32)
    assert str(refused.value) == (
        f"The weights in {folder} can't be used: scheduler/scheduler_config.json has the prediction_type 'sample', but "
        "must have 'epsilon' or 'v_prediction'."
    )
