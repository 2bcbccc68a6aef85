import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import RevisionNotFoundError

from lib import weights
from lib.diffusion.models import load
from lib.errors import UserError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own, empty weights folder, and no word about which weights to use."""
    monkeypatch.setenv("WEIGHTS_DIR", str(tmp_path))
    monkeypatch.delenv("WEIGHTS")
    return tmp_path


def as_downloaded(small_folder: Path, name: str, target: Path) -> None:
    """Lay out the small model's files under the names that the hub has for the full one's."""
    for file in weights.SOURCES[name].files:
        part, filename = file.split("/")
        source = small_folder / part / filename
        if not source.exists():
            source = next((small_folder / part).glob("*.safetensors"))
        (target / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / file)


def test_without_full_weights_the_small_model_is_taken_and_said(folder: Path, capsys) -> None:
    path = weights.ensure("riffusion")
    assert weights.kind(path) == "small"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "small" in said
    assert "script/weights riffusion gets the full ones" in said
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_the_small_model_is_built_once(folder: Path) -> None:
    first = weights.ensure("riffusion")
    made = (first / "unet" / "config.json").stat().st_mtime_ns
    assert weights.ensure("deforum") == first
    assert (first / "unet" / "config.json").stat().st_mtime_ns == made
    assert list(folder.iterdir()) == [first]


def test_full_weights_are_taken_when_they_are_there(folder: Path, small_folder: Path, capsys) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    path = weights.ensure("deforum")
    assert path == folder / "deforum"
    assert weights.kind(path) == "full"
    assert "full ones of CompVis/stable-diffusion-v1-4" in capsys.readouterr().out
    assert load(path, torch.device("cpu"), torch.float32).unet


def test_small_can_be_asked_for_though_the_full_ones_are_there(folder: Path, small_folder: Path, monkeypatch) -> None:
    as_downloaded(small_folder, "deforum", folder / "deforum")
    monkeypatch.setenv("WEIGHTS", "small")
    assert weights.kind(weights.ensure("deforum")) == "small"


def test_an_unknown_choice_is_refused(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("WEIGHTS", "big")
    with pytest.raises(UserError, match="WEIGHTS is 'big', but must be full, small or unset"):
        weights.ensure("riffusion")


def test_full_weights_without_a_network_are_one_clear_sentence(folder: Path, monkeypatch, capsys) -> None:
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


@pytest.fixture
def hub(small_folder: Path, monkeypatch) -> list[dict]:
    """Stand in for the one thing that is out of reach, the hub; returns the calls that it got."""
    calls: list[dict] = []

    def snapshot_download(repository: str, *, local_dir: Path, **options) -> None:
        calls.append({"repository": repository, **options})
        name = next(name for name, source in weights.SOURCES.items() if source.repository == repository)
        as_downloaded(small_folder, name, local_dir)
        (local_dir / ".cache").mkdir()

    monkeypatch.setattr(weights, "snapshot_download", snapshot_download)
    return calls


@pytest.mark.parametrize("name", weights.SOURCES)
def test_a_download_takes_only_what_is_used_at_the_pinned_revision(folder: Path, hub: list[dict], name: str) -> None:
    source = weights.SOURCES[name]
    assert weights.download(name) == folder / name
    assert hub == [{"repository": source.repository, "revision": source.revision, "allow_patterns": list(source.files)}]
    found = {str(path.relative_to(folder / name)) for path in (folder / name).rglob("*") if path.is_file()}
    assert found == set(source.files)
    assert weights.ensure(name) == folder / name


def test_a_revision_that_the_hub_does_not_know_is_said_and_main_taken(folder: Path, hub, monkeypatch, capsys) -> None:
    known = weights.snapshot_download

    def snapshot_download(repository: str, *, revision: str, **options) -> None:
        if revision != "main":
            raise RevisionNotFoundError.__new__(RevisionNotFoundError)  # its __init__ wants a response
        known(repository, revision=revision, **options)

    monkeypatch.setattr(weights, "snapshot_download", snapshot_download)
    weights.download("riffusion")
    assert "does not know revision 8f2e752c" in capsys.readouterr().out
    assert hub[0]["revision"] == "main"


def test_an_interrupted_download_is_kept_said_and_resumed(folder: Path, hub, monkeypatch, capsys) -> None:
    complete = weights.snapshot_download

    def interrupted(repository: str, *, local_dir: Path, **options) -> None:
        (local_dir / "unet").mkdir(parents=True)
        (local_dir / "unet" / "config.json").write_text("{}")
        raise OSError("No space left on device")

    monkeypatch.setattr(weights, "snapshot_download", interrupted)
    with pytest.raises(UserError, match=r"\(No space left on device\).*what has arrived is kept"):
        weights.download("riffusion")
    assert weights.kind(weights.ensure("riffusion")) == "small"
    assert "script/weights riffusion resumes the download of the full ones" in capsys.readouterr().out

    monkeypatch.setattr(weights, "snapshot_download", complete)
    assert weights.download("riffusion") == folder / "riffusion"
    assert not (folder / "riffusion.unfinished").exists()


def test_a_client_that_returns_an_unfinished_folder_is_not_believed(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(weights, "snapshot_download", lambda *_args, **_options: None)
    with pytest.raises(UserError, match=r"unet/config.json, .* did not arrive"):
        weights.download("deforum")
    assert not (folder / "deforum").exists()
