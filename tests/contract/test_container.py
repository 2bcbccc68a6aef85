"""What a container is built from, as far as that can be checked without building one.

Cog silently ignores unknown keys, and options in requirements, so these tests check each of its rules.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pytest
import yaml

from local import ROOT
from local.inputs import module_name
from tests.contract.schema_of import input_schemas

CONFIGS = {
    "riffusion": "cog.yaml",
    "walk": "cog.walk.yaml",
    "deforum": "cog.deforum.yaml",
    "music-video": "cog.music-video.yaml",
}
KEYS = {"build", "concurrency", "environment", "image", "model", "predict", "run", "train", "weights"}
BUILD_KEYS = {
    *("cuda", "cudnn", "gpu", "pre_install", "python_packages", "python_requirements", "python_version", "run"),
    *("sdk_version", "system_packages"),
}
# Reserved by Cog, which rejects them in `environment:`.
RESERVED_NAMES = re.compile(
    "PATH|LD_LIBRARY_PATH|LIBRARY_PATH|PYTHONPATH|PYTHONUNBUFFERED|VIRTUAL_ENV|HF_ENDPOINT|HF_HUB_ENABLE_HF_TRANSFER"
    "|(CUDA|NVIDIA|NV|R8|REPLICATE|PGET|KUBERNETES)_.*"
)
OLDEST_PYTHON = "3.11"  # the same as in pyproject.toml and script/setup
NEWEST_TORCH = (2, 11, 0)  # for which Cog 0.23.1 knows wheels and CUDA versions
PINNED = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==(\d+(?:\.\d+)*)")


WILDCARDS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class Rule:
    """One line: what it matches, and whether it excludes or includes that."""

    expression: re.Pattern[str]
    excludes: bool


def parse(text: str) -> list[Rule]:
    """Return the rules of a .dockerignore, which differs from git's.

    Patterns are relative to the root. `*` and `?` stop at a slash, `**` doesn't. One that matches a folder matches all
    below it. A `!` includes what was excluded, even below an excluded folder. The last matching line wins.
    Source: Docker's build context documentation, checked against what its builders send.
    """
    rules = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        excludes = not pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip().strip("/")
        assert not set(pattern) & set("![]\\"), f"unsupported pattern {pattern}"
        tokens = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
        expression = "".join(WILDCARDS.get(token, re.escape(token)) for token in tokens)
        rules.append(Rule(re.compile(expression), excludes))
    return rules


def ignored(rules: list[Rule], path: str) -> bool:
    places = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    verdicts = [rule.excludes for rule in rules if any(rule.expression.fullmatch(place) for place in places)]
    return bool(verdicts) and verdicts[-1]


RULES = parse((ROOT / ".dockerignore").read_text(encoding="utf-8"))


def lines(name: str) -> list[str]:
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


def config(model: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / CONFIGS[model]).read_text(encoding="utf-8"))
    return parsed


def tracked(folder: str) -> list[str]:
    """Return the files in `folder` that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    listing = subprocess.check_output(command, cwd=ROOT, text=True).split("\0")
    return [name for name in listing if name and (ROOT / name).is_file()]


def pins() -> dict[str, str]:
    matches = (PINNED.fullmatch(line) for line in lines("requirements.txt"))
    return {match[1]: match[2] for match in matches if match}


def test_every_model_has_a_config() -> None:
    assert {path.name for path in ROOT.glob("cog*.yaml")} == set(CONFIGS.values())
    assert {path.name for path in ROOT.glob("predict_*.py")} == {
        f"predict_{module_name(model)}.py" for model in CONFIGS
    }


def test_a_release_builds_every_config() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))
    assert sorted(workflow["jobs"]["models"]["strategy"]["matrix"]["config"]) == sorted(CONFIGS.values())


