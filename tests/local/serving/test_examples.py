"""The programs in examples/cog-server work as they are."""

import shutil
import subprocess
import sys
from pathlib import Path

import av
import pytest
import soundfile
from PIL import Image

from local import ROOT
from tests.local.serving.client import Client
from tests.waiting import HANG_S

EXAMPLES = ROOT / "examples" / "cog-server"
NODE = shutil.which("node") or str(Path(sys.executable).with_name("node"))
CLIPS = {"curl": ["bash", "clip.sh"], "Python": [sys.executable, "clip.py"], "JavaScript": [NODE, "clip.mjs"]}


def run(folder: Path, program: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of the examples in a given folder."""
    command = [program[0], str(EXAMPLES / program[1]), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=HANG_S, check=False)


@pytest.mark.parametrize("language", CLIPS)
def test_a_clip_is_made(riffusion: Client, tmp_path: Path, language: str) -> None:
    ended = run(tmp_path, CLIPS[language], riffusion.server.url, 'slow "church bells"')
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Wrote audio.wav\nWrote spectrogram.png\n"
    assert soundfile.info(tmp_path / "audio.wav").duration == pytest.approx(5.11, abs=0.01)
    with Image.open(tmp_path / "spectrogram.png") as picture:
        assert picture.text["prompt_a"] == 'slow "church bells"'  # type: ignore[attr-defined]


@pytest.mark.parametrize("language", CLIPS)
def test_a_rejected_prompt_is_reported(riffusion: Client, tmp_path: Path, language: str) -> None:
    ended = run(tmp_path, CLIPS[language], riffusion.server.url, "(bells:101)")
    assert ended.returncode == 1
    assert "the weight of 'bells' is 101" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_animation_reports_its_progress(deforum: Client, tmp_path: Path) -> None:
    ended = run(tmp_path, [sys.executable, "film.py"], deforum.server.url, "the sea | 50: a night sky", "sampler=euler")
    assert ended.returncode == 0, ended.stderr
    *progress, last = ended.stdout.splitlines()
    assert last == "Wrote animation.mp4"
    assert all(line.split()[1:2] == ["%,"] for line in progress)
    with av.open(tmp_path / "animation.mp4") as container:
        assert container.streams.video[0].frames == 100
