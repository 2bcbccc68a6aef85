"""What a container is built from, as far as it can be checked without building one.

Cog ignores keys that it does not know and options in requirements without a word, so each of its rules is held here.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.dockerignore import ignored, parse
from tests.contract.schema_of import input_schemas

ROOT = Path(__file__).resolve().parent.parent.parent
CONFIGS = {"riffusion": "cog.yaml", "deforum": "cog.deforum.yaml"}
KEYS = {"build", "concurrency", "environment", "image", "model", "predict", "run", "train", "weights"}
BUILD_KEYS = {
    *("cuda", "cudnn", "gpu", "pre_install", "python_packages", "python_requirements", "python_version", "run"),
    *("sdk_version", "system_packages"),
}
# What Cog keeps for itself, and refuses in `environment:`.
RESERVED_NAMES = re.compile(
    "PATH|LD_LIBRARY_PATH|LIBRARY_PATH|PYTHONPATH|PYTHONUNBUFFERED|VIRTUAL_ENV|HF_ENDPOINT|HF_HUB_ENABLE_HF_TRANSFER"
    "|(CUDA|NVIDIA|NV|R8|REPLICATE|PGET|KUBERNETES)_.*"
)
NEWEST_TORCH = (2, 11, 0)  # that Cog 0.23.1 has wheels and CUDA versions for
RULES = parse((ROOT / ".dockerignore").read_text(encoding="utf-8"))
PINNED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==(\d+(?:\.\d+)*)")


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def config(model: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / CONFIGS[model]).read_text(encoding="utf-8"))
    return parsed


def tracked(folder: str) -> list[str]:
    """Return the files in `folder` that git has or would take."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    listing = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return [name for name in listing if name and (ROOT / name).is_file()]


def pins() -> dict[str, str]:
    matches = (PINNED.fullmatch(line) for line in lines("requirements.txt"))
    return {match[1]: match[2] for match in matches if match}


