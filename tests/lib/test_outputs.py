from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.animation.video import write_mp4
from lib.errors import UserError
from lib.outputs import Outputs, whole
from tests.lib.conftest import files_of_at_most


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Outputs("riffusion")


def test_a_run_gets_an_empty_folder_that_stays(outputs: Outputs, tmp_path: Path) -> None:
    with outputs.fresh() as folder:
        (folder / "audio.wav").write_bytes(b"sound")
    assert (folder / "audio.wav").read_bytes() == b"sound"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_next_run_deletes_the_files_of_the_last_one(outputs: Outputs, tmp_path: Path) -> None:
    for _ in range(3):
        with outputs.fresh() as folder:
            (folder / "audio.wav").touch()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_or_cancelled_run_leaves_no_files(
    outputs: Outputs, tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error), outputs.fresh() as folder:
        (folder / "audio.wav").touch()
        raise error
    assert list(tmp_path.iterdir()) == []


def write_video(path: Path) -> None:
    generator = np.random.default_rng(0)
    frames = (generator.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(20))
    write_mp4(path, frames, 15, {})


@pytest.mark.parametrize("write", [write_video, lambda path: path.write_bytes(bytes(10_000))], ids=["mp4", "file"])
def test_a_full_disk_is_a_user_error(outputs: Outputs, tmp_path: Path, write: Callable[[Path], object]) -> None:
    with files_of_at_most(1000), pytest.raises(UserError) as error, outputs.fresh() as folder:
        write(folder / "file.mp4")
    assert str(error.value) == (
        f"Can't write files to {tmp_path}: File too large. Free up space there, or set TMPDIR to another folder."
    )
    assert list(tmp_path.iterdir()) == []


def test_other_system_errors_are_raised_unchanged(outputs: Outputs) -> None:
    with pytest.raises(FileNotFoundError), outputs.fresh() as folder:
        (folder / "missing" / "file").touch()


def test_the_last_runs_folder_may_have_been_deleted(outputs: Outputs) -> None:
    with outputs.fresh() as folder:
        pass
    folder.rmdir()
    with outputs.fresh() as folder:
        pass
    assert folder.exists()


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    with whole(tmp_path / "clip.wav") as unfinished:
        unfinished.write_bytes(b"half")
        assert (unfinished.parent, unfinished.suffix) == (tmp_path, ".wav")
        assert not (tmp_path / "clip.wav").exists()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"half")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_a_failed_write_keeps_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "clip.wav").write_bytes(b"earlier")
    with pytest.raises(error), whole(tmp_path / "clip.wav") as unfinished:
        unfinished.write_bytes(b"half")
        raise error
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"earlier")]


def test_two_writers_of_the_same_file_do_not_interfere(tmp_path: Path) -> None:
    with whole(tmp_path / "clip.wav") as first, whole(tmp_path / "clip.wav") as second:
        second.write_bytes(b"second")
        first.write_bytes(b"first")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"first")]
