from pathlib import Path

import pytest

from lib.outputs import Outputs, whole


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outputs:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Outputs("riffusion")


def test_a_run_gets_an_empty_folder_that_stays(outputs: Outputs, tmp_path: Path) -> None:
    with outputs.fresh() as folder:
        (folder / "audio.wav").write_bytes(b"sound")
    assert (folder / "audio.wav").read_bytes() == b"sound"
    assert list(tmp_path.iterdir()) == [folder]


def test_the_next_run_deletes_the_last_ones_files(outputs: Outputs, tmp_path: Path) -> None:
    for _ in range(3):
        with outputs.fresh() as folder:
            (folder / "audio.wav").touch()
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failed_or_cancelled_run_leaves_nothing(outputs: Outputs, tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), outputs.fresh() as folder:
        (folder / "audio.wav").touch()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_files_that_someone_took_away_do_no_harm(outputs: Outputs) -> None:
    with outputs.fresh() as folder:
        pass
    folder.rmdir()
    with outputs.fresh() as folder:
        pass
    assert folder.exists()


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    with whole(tmp_path / "clip.wav") as unfinished:
        unfinished.write_bytes(b"half")
        assert (unfinished.parent, unfinished.suffix) == (tmp_path, ".wav")
        assert not (tmp_path / "clip.wav").exists()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"half")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_what_fails_on_the_way_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "clip.wav").write_bytes(b"earlier")
    with pytest.raises(error), whole(tmp_path / "clip.wav") as unfinished:
        unfinished.write_bytes(b"half")
        raise error
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"earlier")]


def test_two_may_write_the_same_file(tmp_path: Path) -> None:
    with whole(tmp_path / "clip.wav") as first, whole(tmp_path / "clip.wav") as second:
        second.write_bytes(b"second")
        first.write_bytes(b"first")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("clip.wav", b"first")]
