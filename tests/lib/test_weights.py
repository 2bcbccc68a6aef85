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
from tests.lib.conftest import vae_name_of_2022


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own, empty weights folder, and no word about which weights to use."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.delenv("WEIGHTS")
    return tmp_path


def as_downloaded(small_folder: Path, name: str, target: Path, files: Sequence[str] = ()) -> None:
    """Lay out the small model's files, all unless given, under the names that the hub has for the full one's."""
    for file in files or weights.SOURCES[name].files:
        part, filename = file.split("/")
        source = small_folder / part / filename
        if not source.exists():
            source = next((small_folder / part).glob("*.safetensors"))
        (target / part).mkdir(parents=True, exist_ok=True)
        if filename.endswith(".bin"):
            torch.save(as_in_2022(load_file(source)), target / file)
        else:
            shutil.copy(source, target / file)


def as_in_2022(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights in float32, with digits that float16 can't hold."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: value.float() * (1 + torch.rand(value.shape, generator=generator) / 1000) for name, value in state.items()
    }


def test_without_full_weights_the_small_model_is_taken_and_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = weights.ensure("riffusion")
    assert weights.kind(path) == "small"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "small" in said
    assert "script/weights riffusion gets the full ones" in said
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_each_model_has_small_weights_of_its_own_and_nothing_is_written(folder: Path) -> None:
    small = {name: weights.ensure(name) for name in weights.SOURCES}
    assert small == {name: weights.SMALL / name for name in weights.SOURCES}
    assert not folder.exists() or list(folder.iterdir()) == []


