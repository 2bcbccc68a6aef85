import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub.errors import RevisionNotFoundError
from safetensors.torch import load_file

from lib import weights
from lib.diffusion.models import load
from lib.errors import UserError
from tests.lib.conftest import CPU, vae_name_of_2022


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty weights folder, with WEIGHTS unset."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.delenv("WEIGHTS")
    return tmp_path


def as_downloaded(tiny_folder: Path, name: str, target: Path, files: Sequence[str] = ()) -> None:
    """Copy the tiny model's files, by default all, under the names that the full model's have on the hub."""
    for file in files or weights.SOURCES[name].files:
        part, filename = file.split("/")
        source = tiny_folder / part / filename
        if not source.exists():
            source = next((tiny_folder / part).glob("*.safetensors"))
        (target / part).mkdir(parents=True, exist_ok=True)
        if filename.endswith(".bin"):
            torch.save(as_in_2022(load_file(source)), target / file)
        else:
            shutil.copyfile(source, target / file)  # not its mode: safetensors writes files for their owner only


def as_in_2022(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights in float32 with digits that float16 can't hold."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: value.float() * (1 + torch.rand(value.shape, generator=generator) / 1000) for name, value in state.items()
    }


def test_without_full_weights_the_small_model_is_used_which_is_logged(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = weights.ensure("riffusion")
    assert path == weights.SMALL / "riffusion"
    assert weights.kind(path) == "small"
    assert list(folder.iterdir()) == []
    assert capsys.readouterr().out == (
        "Using the small model. To download the full weights, run script/weights riffusion.\n"
    )
    assert load(path, CPU, torch.float32).unet


def test_full_weights_are_used_when_they_exist_unless_the_small_model_is_selected(
    folder: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_downloaded(tiny_folder, "deforum", folder / "deforum")
    path = weights.ensure("deforum")
    assert path == folder / "deforum"
    assert weights.kind(path) == "full"
    assert "Using the full weights of CompVis/stable-diffusion-v1-4 in " in capsys.readouterr().out
    assert load(path, CPU, torch.float32).unet
    monkeypatch.setenv("WEIGHTS", "small")
    assert weights.kind(weights.ensure("deforum")) == "small"
    monkeypatch.setenv("WEIGHTS", "big")
    with pytest.raises(UserError, match="WEIGHTS is 'big', but must be full, small or unset"):
        weights.ensure("riffusion")


def test_a_download_without_a_network_is_a_user_error_of_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEIGHTS", "full")
    with pytest.raises(UserError, match=r"^Can't download the riffusion weights .*Check the network") as error:
        weights.ensure("riffusion")
    assert "\n" not in str(error.value)
    assert "script/weights riffusion" in str(error.value)
    assert not (folder / "riffusion").exists()


def test_incomplete_weights_are_a_user_error(folder: Path, tiny_folder: Path) -> None:
    as_downloaded(tiny_folder, "riffusion", folder / "riffusion")
    (folder / "riffusion/vae/diffusion_pytorch_model.bin").unlink()
    (folder / "riffusion/tokenizer/merges.txt").unlink()
    with pytest.raises(UserError, match=r"incomplete \(tokenizer/merges.txt, vae/\S+ missing\)\. Delete"):
        weights.ensure("riffusion")


@contextmanager
def another_user() -> Iterator[None]:
    """Run as a user to whom permissions apply: instead of root, as nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_folder(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Create weights in a folder that every user may read, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        as_downloaded(tiny_folder, "deforum", Path(name) / "deforum")
        monkeypatch.setenv("WEIGHTS_DIR", name)
        monkeypatch.setenv("WEIGHTS", "full")
        yield Path(name) / "deforum"


@pytest.mark.parametrize("closed", ["", "unet", "unet/diffusion_pytorch_model.fp16.safetensors", ".."])
def test_unreadable_weights_are_a_user_error_and_not_downloaded_again(shared_folder: Path, closed: str) -> None:
    path = Path(os.path.normpath(shared_folder / closed))
    path.chmod(0)
    with another_user(), pytest.raises(UserError) as error:
        weights.ensure("deforum")
    path.chmod(0o755)
    assert re.fullmatch(
        rf"Can't read the weights: permission denied for {path}\. Its owner can grant it with chmod a\+r?[xX] {path}\. "
        r"WEIGHTS=small uses the small model instead\.",
        str(error.value),
    )
    with another_user():
        assert weights.ensure("deforum") == shared_folder


class Hub:
    """A substitute for the Hugging Face hub, which tests can't reach. It records the calls."""

    def __init__(self, tiny_folder: Path) -> None:
        self.tiny_folder = tiny_folder
        self.calls: list[dict[str, object]] = []
        self.knows_only_main = False
        self.damages = ""  # a file that arrives damaged
        self.stops_at = ""  # a file whose download fails

    def __call__(self, repository: str, *, revision: str, allow_patterns: Sequence[str], local_dir: Path) -> None:
        if self.knows_only_main and revision != "main":
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)  # its __init__ requires a response
        self.calls.append({"repository": repository, "revision": revision, "allow_patterns": allow_patterns})
        name = next(name for name, source in weights.SOURCES.items() if source.repository == repository)
        for file in allow_patterns:
            if file == self.stops_at:
                raise OSError("No space left on device")
            as_downloaded(self.tiny_folder, name, local_dir, [file])
            if file == self.damages:
                (local_dir / file).write_bytes((local_dir / file).read_bytes()[:1000])
        (local_dir / ".cache").mkdir(exist_ok=True)


@pytest.fixture
def hub(tiny_folder: Path) -> Hub:
    return Hub(tiny_folder)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def converted_files(name: str) -> set[str]:
    return {weights.CONVERTED.get(file, file) for file in weights.SOURCES[name].files}


@pytest.mark.parametrize("name", weights.SOURCES)
def test_a_download_has_only_the_files_that_are_used_at_the_pinned_revision(folder: Path, hub: Hub, name: str) -> None:
    source = weights.SOURCES[name]
    assert weights.download(name, hub) == folder / name
    call = {"repository": source.repository, "revision": source.revision, "allow_patterns": list(source.files)}
    assert hub.calls == [call]
    assert files_in(folder / name) == converted_files(name)
    assert weights.ensure(name) == folder / name


def test_main_is_used_if_the_revision_is_gone_which_is_logged(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.knows_only_main = True
    weights.download("riffusion", hub)
    assert "The hub has no revision 8f2e752c" in capsys.readouterr().out
    assert hub.calls[0]["revision"] == "main"


def test_an_interrupted_download_is_kept_and_resumed(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.stops_at = "unet/config.json"
    with pytest.raises(UserError, match=r"\(No space left on device\).*files that have arrived are kept"):
        weights.download("riffusion", hub)
    assert weights.kind(weights.ensure("riffusion")) == "small"
    assert "To resume the download of the full weights, run script/weights riffusion." in capsys.readouterr().out

    hub.stops_at = ""
    assert weights.download("riffusion", hub) == folder / "riffusion"
    assert not (folder / "riffusion.unfinished").exists()


def test_a_download_that_ends_without_all_files_is_a_user_error(folder: Path) -> None:
    with pytest.raises(UserError, match=r"unet/config.json, .* missing\)"):
        weights.download("deforum", lambda *_args, **_options: None)
    assert not (folder / "deforum").exists()


# The relative error of rounding to float16 first: none, half a unit in its last place, or one in that of bfloat16.
TOLERANCES = {torch.float16: 0.0, torch.float32: 2**-11, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_converted_weights_equal_those_of_the_old_files(
    folder: Path, hub: Hub, tiny_folder: Path, dtype: torch.dtype
) -> None:
    as_downloaded(tiny_folder, "riffusion", folder / "old")
    old, new = load(folder / "old", CPU, dtype), load(weights.download("riffusion", hub), CPU, dtype)
    for file in weights.CONVERTED.values():
        stored = {value.dtype for value in load_file(folder / "riffusion" / file).values()}
        assert stored == {torch.float32 if file.startswith("text_encoder") else torch.float16}
    for part, tolerance in {"text_encoder": 0.0, "vae": TOLERANCES[dtype], "unet": TOLERANCES[dtype]}.items():
        expected, state = getattr(old, part).state_dict(), getattr(new, part).state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            assert value.dtype == expected[name].dtype
            smallest = 2**-24 if tolerance else 0.0
            torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=smallest)


def test_a_vae_with_the_names_of_2022_is_converted_and_loaded(folder: Path, tiny_folder: Path) -> None:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
    as_downloaded(tiny_folder, "riffusion", folder / "riffusion")
    vae.save_config(folder / "riffusion" / "vae")
    state = {vae_name_of_2022(name): value for name, value in vae.state_dict().items()}
    assert state.keys() != vae.state_dict().keys()
    torch.save(state, folder / "riffusion" / "vae" / "diffusion_pytorch_model.bin")
    weights.convert(folder / "riffusion")
    loaded = load(folder / "riffusion", CPU, torch.float32).vae.state_dict()
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


def test_a_damaged_old_file_is_a_user_error_and_the_next_attempt_continues(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.damages = "unet/diffusion_pytorch_model.bin"
    with pytest.raises(
        UserError, match=r"Can't convert .*unet/diffusion_pytorch_model.bin \(.*delete the file"
    ) as error:
        weights.download("riffusion", hub)
    assert "\n" not in str(error.value)
    assert not (folder / "riffusion").exists()
    unfinished = folder / "riffusion.unfinished"
    assert not (unfinished / "vae" / "diffusion_pytorch_model.bin").exists()
    (unfinished / hub.damages).unlink()
    (unfinished / "unet" / ".0123.unfinished.safetensors").write_bytes(b"half of it, from a run that was killed")
    capsys.readouterr()

    hub.damages = ""
    assert weights.download("riffusion", hub) == folder / "riffusion"
    said = capsys.readouterr().out
    assert "Converting unet/diffusion_pytorch_model.bin" in said
    assert "Converting vae" not in said
    assert "vae/diffusion_pytorch_model.bin" not in str(hub.calls[-1]["allow_patterns"])
    assert files_in(folder / "riffusion") == converted_files("riffusion")
    assert load(folder / "riffusion", CPU, torch.float32).unet