@pytest.mark.parametrize("path", ["workflows/ci.yml", "workflows/release.yml", "dependabot.yml"])
def test_what_github_runs_follows_its_schema(path: str) -> None:
    name = "github-workflows" if path.startswith("workflows") else "dependabot"
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{name}.json"
    read = yaml.safe_load((ROOT / ".github" / path).read_text(encoding="utf-8"))
    read["on"] = read.pop(True, None)  # as YAML 1.1 reads `on`
    if name == "dependabot":
        del read["on"]
    jsonschema.validate(read, json.loads(schema.read_text("utf-8")))


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_has_only_keys_known_to_cog(model: str) -> None:
    assert config(model).keys() <= KEYS
    assert config(model)["build"].keys() <= BUILD_KEYS


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_builds_an_environment_of_the_tests(model: str) -> None:
    build = config(model)["build"]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["ci"]["strategy"]["matrix"]["python"] == [OLDEST_PYTHON, build["python_version"]]
    opened = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert opened["image"] == f"python:{build['python_version']}-bookworm"
    assert build["python_requirements"] == "requirements.txt"
    assert build["gpu"] is True
    assert "system_packages" not in build  # wheels include their libraries; packages would cost 600 MB
    assert build["cuda"] == "12.8"  # by default Cog takes 13.0, which needs driver 580 or later
    assert f"cog=={build['sdk_version']}" in lines("requirements-dev.txt")


@pytest.mark.parametrize("model", CONFIGS)
def test_a_config_sets_only_variables_that_cog_allows(model: str) -> None:
    for variable in config(model)["environment"]:
        name, equals, value = variable.partition("=")
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", name)
        assert not RESERVED_NAMES.fullmatch(name), f"{name} is reserved"
        assert equals
        assert value
    assert "predict" not in config(model)  # the deprecated name of `run`
    assert "WEIGHTS=full" in config(model)["environment"]  # a container never falls back to the small model
    assert "USER=cog" in config(model)["environment"]  # for a user id without a name, see test_locked_up.py


