"""script/setup, with packages that take no time: which Python and PyTorch it takes, and what it repairs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from local import ROOT
from tests.waiting import HANG_S

TOOLS = (
    *("awk", "basename", "bash", "cat", "cmp", "cp", "cut", "dirname", "env", "find", "flock", "grep", "id", "mkdir"),
    *("nvidia-smi", "realpath", "rm", "sed", "sha256sum", "tail", "uname"),
)
UV = ROOT / ".venv" / "bin" / "uv"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder for PATH with what a small Linux has, and no Python."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout whose models need nothing but PyTorch."""
    root = tmp_path / "checkout"
    clients = root / "tests" / "gateway" / "clients"
    clients.mkdir(parents=True)
    (clients / "any.txt").touch()
    (clients / "any.json").touch()
    (root / "script").mkdir()
    shutil.copy(ROOT / "script" / "setup", root / "script")
    pinned = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    (root / "requirements-dev.txt").write_text("".join(f"{pin}\n" for pin in pinned if pin.startswith("uv==")))
    (root / "requirements.txt").write_text("torch==2.11.0\n")
    for name in ("gateway", "postgres"):
        (root / f"requirements-{name}.txt").touch()
    return root


def index(folder: Path, version: str) -> str:
    """Make a package index that has one version of torch, empty, and return its URL."""
    (folder / "torch").mkdir(parents=True)
    name, info = f"torch-{version}-py3-none-any.whl", f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / "torch" / name, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    (folder / "torch" / "index.html").write_text(f'<a href="{name}">{name}</a>')
    return folder.as_uri()


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def setup(checkout: Path, programs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "CERT" in name or name in ("HOME", "UV_CACHE_DIR")}
    command = [str(checkout / "script" / "setup"), "run"]
    given = {**kept, "PATH": str(programs), **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=HANG_S, check=False)


def torch_in(checkout: Path) -> str:
    (found,) = (checkout / ".venv").glob("lib/python3.*/site-packages/torch-*.dist-info")
    return found.name.removeprefix("torch-").removesuffix(".dist-info")


@pytest.mark.parametrize(
    ("pythons", "environment", "sentence"),
    [
        ({}, {}, "this needs Python 3.11 to 3.14 with venv, on Debian or Ubuntu `apt-get install python3-venv`, or uv"),
        ({"python3.13": "exit 127"}, {}, "this needs Python 3.11 to 3.14 with venv"),
        (
            {"python3.12": f'case $2 in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"'},
            {},
            f"python3.{sys.version_info.minor} has no venv. Install it, on Debian or Ubuntu with `apt-get install ",
        ),
        ({"old": "exit 1"}, {"PYTHON": "old"}, "PYTHON is old, which is no Python of 3.11 to 3.14."),
        ({"uname": "echo Darwin"}, {}, "this needs Linux. Elsewhere use Docker"),
    ],
)
def test_it_names_what_is_missing(
    pythons: dict[str, str], environment: dict[str, str], sentence: str, checkout: Path, programs: Path
) -> None:
    for name, text in pythons.items():
        (programs / name).unlink(missing_ok=True)
        program(programs / name, text)
    ended = setup(checkout, programs, **environment)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"script/setup: {sentence}")
    assert ended.stderr.count("\n") == 1


def test_it_takes_the_newest_python_that_runs_and_pytorch_from_the_index_that_a_setting_names(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    (programs / "uv").symlink_to(UV)
    program(programs / "python3.14", "exit 127")  # as pyenv's, of a version that isn't selected
    (programs / "python3").symlink_to(sys.executable)
    environment = {
        "TORCH_INDEX": index(tmp_path / "index", "2.11.0+cpu"),
        "UV_INDEX": index(tmp_path / "pypi", "2.11.0"),
    }
    ended = setup(checkout, programs, **environment)
    assert (ended.returncode, ended.stderr.count("\n")) == (0, 1), ended.stderr
    assert ended.stderr.startswith("Making the environment in .venv ")
    assert torch_in(checkout) == "2.11.0+cpu"
    ended = setup(checkout, programs, **environment)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_without_that_index_it_says_that_it_takes_pypis_pytorch(checkout: Path, programs: Path, tmp_path: Path) -> None:
    (programs / "uv").symlink_to(UV)
    (programs / "python3").symlink_to(sys.executable)
    pypi = index(tmp_path / "pypi", "2.11.0")
    environment = {"TORCH_INDEX": index(tmp_path / "index", "2.10.0"), "UV_INDEX": pypi}
    ended = setup(checkout, programs, **environment)
    assert ended.returncode == 0, ended.stderr
    _, said = ended.stderr.splitlines()
    assert said.startswith("script/setup: no PyTorch from TORCH_INDEX (")
    assert said.endswith("; installing PyPI's, which may include CUDA (4 GB)")
    assert torch_in(checkout) == "2.11.0"


def test_it_repairs_an_unfinished_environment_and_one_whose_python_is_gone(
    checkout: Path, programs: Path, tmp_path: Path
) -> None:
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)  # what `python -m venv` leaves when ensurepip is missing
    (venv / "lock").touch()
    (programs / "uv").symlink_to(UV)
    (programs / "python3").symlink_to(sys.executable)
    torch = index(tmp_path / "index", "2.11.0")
    assert setup(checkout, programs, TORCH_INDEX=torch).stderr.startswith("Making the environment")
    for python in (venv / "bin").glob("python*"):
        python.unlink()
    (venv / "bin" / "python").symlink_to(tmp_path / "gone")
    assert setup(checkout, programs, TORCH_INDEX=torch).stderr.startswith("Making the environment")
    assert torch_in(checkout) == "2.11.0"
    (checkout / "requirements-gateway.txt").write_text("# changed\n")
    ended = setup(checkout, programs, TORCH_INDEX=torch)
    assert (ended.returncode, ended.stderr) == (0, "Updating the environment in .venv ...\n")