def test_every_model_has_a_config() -> None:
    assert {path.name for path in ROOT.glob("cog*.yaml")} == set(CONFIGS.values())
    assert {path.name for path in ROOT.glob("predict_*.py")} == {f"predict_{model}.py" for model in CONFIGS}


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_has_only_keys_that_cog_knows(model: str) -> None:
    assert config(model).keys() <= KEYS
    assert config(model)["build"].keys() <= BUILD_KEYS


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_builds_what_the_tests_run_on(model: str) -> None:
    build = config(model)["build"]
    assert build["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert build["python_requirements"] == "requirements.txt"
    assert build["gpu"] is True
    assert "system_packages" not in build  # every wheel brings its own libraries; packages would cost 600 MB
    assert build["cuda"] == "12.8"  # of its own accord Cog takes 13.0, which needs a driver of 580 or later
    assert f"cog=={build['sdk_version']}" in lines("requirements-dev.txt")


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_runs_a_class_that_is_there(model: str) -> None:
    assert "predict" not in config(model)
    file, name = config(model)["run"].split(":")
    assert file == f"predict_{model}.py"
    classes = [
        node for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
    ]
    (found,) = (node for node in classes if node.name == name)
    methods = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    assert "run" in methods
    assert "predict" not in methods


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_sets_only_variables_that_cog_allows(model: str) -> None:
    for variable in config(model)["environment"]:
        name, equals, value = variable.partition("=")
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", name)
        assert not RESERVED_NAMES.fullmatch(name), f"{name} is reserved"
        assert equals
        assert value
    assert "WEIGHTS=full" in config(model)["environment"]  # a container never falls back to the small model
    assert "USER=cog" in config(model)["environment"]  # a user id without a name can run it: test_locked_up.py


def test_scripts_set_what_containers_do() -> None:
    program = f". {ROOT / 'script' / 'env'}; env"
    ended = subprocess.run(
        ["/bin/bash", "-c", program], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    tuned = [line for line in config("riffusion")["environment"] if not line.startswith(("WEIGHTS", "USER"))]
    assert len(tuned) == (ROOT / "script" / "env").read_text(encoding="utf-8").count("export ")
    assert set(tuned) <= set(ended.stdout.splitlines())


def test_the_models_differ_in_name_and_predictor_alone() -> None:
    riffusion, deforum = config("riffusion"), config("deforum")
    for key in ("image", "run"):
        assert riffusion.pop(key) != deforum.pop(key)
    assert riffusion == deforum
    assert all(re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", config(model)["image"]) for model in CONFIGS)


def test_requirements_are_flat_pinned_and_without_cog() -> None:
    """Cog rewrites the file line by line: options, markers and hashes are lost, and it brings cog itself."""
    assert [line for line in lines("requirements.txt") if not PINNED.fullmatch(line)] == []
    assert list(pins()) == sorted(pins())
    assert len(pins()) == len(lines("requirements.txt"))
    assert not {"cog", "coglet"} & pins().keys()
    assert tuple(map(int, pins()["torch"].split("."))) <= NEWEST_TORCH
    assert pins()["torchaudio"] == pins()["torch"]


def test_development_has_what_the_container_has_and_more() -> None:
    of_others, own = lines("requirements-dev.txt")[:2], lines("requirements-dev.txt")[2:]
    assert of_others == ["-r requirements-gateway.txt", "-r requirements.txt"]
    assert [line for line in own if not PINNED.fullmatch(line)] == []


def test_every_import_is_required() -> None:
    distributions = packages_distributions()
    for path in [*(ROOT / "lib").rglob("*.py"), *ROOT.glob("predict_*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - {"lib", "cog"} - sys.stdlib_module_names:
                assert {pin.lower().replace("_", "-") for pin in distributions[name]} & pins().keys(), f"{path}: {name}"


@pytest.mark.parametrize(
    "path",
    [
        *CONFIGS.values(),
        *(f"predict_{model}.py" for model in CONFIGS),
        "requirements.txt",
        "weights/riffusion/unet/config.json",  # baked in where they are
    ],
)
def test_a_build_gets_what_it_needs(path: str) -> None:
    assert not ignored(RULES, path)


def test_a_build_gets_the_whole_of_lib() -> None:
    assert [path for path in tracked("lib") if ignored(RULES, path)] == []


# Files of many kinds that lie about in checkouts; "a" stands for whatever one has.
PLANTED = (
    *(".git/HEAD", ".github/workflows/a.yml", ".ci/run", ".cog/openapi_schema.json", ".cog/build/Dockerfile"),
    *(".env", ".env.local", ".envrc", "venv/bin/python", "env/bin/python", ".venv/bin/python", "node_modules/a/a.js"),
    *(".vscode/a.json", ".idea/a.xml", ".DS_Store", "a.swp", ".ruff_cache/a", ".pytest_cache/v/a", ".mypy_cache/a"),
    *("dist/a.whl", "build/a", "a.egg-info/PKG-INFO", "__pycache__/a.pyc", "a.pyc", "answer.json", "a.wav", "id_rsa"),
    *("tests/conftest.py", "bench/RESULTS.md", "docs/deploy/container.md", "out/riffusion/audio.wav", "gateway/app.py"),
    *("workshop/chance.py", "local/serve.py", "script/predict", "schema/a.json", "examples/a", "deploy/compose.yaml"),
    *("pyproject.toml", "README.md", "a-new-folder/a.py", "a_new_module.py", "predict_riffusion.py.orig", "cog.yaml~"),
    *("lib/__pycache__/a.pyc", "lib/audio/__pycache__/a.pyc", "lib/audio/a.pyc", "lib/.env", "lib/audio/.env.local"),
    *("lib/.idea/a.xml", "lib/.mypy_cache/a", "lib/audio/.ipynb_checkpoints/a.py", "lib/node_modules/a.js"),
    *("weights/riffusion.unfinished/unet/config.json", "weights/riffusion/.cache/huggingface/a", "weights/.env"),
)


@pytest.mark.parametrize("path", PLANTED)
def test_a_build_does_not_get_what_it_does_not_need(path: str) -> None:
    assert ignored(RULES, path)


def test_nothing_that_is_tracked_gets_in_but_what_a_container_runs() -> None:
    carried = {path.split("/")[0] for path in tracked(".") if not ignored(RULES, path)}
    runs = {"lib", "requirements.txt", *CONFIGS.values(), *(f"predict_{model}.py" for model in CONFIGS)}
    assert carried == runs


def test_what_builds_write_is_no_part_of_the_repository() -> None:
    assert ".cog/" in lines(".gitignore")


# What a container does at its start, and then as much of a prediction as shows that every file is there.
PREDICTIONS = {
    "riffusion": """
output = predictor.run(**{**inputs, "num_inference_steps": 2})
files = [output.audio, output.spectrogram]
""",
    "deforum": """
import numpy
from lib.animation.video import write_mp4
from lib.deforum_request import Inputs
from lib.progress import Stages
files = [Path("animation.mp4").absolute()]
with torch.inference_mode():
    request = Inputs(**{**inputs, "seed": 0, "max_frames": 2}).request(min_frames=2)
    first = numpy.full((512, 512, 3), 128, numpy.uint8)
    frames = predictor.deforum.frames(request, Stages(predictor.models.device), first)
    write_mp4(files[0], frames, inputs["fps"], {})
""",
}
PROGRAM = """
import torch, yaml
from cog.predictor import load_predictor_from_ref
from pathlib import Path
inputs = {inputs}
predictor = load_predictor_from_ref(yaml.safe_load(Path({config!r}).read_text())["run"])
predictor.setup()
{prediction}
assert predictor.healthcheck()
import lib
assert Path(lib.__file__).parent.parent == Path.cwd()
assert all(path.stat().st_size > 1000 for path in files)
"""


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what a build from this checkout would copy, files that git ignores left out."""
    folder = tmp_path_factory.mktemp("container") / "src"
    for name in tracked("."):
        if not ignored(RULES, name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("model", CONFIGS)
def test_what_a_build_gets_is_enough_to_predict(container: Path, tmp_path: Path, model: str) -> None:
    properties = input_schemas(ROOT / f"predict_{model}.py")["Input"]["properties"]
    inputs = {name: about["default"] for name, about in properties.items()}
    program = PROGRAM.format(inputs=inputs, config=CONFIGS[model], prediction=PREDICTIONS[model])
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ".",
        "WEIGHTS": "small",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "OMP_WAIT_POLICY": "passive",
        "TMPDIR": str(tmp_path),
    }
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=container, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "Weights: the small model" in run.stdout