def test_scripts_set_the_same_variables_as_containers() -> None:
    program = f". {ROOT / 'script' / 'env'}; env"
    ended = subprocess.run(
        ["/bin/bash", "-c", program], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    tuned = [line for line in config("riffusion")["environment"] if not line.startswith(("WEIGHTS", "USER"))]
    assert len(tuned) == (ROOT / "script" / "env").read_text(encoding="utf-8").count("export ")
    assert set(tuned) <= set(ended.stdout.splitlines())


def test_the_configs_differ_only_in_name_and_predictor() -> None:
    riffusion, deforum = config("riffusion"), config("deforum")
    for key in ("image", "run"):
        assert riffusion.pop(key) != deforum.pop(key)
    assert riffusion == deforum
    assert all(re.fullmatch(r"[a-z0-9]+([._-][a-z0-9]+)*", config(model)["image"]) for model in CONFIGS)


def test_requirements_are_flat_pinned_and_without_cog() -> None:
    """Cog rewrites the file line by line, so options, markers and hashes would be lost, and it adds cog itself."""
    assert [line for line in lines("requirements.txt") if not PINNED.fullmatch(line)] == []
    assert list(pins()) == sorted(pins())
    assert len(pins()) == len(lines("requirements.txt"))
    assert not {"cog", "coglet"} & pins().keys()
    assert tuple(map(int, pins()["torch"].split("."))) <= NEWEST_TORCH
    assert pins()["torchaudio"] == pins()["torch"]


@pytest.mark.parametrize("python", [OLDEST_PYTHON, "3.12", "3.13", "3.14"])
def test_every_requirement_has_a_wheel_for_every_python(python: str) -> None:
    """One pin serves them all: Cog reads no markers, and a seed gives the same result on each."""
    uv = [str(ROOT / ".venv" / "bin" / "uv"), "pip", "compile", "--quiet", "--no-header", "--only-binary", ":all:"]
    compiled = subprocess.check_output([*uv, "--python-version", python, "requirements-dev.txt"], cwd=ROOT, text=True)
    assert {f"{name}=={version}" for name, version in pins().items()} <= set(compiled.splitlines())


def test_development_requires_what_the_container_requires_and_more() -> None:
    of_others, own = lines("requirements-dev.txt")[:3], lines("requirements-dev.txt")[3:]
    assert of_others == ["-r requirements-gateway.txt", "-r requirements-postgres.txt", "-r requirements.txt"]
    assert [line for line in own if not PINNED.fullmatch(line)] == []


def test_every_import_is_required() -> None:
    distributions = packages_distributions()
    for path in [*(ROOT / "lib").rglob("*.py"), *ROOT.glob("predict_*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in {name.split(".")[0] for name in names} - {"lib", "cog"} - sys.stdlib_module_names:
                assert {pin.lower().replace("_", "-") for pin in distributions[name]} & pins().keys(), f"{path}: {name}"


def test_a_build_gets_only_the_tracked_files_that_a_container_runs() -> None:
    carried = [path for path in tracked(".") if not ignored(RULES, path)]
    runs = {"requirements.txt", *CONFIGS.values(), *(f"predict_{module_name(model)}.py" for model in CONFIGS)}
    preview = {"local/__init__.py", "local/preview.py"}  # in a container of its own
    assert {*carried} == {*runs, *preview, *tracked("lib")}
    assert not ignored(RULES, "weights/riffusion/unet/config.json")  # built into the image if they exist


def test_a_build_does_not_get_what_it_does_not_need() -> None:
    """Of the kinds of files that checkouts may contain."""
    planted = [
        *(".git/HEAD", ".cog/build/Dockerfile", ".env", ".env.local", ".envrc", "venv/bin/python", ".venv/bin/python"),
        *(
            ".vscode/a.json",
            ".DS_Store",
            "a.swp",
            ".mypy_cache/a",
            "dist/a.whl",
            "__pycache__/a.pyc",
            "a.wav",
            "id_rsa",
        ),
        *("a-new-folder/a.py", "a_new_module.py", "predict_riffusion.py.orig", "cog.yaml~", "out/riffusion/audio.wav"),
        *("lib/__pycache__/a.pyc", "lib/audio/a.pyc", "lib/.env", "lib/audio/.env.local", "lib/node_modules/a.js"),
        *("weights/riffusion.unfinished/unet/config.json", "weights/riffusion/.cache/huggingface/a", "weights/.env"),
    ]
    assert [path for path in planted if not ignored(RULES, path)] == []


# What a container does at its start, and a short prediction. All models run in one process, since importing PyTorch
# takes seconds; each has a predictor and weights of its own.
BEGIN = """
import torch, yaml
from cog.predictor import load_predictor_from_ref
from pathlib import Path
import lib
from lib.deforum import Recipe
assert Path(lib.__file__).parent.parent == Path.cwd()
"""
PROGRAM = """
predictor = load_predictor_from_ref(yaml.safe_load(Path({config!r}).read_text())["run"])
type(predictor).recipe, type(predictor).min_frames = Recipe(size_px=128, steps=15), 2
predictor.setup()
output = predictor.run(**{inputs})
files = [output] if isinstance(output, Path) else [output.audio, output.spectrogram]
assert predictor.healthcheck()
assert all(path.stat().st_size > 1000 for path in files)
"""
SHORT: dict[str, dict[str, object]] = {
    "riffusion": {"num_inference_steps": 2},
    "walk": {"bars": 2, "num_inference_steps": 2},
    "deforum": {"max_frames": 2, "animation_prompts": "0: a"},
    "music-video": {"max_frames": 2, "num_inference_steps": 2, "width": 256, "height": 256, "bpm": 120},
}


def copy_of_the_build(source: Path) -> None:
    """Copy what a build gets, without the files that git ignores."""
    for name in tracked("."):
        if not ignored(RULES, name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name)


def test_a_build_gets_enough_to_predict(tmp_path: Path) -> None:
    source = tmp_path / "src"
    copy_of_the_build(source)
    program = BEGIN
    for model, short in SHORT.items():
        properties = input_schemas(ROOT / f"predict_{module_name(model)}.py")["Input"]["properties"]
        inputs = {name: about["default"] for name, about in properties.items()} | short
        program += PROGRAM.format(inputs=inputs, config=CONFIGS[model])
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": ".",
        "WEIGHTS": "small",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "OMP_WAIT_POLICY": "passive",
        "TMPDIR": str(tmp_path),
    }
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("Using the small model.") == len(CONFIGS)
