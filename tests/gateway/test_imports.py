"""The gateway's imports run one way: app -> api | work | hooks -> prediction, settings, catalog ... -> record."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
MIDDLE = {"api", "work", "hooks"}
TOP = {"gateway", "gateway.app", "gateway.__main__", "gateway.work.__main__", "gateway.tokens"}  # they put it together
# Who may use what.
ONLY = {
    "psycopg": {"record"},
    "psycopg_pool": {"record"},
    "httpx": {"work", "hooks"},
    "httpcore": {"work", "hooks"},
    "standardwebhooks": {"hooks"},
}
NEVER = {"torch", "cog", "lib", "local", "workshop", "tests", "bench", "predict_riffusion", "predict_deforum"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    """Return the folder of a module such as gateway.api.models; of a flat one, "flat"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in MIDDLE | {"record"} else "flat"


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            modules = {f"gateway.{alias.name}" for alias in node.names} if node.module == "gateway" else {node.module}
            names |= {str(name) for name in modules}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    module = dotted(path)
    own = room(module)
    for name in imports(path):
        package = name.split(".")[0]
        assert package not in NEVER, f"{module} imports {name}"
        if package in ONLY:
            assert own in ONLY[package], f"{module} imports {name}"
        if package != "gateway" or module in TOP:
            continue
        other = room(name)
        allowed = {"api": {"flat", "record"}, "work": {"flat", "record"}, "hooks": {"flat", "record"}}
        below = {"flat": {"record"}, "record": set[str]()}
        assert other == own or other in (allowed | below)[own] or name == "gateway.settings", f"{module} imports {name}"
        assert name not in TOP - {"gateway"}, f"{module} imports {name}"


def test_one_module_knows_coglet() -> None:
    """Its paths and its words stand in one place."""
    knowing = {
        dotted(path) for path in MODULES if "health-check" in path.read_text() or 'SETUP_FAILED"' in path.read_text()
    }
    assert knowing == {"gateway.work.coglet"}
