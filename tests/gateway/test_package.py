"""The gateway as pip installs it: in fresh environments, on every Python that this machine has."""

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from docs.make.locks import LOCKS, lock
from gateway import version
from gateway.serve import postgres
from tests.gateway.processes import ROOT, Token
from tests.waiting import HANG_S, eventually

FAKE = Path(__file__).with_name("fake_coglet.py")
UV = str(ROOT / ".venv" / "bin" / "uv")
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("GATEWAY_")}


def interpreter(minor: int) -> str | None:
    """Return the path of a Python 3 of this minor version, if there is one: on the path, or pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python3.{minor}"), *map(str, root.glob(f"versions/3.{minor}.*/bin/python"))]
    for candidate in filter(None, candidates):
        said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if said.stdout.startswith(f"Python 3.{minor}."):
            return str(candidate)
    return None


MINORS = [minor for minor in (11, 12, 13, 14) if interpreter(minor)]
PYTHONS = [*(pytest.param(minor, marks=pytest.mark.slow) for minor in MINORS[:-1]), MINORS[-1]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the checkout, which the build writes to."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("gateway", "web", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("deploy/wheel.lock.txt", "pyproject.toml", "LICENSE"):
        (source / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", out, source], check=True, env=CLEAN)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_every_module_and_the_page_and_no_models(wheel: Path) -> None:
    def files(folder: str, pattern: str) -> set[str]:
        found = (path for path in (ROOT / folder).rglob(pattern) if path.is_file() and "__pycache__" not in path.parts)
        return {str(path.relative_to(ROOT)) for path in found}

    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    page = {f"gateway/{name}" for name in files("web", "*")}
    assert names == files("gateway", "*.py") | files("gateway", "*.sql") | page
    assert wheel.name.startswith(f"cog_gateway-{version()}-py3-none-any")


def test_every_dependency_has_a_wheel_for_the_newest_python() -> None:
    files = [str(ROOT / f"requirements-{name}.txt") for name in ("gateway", "postgres")]
    compiling = [UV, "pip", "compile", "--quiet", "--python-version", "3.14", "--only-binary", ":all:", *files]
    assert "uvicorn==" in subprocess.run(compiling, check=True, capture_output=True, text=True, env=CLEAN).stdout


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_the_packages_that_the_requirements_lead_to(name: str, tmp_path: Path) -> None:
    """script/make locks updates it. Hashes aren't compared: a release may get more files."""

    def pins(path: Path) -> list[str]:
        return re.findall(r"^[a-z].*==[^\s\\;]+", path.read_text(encoding="utf-8"), re.MULTILINE)

    shutil.copy(ROOT / name, tmp_path / "lock")
    lock(name, tmp_path / "lock")
    assert pins(ROOT / name) == pins(tmp_path / "lock")
    required = [pin for path in LOCKS[name] if path.endswith(".txt") for pin in pins(ROOT / path)]
    assert {re.sub(r"\[.*\]", "", pin) for pin in required} <= set(pins(ROOT / name))
    hashed = (ROOT / name).read_text(encoding="utf-8").count("--hash=sha256:")
    assert (hashed >= len(pins(ROOT / name))) == ("--generate-hashes" in LOCKS[name])


@pytest.fixture(params=PYTHONS, ids=lambda minor: f"3.{minor}")
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path: Path) -> Path:
    """Return the programs' folder of a fresh environment with the wheel."""
    python = str(interpreter(request.param))
    programs = tmp_path / "venv" / "bin"
    install = [UV, "pip", "install", "--quiet", "--only-binary", ":all:", "--python", str(programs / "python")]
    subprocess.run([UV, "venv", "--quiet", "--python", python, str(programs.parent)], check=True, env=CLEAN)
    subprocess.run([*install, str(wheel)], check=True, env=CLEAN)
    return programs


@pytest.fixture
def container(tmp_path: Path) -> Iterator[str]:
    command = [sys.executable, str(FAKE), "--port", "0", "--journal", str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process.stdout.readline().split()[-1]
        process.kill()


class Patient:
    until = staticmethod(eventually)


def test_one_command_is_a_replicate_of_ones_own(installed: Path, container: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**CLEAN, "HOME": str(home), "XDG_DATA_HOME": ""}
    program = str(installed / "cog-gateway")
    command = [program, "serve", "--port", "0", "--model", f"ann/fake={container}"]
    data = home / ".local" / "share" / "cog-gateway"
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as process:
            try:
                assert process.stdout
                lines = iter(process.stdout.readline, "")
                url = next(found[1] for line in lines if (found := re.fullmatch(r"ready on (http://\S+)\n", line)))
                assert any(line.startswith("offering ann/fake, version ") for line in lines)
                check_system(url, (data / "token").read_text().strip())
                listed = subprocess.check_output([program, "model", "list"], text=True, env=environment)
                assert listed.splitlines()[1].split()[0::3] == ["ann/fake", container]
                family = psutil.Process(process.pid).children(recursive=True)
            finally:
                process.send_signal(signal.SIGTERM)
        assert process.returncode == 128 + signal.SIGTERM
        assert psutil.wait_procs(family, timeout=HANG_S)[1] == []
    finally:
        if (data / "postgres").exists():
            postgres.remove(data / "postgres")
    packages = subprocess.check_output([UV, "pip", "freeze", "--python", installed / "python"], text=True, env=CLEAN)
    assert not re.search(r"^(torch|cog|numpy)==", packages, re.MULTILINE)


def check_system(url: str, text: str) -> None:
    with Token(url, text, Patient()) as token:
        eventually(lambda: token.http.get("/models/ann/fake").is_success)
        assert [model["name"] for model in token.http.get("/models").json()["results"]] == ["fake"]
        assert token.ended(token.create("ann/fake", input={"text": "hi"})["id"])["output"] == "hi"
        for path in ("/", "/web/main.js", "/web/models/riffusion/index.js"):
            assert httpx.get(url + path, trust_env=False).status_code == httpx.codes.OK
