"""The commands of the README, run from a shell."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import av
import pytest
import soundfile
from PIL import Image

from lib.errors import UserError
from local import ROOT
from local.inputs import MODELS, inputs_of
from local.predict import check_ending, chosen_seed, make, save
from tests.contract.predicting import full_disk
from tests.waiting import HANG_S

QUICK = ("-i", "num_inference_steps=2")
CLIP_BYTES = 450_000


def command(name: str, *arguments: object) -> list[str]:
    return [str(ROOT / "script" / name), *map(str, arguments)]


def script(
    name: str, *arguments: object, cwd: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        command(name, *arguments),
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    # script/setup may have reported that it installs the requirements.
    ended.stderr = re.sub(
        "^((Making|Updating) the environment|script/setup: no PyTorch).*\n", "", ended.stderr, flags=re.M
    )
    return ended


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_predict_reports_the_files_that_it_writes(tmp_path: Path) -> None:
    ended = script("predict", "riffusion", "-i", "prompt_a=church bells", *QUICK, "--seed", 5, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "out" / "riffusion"
    assert names(folder) == ["audio-5.wav", "spectrogram-5.png"]
    assert soundfile.info(folder / "audio-5.wav").duration == pytest.approx(5.11, abs=0.001)
    with Image.open(folder / "spectrogram-5.png") as picture:
        text = {key: str(value) for key, value in picture.info.items()}
    inputs = {"prompt_a": "church bells", "num_inference_steps": "2", "alpha": "0.5", "seed": "5"}
    assert inputs.items() <= text.items()
    with av.open(folder / "audio-5.wav") as sound:
        assert inputs.items() <= json.loads(sound.metadata["comment"]).items()
    lines = ended.stdout.splitlines()
    assert lines[0] == "Loading PyTorch and riffusion ..."
    assert "script/weights riffusion" in lines[1]
    assert lines[2] == "Using seed: 5"
    assert any(line.startswith("100%|") for line in lines)
    assert "\r" not in ended.stdout
    assert lines[-2:] == ["Wrote out/riffusion/audio-5.wav", "Wrote out/riffusion/spectrogram-5.png"]
    assert ended.stderr == ""


def test_predict_draws_one_line_of_progress_in_a_terminal_and_reports_a_full_disk(tmp_path: Path) -> None:
    """Both in one run, since loading the model takes seconds."""
    full, output = tmp_path / "full", tmp_path / "out"
    full.mkdir()
    terminal, screen = pty.openpty()
    with full_disk(CLIP_BYTES // 4):
        process = subprocess.Popen(
            command("predict", "riffusion", *QUICK, "-o", output),
            env={**os.environ, "TMPDIR": str(full)},
            stdout=screen,
            stderr=screen,
            stdin=screen,
        )
        os.close(screen)
        text = b"".join(iter(lambda: _read(terminal), b"")).decode()
        os.close(terminal)
        assert (process.wait(HANG_S), names(full), names(output)) == (1, [], []), text
    *lines, error = text.strip().split("\r\n")
    (progress,) = (line for line in lines if "%|" in line)
    assert progress.count("\r") == progress.count("%|") >= 2
    assert error.startswith("script/predict: ")
    assert all(part in error for part in (str(full), "File too large", "TMPDIR"))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux's way to say that the other end is closed
        return b""


def test_output_files_are_written_completely_or_not_at_all_and_overwrite_none(tmp_path: Path) -> None:
    files = [tmp_path / "audio.wav", tmp_path / "spectrogram.png"]
    for file in files:
        file.write_bytes(bytes(CLIP_BYTES // 5))
    output = tmp_path / "out"
    output.mkdir()
    assert [path.name for path in save(files, output, 7)] == ["audio-7.wav", "spectrogram-7.png"]
    (output / "spectrogram-7.png").write_bytes(b"a good one")
    assert [path.name for path in save(files, output, 7)] == ["audio-7-2.wav", "spectrogram-7-2.png"]
    assert (output / "spectrogram-7.png").read_bytes() == b"a good one"
    before = names(output)
    files[1].write_bytes(bytes(CLIP_BYTES))
    full = tmp_path / "full"
    full.mkdir()
    with full_disk(CLIP_BYTES // 4), pytest.raises(UserError) as error:
        save(files, full, 7)
    assert str(error.value) == (
        f"Can't write {full}/spectrogram-7.png: File too large. Free some space, or choose another folder with -o."
    )
    assert (names(full), names(output)) == ([], before)


def test_output_files_take_the_name_that_o_gives(tmp_path: Path) -> None:
    files = [tmp_path / "audio.wav", tmp_path / "spectrogram.png"]
    for file in files:
        file.write_bytes(b"new")
    (tmp_path / "clip.wav").write_bytes(b"old")
    assert save(files, tmp_path / "clip.wav", 7) == [tmp_path / "clip.wav", tmp_path / "clip.png"]
    assert (tmp_path / "clip.wav").read_bytes() == b"new"
    with pytest.raises(UserError, match=r"-o is clip\.mp3, but riffusion makes \.wav and \.png files"):
        check_ending("riffusion", Path("clip.mp3"), {})
    folder = tmp_path / "v1.0"
    folder.mkdir()
    assert save(files, folder, 7)[0] == folder / "audio-7.wav"


def test_a_seed_of_minus_one_is_random() -> None:
    assert chosen_seed("deforum", {"seed": -1}, None) != chosen_seed("deforum", {"seed": -1}, None)


@pytest.mark.parametrize("model", MODELS)
def test_predict_lists_a_models_inputs(model: str) -> None:
    ended = script("predict", model, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    text = " ".join(ended.stdout.split())
    for one in inputs_of(model).values():
        default = one.default_text and f"; default: {one.default_text}"
        assert f" {one.name} {one.allowed}{default} {one.description}".strip() in text
    assert "--seed N" in text


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            ("riffusion", "--seed", "1", "-i", "num_inference_steps=1001", "-i", "prompt_a=(a:101)"),
            ["prompt_a: the weight of 'a' is 101, but must be", "num_inference_steps is 1001, but must be"],
        ),
        (
            ("deforum", "-i", "zoom=0:(foo)", "-i", "fps=2.5", "-i", "seed=x"),
            ["seed is 'x', but must be", "zoom, keyframe 0: ", "fps is 2.5, but must be a whole number from 10 to 60"],
        ),
        (
            ("riffusion", "-i", "seed=5", "-i", "prompt_a", "-i", "prompt=x"),
            [
                "this model has no input 'seed'; use --seed N",
                "-i expects NAME=VALUE, not 'prompt_a'",
                f"unknown input 'prompt'; the inputs are {', '.join(inputs_of('riffusion'))}",
            ],
        ),
        (("riffusion",), ["RIFFUSION_SEED is 'abc', but must be a whole number from 0 to 4294967295"]),
        (("deforum", "--seed", "1", "-i", "seed=1"), ["both --seed and -i seed are given; use one of them"]),
    ],
)
def test_predict_reports_all_mistakes_at_once(arguments: tuple[str, ...], problems: list[str], tmp_path: Path) -> None:
    """It does so before any work, even before importing PyTorch, which takes seconds."""
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "RIFFUSION_SEED": "abc"}
    ended = script("predict", *arguments, "-o", tmp_path / "new", environment=environment)
    imports = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    assert imports
    assert not any(line.split("|")[-1].strip() == "torch" for line in imports)
    message = "\n".join(line for line in ended.stderr.splitlines() if line not in imports)
    for problem, line in zip(problems, message.removeprefix("script/predict: ").split("\n"), strict=True):
        assert line.startswith(problem)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert not (tmp_path / "new").exists()


def test_an_impossible_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as error:
        make(tmp_path / "file")
    assert str(error.value) == f"Can't create the output folder {tmp_path}/file: File exists"