def test_full_weights_are_taken_when_they_are_there(
    folder: Path, small_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    path = weights.ensure("deforum")
    assert path == folder / "deforum"
    assert weights.kind(path) == "full"
    assert "full ones of CompVis/stable-diffusion-v1-4" in capsys.readouterr().out
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_small_can_be_asked_for_though_the_full_ones_are_there(
    folder: Path, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    monkeypatch.setenv("WEIGHTS", "small")
    assert weights.kind(weights.ensure("deforum")) == "small"


def test_an_unknown_choice_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "big")
    with pytest.raises(UserError, match="WEIGHTS is 'big', but must be full, small or unset"):
        weights.ensure("riffusion")


def test_full_weights_without_a_network_are_one_clear_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIGHTS", "full")
    with pytest.raises(UserError, match=r"riffusion weights can't be downloaded .*Check the network") as error:
        weights.ensure("riffusion")
    assert "\n" not in str(error.value)
    assert "script/weights riffusion" in str(error.value)
    assert not (folder / "riffusion").exists()


def test_incomplete_weights_are_one_clear_sentence(folder: Path, small_folder: Path) -> None:
    as_downloaded(small_folder, "riffusion", folder / "riffusion")
    (folder / "riffusion/vae/diffusion_pytorch_model.bin").unlink()
    (folder / "riffusion/tokenizer/merges.txt").unlink()
    with pytest.raises(UserError, match=r"not complete \(tokenizer/merges.txt, vae/\S+ missing\)\. Delete"):
        weights.ensure("riffusion")


@contextmanager
def another_user() -> Iterator[None]:
    """Run as a user whom permissions bind: root as nobody, everyone else as themselves."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared_folder(small_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Lay out weights where every user may look: pytest's own folders are closed."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        as_downloaded(small_folder, "deforum", Path(name) / "deforum")
        monkeypatch.setenv("WEIGHTS_DIR", name)
        monkeypatch.setenv("WEIGHTS", "full")
        yield Path(name) / "deforum"


@pytest.mark.parametrize("closed", ["", "unet", "unet/diffusion_pytorch_model.fp16.safetensors", ".."])
def test_weights_that_may_not_be_read_are_no_reason_to_download_them_again(shared_folder: Path, closed: str) -> None:
    path = Path(os.path.normpath(shared_folder / closed))
    path.chmod(0)
    with another_user(), pytest.raises(UserError) as error:
        weights.ensure("deforum")
    path.chmod(0o755)
    assert re.fullmatch(
        rf"The weights can't be read: {path} is closed to the user who runs this\. Its owner can open it with "
        rf"chmod a\+r?[xX] {path}; WEIGHTS=small does without\.",
        str(error.value),
    )
    with another_user():
        assert weights.ensure("deforum") == shared_folder


class Hub:
    """Stand in for the one thing that is out of reach, the hub; `calls` are those that it got."""

    def __init__(self, small_folder: Path) -> None:
        self.small_folder = small_folder
        self.calls: list[dict[str, object]] = []
        self.knows_only_main = False
        self.damages = ""  # a file that arrives broken
        self.stops_at = ""  # a file whose download fails

    def __call__(self, repository: str, *, revision: str, allow_patterns: Sequence[str], local_dir: Path) -> None:
        if self.knows_only_main and revision != "main":
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)  # its __init__ wants a response
        self.calls.append({"repository": repository, "revision": revision, "allow_patterns": allow_patterns})
        name = next(name for name, source in weights.SOURCES.items() if source.repository == repository)
        for file in allow_patterns:
            if file == self.stops_at:
                raise OSError("No space left on device")
            as_downloaded(self.small_folder, name, local_dir, [file])
            if file == self.damages:
                (local_dir / file).write_bytes((local_dir / file).read_bytes()[:1000])
        (local_dir / ".cache").mkdir(exist_ok=True)


@pytest.fixture
def hub(small_folder: Path) -> Hub:
    return Hub(small_folder)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def converted_files(name: str) -> set[str]:
    return {weights.CONVERTED.get(file, file) for file in weights.SOURCES[name].files}


@pytest.mark.parametrize("name", weights.SOURCES)
def test_a_download_takes_only_what_is_used_at_the_pinned_revision(folder: Path, hub: Hub, name: str) -> None:
    source = weights.SOURCES[name]
    assert weights.download(name, hub) == folder / name
    call = {"repository": source.repository, "revision": source.revision, "allow_patterns": list(source.files)}
    assert hub.calls == [call]
    assert files_in(folder / name) == converted_files(name)
    assert weights.ensure(name) == folder / name


def test_a_revision_that_the_hub_does_not_know_is_said_and_main_taken(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.knows_only_main = True
    weights.download("riffusion", hub)
    assert "does not know revision 8f2e752c" in capsys.readouterr().out
    assert hub.calls[0]["revision"] == "main"


def test_an_interrupted_download_is_kept_said_and_resumed(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.stops_at = "unet/config.json"
    with pytest.raises(UserError, match=r"\(No space left on device\).*what has arrived is kept"):
        weights.download("riffusion", hub)
    assert weights.kind(weights.ensure("riffusion")) == "small"
    assert "script/weights riffusion resumes the download of the full ones" in capsys.readouterr().out

    hub.stops_at = ""
    assert weights.download("riffusion", hub) == folder / "riffusion"
    assert not (folder / "riffusion.unfinished").exists()


def test_a_client_that_returns_an_unfinished_folder_is_not_believed(folder: Path) -> None:
    with pytest.raises(UserError, match=r"unet/config.json, .* did not arrive"):
        weights.download("deforum", lambda *_args, **_options: None)
    assert not (folder / "deforum").exists()


CPU = torch.device("cpu")
# What rounding to float16 on the way costs: nothing, half a step of its own, or at most one of bfloat16's.
TOLERANCES = {torch.float16: 0.0, torch.float32: 2**-11, torch.bfloat16: 2**-7}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_converted_weights_are_those_of_the_old_files(
    folder: Path, hub: Hub, small_folder: Path, dtype: torch.dtype
) -> None:
    as_downloaded(small_folder, "riffusion", folder / "old")
    old, new = load(folder / "old", CPU, dtype), load(weights.download("riffusion", hub), CPU, dtype)
    for part, tolerance in {"text_encoder": 0.0, "vae": TOLERANCES[dtype], "unet": TOLERANCES[dtype]}.items():
        expected, state = getattr(old, part).state_dict(), getattr(new, part).state_dict()
        assert state.keys() == expected.keys()
        for name, value in state.items():
            assert value.dtype == expected[name].dtype
            smallest = 2**-24 if tolerance else 0.0
            torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=smallest)


def test_the_converted_unet_and_vae_are_half_as_big(folder: Path, hub: Hub, small_folder: Path) -> None:
    as_downloaded(small_folder, "riffusion", folder / "old")
    weights.download("riffusion", hub)
    for old, new in weights.CONVERTED.items():
        state, expected = load_file(folder / "riffusion" / new), torch.load(folder / "old" / old)
        wanted = torch.float32 if old.startswith("text_encoder") else torch.float16
        assert {value.dtype for value in state.values()} == {wanted}
        assert state.keys() == expected.keys()


def test_a_vae_with_the_names_of_2022_is_converted_and_loads(folder: Path, small_folder: Path) -> None:
    vae = AutoencoderKL(block_out_channels=(4,), norm_num_groups=2)
    as_downloaded(small_folder, "riffusion", folder / "riffusion")
    vae.save_config(folder / "riffusion" / "vae")
    state = {vae_name_of_2022(name): value for name, value in vae.state_dict().items()}
    assert state.keys() != vae.state_dict().keys()
    torch.save(state, folder / "riffusion" / "vae" / "diffusion_pytorch_model.bin")
    weights.convert(folder / "riffusion")
    loaded = load(folder / "riffusion", CPU, torch.float32).vae.state_dict()
    for name, value in vae.state_dict().items():
        assert torch.equal(loaded[name], value.half().float())


def test_an_old_file_that_is_broken_is_one_clear_sentence_and_the_rest_goes_on_where_it_was(
    folder: Path, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.damages = "unet/diffusion_pytorch_model.bin"
    with pytest.raises(
        UserError, match=r"unet/diffusion_pytorch_model.bin can't be converted \(.*delete that file"
    ) as error:
        weights.download("riffusion", hub)
    assert "\n" not in str(error.value)
    assert not (folder / "riffusion").exists()
    unfinished = folder / "riffusion.unfinished"
    assert not (unfinished / "vae" / "diffusion_pytorch_model.bin").exists()
    (unfinished / hub.damages).unlink()
    (unfinished / "unet" / ".0123.unfinished.safetensors").write_bytes(b"half of it, by a run that was killed")
    capsys.readouterr()

    hub.damages = ""
    assert weights.download("riffusion", hub) == folder / "riffusion"
    said = capsys.readouterr().out
    assert "Converting unet/diffusion_pytorch_model.bin" in said
    assert "Converting vae" not in said
    assert "vae/diffusion_pytorch_model.bin" not in str(hub.calls[-1]["allow_patterns"])
    assert files_in(folder / "riffusion") == converted_files("riffusion")
    assert load(folder / "riffusion", CPU, torch.float32).unet
