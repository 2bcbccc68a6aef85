"""The commands of the README, run as a person runs them."""

import json
import os
import pty
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
import soundfile
from PIL import Image

from lib.errors import UserError
from local.inputs import MODELS, ROOT, inputs_of
from local.predict import make, save
from tests.local.processes import LIMIT_S

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
        timeout=LIMIT_S,
        check=False,
    )
    # What script/setup says where the requirements have just changed is none of theirs.
    ended.stderr = re.sub("^Making the environment.*\n", "", ended.stderr)
    return ended


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_predict_writes_its_files_and_says_where(tmp_path: Path) -> None:
    ended = script("predict", "riffusion", "-i", "prompt_a=church bells", *QUICK, "--seed", 5, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / "out" / "riffusion"
    assert names(folder) == ["audio-5.wav", "spectrogram-5.png"]
    assert soundfile.info(folder / "audio-5.wav").duration == pytest.approx(5.11, abs=0.001)
    with Image.open(folder / "spectrogram-5.png") as picture:
        text = {key: str(value) for key, value in picture.info.items()}
    asked = {"prompt_a": "church bells", "num_inference_steps": "2", "alpha": "0.5", "seed": "5"}
    assert asked.items() <= text.items()
    with av.open(folder / "audio-5.wav") as sound:
        assert asked.items() <= json.loads(sound.metadata["comment"]).items()
    lines = ended.stdout.splitlines()
    assert lines[0] == "Loading PyTorch and riffusion ..."
    assert lines[1].startswith("Weights: the small model")
    assert lines[2] == "Using seed: 5"
    assert any(line.startswith("100%|") for line in lines)
    assert "\r" not in ended.stdout
    assert lines[-2:] == ["Wrote out/riffusion/audio-5.wav", "Wrote out/riffusion/spectrogram-5.png"]
    assert ended.stderr == ""


def test_predict_draws_one_line_of_progress_in_a_terminal(tmp_path: Path) -> None:
    terminal, screen = pty.openpty()
    process = subprocess.Popen(
        command("predict", "riffusion", *QUICK, "-o", tmp_path), stdout=screen, stderr=screen, stdin=screen
    )
    os.close(screen)
    text = b"".join(iter(lambda: _read(terminal), b"")).decode()
    os.close(terminal)
    assert process.wait(LIMIT_S) == 0, text
    progress = [line for line in text.split("\r\n") if "%|" in line]
    assert len(progress) == 1
    assert progress[0].count("\r") == progress[0].count("%|") >= 2
    seeds = {path.stem.split("-")[1] for path in tmp_path.iterdir()}
    assert f"Using seed: {seeds.pop()}\r\n" in text
    assert seeds == set()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so that nobody is at the other end any more
        return b""


@contextmanager
def full_disk(folder: Path) -> Iterator[str]:
    """Let the files of programs started meanwhile find no room in `folder`; yield what the system calls that.

    Root gets a real disk that is too small, everyone else a limit on what a file may hold.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={CLIP_BYTES // 4}", "tmpfs", str(folder)]
    if os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield "No space left on device"
        finally:
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S607
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CLIP_BYTES // 4, hard))
    try:
        yield "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_predict_says_that_the_disk_of_its_temporary_files_is_full(tmp_path: Path) -> None:
    full, output = tmp_path / "full", tmp_path / "out"
    full.mkdir()
    with full_disk(full) as reason:
        ended = script("predict", "riffusion", "-i", "denoising=0", "-o", output, environment={"TMPDIR": str(full)})
        assert (ended.returncode, names(full), names(output)) == (1, [], [])
    place, said = ended.stderr.removeprefix("script/predict: No file can be written in ").split(": ")
    assert Path(place).parent == full
    assert said == f"{reason}. Make room there, or choose another folder with TMPDIR.\n"


def test_output_files_are_there_whole_or_not_at_all_and_none_is_overwritten(tmp_path: Path) -> None:
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
    with full_disk(full) as reason, pytest.raises(UserError) as error:
        save(files, full, 7)
    assert str(error.value) == (
        f"{full}/spectrogram-7.png can't be written: {reason}. Make room for it, or choose another folder with -o."
    )
    assert (names(full), names(output)) == ([], before)


@pytest.mark.parametrize("model", MODELS)
def test_predict_lists_a_models_inputs(model: str) -> None:
    ended = script("predict", model, "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    text = " ".join(ended.stdout.split())
    for one in inputs_of(model).values():
        default = "" if one.default is None else f"; by default {one.default}"
        assert f" {one.name} {one.allowed}{default} {one.description}".strip() in text
    assert "--seed N" in text


FIRST = "riffusion", "--seed", "1", "-i", "denoising=2", "-i", "num_inference_steps=1001", "-i", "prompt_a=(a:101)"
SECOND = "deforum", "-i", "zoom=0:(foo)", "-i", "fps=2.5", "-i", "seed=x"


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            FIRST,
            [
                "prompt_a: the weight of 'a' is 101, but must be from 0 to 100",
                "denoising is 2, but must be a number from 0 to 1",
                "num_inference_steps is 1001, but must be a whole number from 1 to 1000",
            ],
        ),
        (
            SECOND,
            [
                "seed is 'x', but must be a whole number from 0 to 4294967295",
                "zoom, keyframe 0: ",
                "fps is 2.5, but must be a whole number from 10 to 60",
            ],
        ),
        (
            ("riffusion", "-i", "seed=5", "-i", "prompt_a", "-i", "prompt=x"),
            [
                "this model has no input 'seed'; --seed N fixes the seed",
                "-i takes NAME=VALUE, not 'prompt_a'",
                f"there is no input 'prompt'; the inputs are {', '.join(inputs_of('riffusion'))}",
            ],
        ),
        (("riffusion",), ["RIFFUSION_SEED is 'abc', but must be a whole number from 0 to 4294967295"]),
        (("riffusion", "--seed", "-1"), ["--seed is -1, but must be a whole number from 0 to 4294967295"]),
        (("deforum", "--seed", "1", "-i", "seed=1"), ["the seed is given twice, by --seed and by -i seed"]),
    ],
)
def test_predict_says_every_mistake_at_once(arguments: tuple[str, ...], problems: list[str], tmp_path: Path) -> None:
    """Before any work, without PyTorch even, whose import takes seconds."""
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "RIFFUSION_SEED": "abc"}
    ended = script("predict", *arguments, "-o", tmp_path / "new", environment=environment)
    imports = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    assert imports
    assert not any(line.split("|")[-1].strip() == "torch" for line in imports)
    said = "\n".join(line for line in ended.stderr.splitlines() if line not in imports)
    for problem, line in zip(problems, said.removeprefix("script/predict: ").split("\n"), strict=True):
        assert line.startswith(problem)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert not (tmp_path / "new").exists()


def test_predict_knows_its_models() -> None:
    ended = script("predict", "whisper")
    assert ended.returncode == 2
    assert "invalid choice: 'whisper'" in ended.stderr


def test_an_output_folder_that_can_not_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as error:
        make(tmp_path / "file")
    assert str(error.value) == f"-o is {tmp_path}/file, but there can be no such folder: File exists"


def test_setup_makes_only_the_environments_it_knows() -> None:
    ended = script("setup", "--help")
    assert (ended.returncode, ended.stderr) == (2, "usage: script/setup [run|dev]\n")


@pytest.mark.parametrize("arguments", [[], ["whisper"]])
def test_weights_says_how_it_is_used(arguments: list[str]) -> None:
    ended = script("weights", *arguments)
    assert ended.returncode == 1
    assert ended.stderr == "usage: script/weights riffusion|deforum\n"
