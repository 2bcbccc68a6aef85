"""The commands of the README, run as a person runs them."""

import subprocess
from pathlib import Path

import pytest
import soundfile
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "script" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_predict_writes_its_files_and_says_where(tmp_path: Path) -> None:
    ended = script("predict", "riffusion", "-i", "prompt_a=church bells", "-i", "num_inference_steps=2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in (tmp_path / "out" / "riffusion").iterdir()) == ["audio.wav", "spectrogram.png"]
    assert soundfile.info(tmp_path / "out/riffusion/audio.wav").duration == pytest.approx(5.11, abs=0.001)
    with Image.open(tmp_path / "out/riffusion/spectrogram.png") as picture:
        assert picture.text["prompt_a"] == "church bells"
        assert picture.text["num_inference_steps"] == "2"
        assert picture.text["alpha"] == "0.5"
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("Weights: the small model")
    assert any(line.startswith("100%|") for line in lines)
    assert lines[-2:] == ["Wrote out/riffusion/audio.wav", "Wrote out/riffusion/spectrogram.png"]
    assert ended.stderr == ""


def test_predict_says_every_mistake_before_it_loads_anything(tmp_path: Path) -> None:
    ended = script("predict", "deforum", "-i", "zoom=0:(foo)", "-i", "fps=2.5", "-i", "seed=x", "-o", tmp_path / "new")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "fps is 2.5, but must be a whole number from 10 to 60" in ended.stderr
    assert "zoom, keyframe 0: 'foo' at character 4" in ended.stderr
    assert "seed is 'x'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whisper"], "invalid choice: 'whisper'"),
        (["riffusion", "-i", "prompt=x"], "there is no input 'prompt'; the inputs are prompt_a, denoising"),
        (["riffusion", "-i", "prompt_a"], "-i takes NAME=VALUE, not 'prompt_a'"),
    ],
)
def test_predict_refuses_a_wrong_command_line(arguments: list[str], message: str) -> None:
    ended = script("predict", *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_predict_makes_its_folder_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = script("predict", "riffusion", "-i", "denoising=0", "-o", tmp_path / "file")
    assert ended.returncode == 1
    assert ended.stderr == f"script/predict: -o is {tmp_path}/file, but there can be no such folder: File exists\n"
    assert ended.stdout == ""


def test_setup_makes_only_the_environments_it_knows() -> None:
    ended = script("setup", "--help")
    assert (ended.returncode, ended.stderr) == (2, "usage: script/setup [run|dev]\n")


@pytest.mark.parametrize("arguments", [[], ["whisper"]])
def test_weights_says_how_it_is_used(arguments: list[str]) -> None:
    ended = script("weights", *arguments)
    assert ended.returncode == 1
    assert ended.stderr == "usage: script/weights riffusion|deforum\n"
