"""Imports run one way: predict_* -> stories -> audio, animation -> diffusion -> weights, device, errors."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOUNDATION = {"device", "errors", "inputs", "outputs", "probe", "progress", "weights"}
STORIES = {"deforum", "deforum_request", "riffusion", "riffusion_request"}

# What the modules of each room may import from the others.
ALLOWED = {
    "foundation": set(),
    "diffusion": {"foundation"},
    "audio": {"foundation", "diffusion"},
    "animation": {"foundation", "diffusion"},
    "stories": {"foundation", "diffusion", "audio", "animation"},
}
MODULES = sorted((ROOT / "lib").rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room(module: str) -> str:
    """Return the room of a module such as lib.audio.encode."""
    top = module.split(".")[1]
    return "foundation" if top in FOUNDATION else "stories" if top in STORIES else top


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules = [f"lib.{alias.name}" for alias in node.names] if node.module == "lib" else [str(node.module)]
            names.update(modules)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    module = dotted(path)
    if module == "lib.__init__":
        assert not imports(path)
        return
    own = room(module)
    for name in imports(path):
        assert name.split(".")[0] != "cog", f"{module} imports cog"
        assert not name.startswith(("predict_", "workshop", "tests", "bench")), f"{module} imports {name}"
        if name.startswith("lib."):
            other = room(name)
            assert other == own or other in ALLOWED[own], f"{module} ({own}) imports {name} ({other})"


def test_every_module_has_a_room() -> None:
    assert {room(dotted(path)) for path in MODULES if dotted(path) != "lib.__init__"} == set(ALLOWED)
