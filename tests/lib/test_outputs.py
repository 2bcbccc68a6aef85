from pathlib import Path

import pytest

from lib.outputs import Outputs


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
