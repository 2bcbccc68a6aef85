"""Imports run one way, folder by folder: a folder imports itself, and the folders that its row names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = {path.stem.removeprefix("predict_") for path in ROOT.glob("predict_*.py")}
LIB = {"lib", "lib.diffusion", "lib.audio", "lib.animation"}
RECORD = {"gateway", "gateway.record"}

# The flat modules of lib/ are "lib", but for those named after a model; the flat modules of gateway/ are "gateway",
# but for what puts a process together: app, and what is run or called from a shell.
MAY_IMPORT: dict[str, set[str]] = {
    "lib": set(),
    "lib.diffusion": {"lib"},
    "lib.audio": {"lib"},
    "lib.animation": {"lib"},
    "models": LIB,
    "predictors": LIB | {"models"},
    "workshop": LIB | {"models"},
    "gateway": set(),
    "gateway.record": {"gateway"},
    "gateway.api": RECORD,
    "gateway.work": RECORD,
    "gateway.webhooks": RECORD,
    "gateway.serve": {"gateway"},
    "gateway processes": RECORD | {"gateway.api", "gateway.work", "gateway.webhooks", "gateway.serve"},
    "local": LIB | RECORD | {"models", "predictors", "gateway.serve", "gateway processes"},
    "docs": {"local"},
    "bench": LIB | {"models", "predictors", "workshop", "local", "gateway.serve"},
}
PROCESSES = {"gateway.app", "gateway.command", "gateway.models", "gateway.tokens"}
RULES = "gateway.webhooks.rules"  # data and rules that the API and the deliveries share
# Who of the gateway knows a library; who does not may not import it.
KNOWS: dict[str, set[str]] = {
    "psycopg": {"gateway.record"},
    "psycopg_pool": {"gateway.record"},
    "httpx": {"gateway", "gateway.work", "gateway.webhooks", "gateway.api"},
    "httpcore": {"gateway", "gateway.work", "gateway.webhooks"},
    "standardwebhooks": {"gateway.webhooks"},
    "torch": set(),
    "cog": set(),
}


def modules_under(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


MODULES = [
    *sorted(ROOT.glob("predict_*.py")),
    *(path for folder in ("lib", "workshop", "gateway", "local", "docs", "bench") for path in modules_under(folder)),
]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_ours(module: str) -> bool:
    path = ROOT / module.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def part_of(module: str) -> str:
    """Return the part of the tree that a module belongs to, as MAY_IMPORT names it."""
    top, _, rest = module.partition(".")
    below = rest.partition(".")[0]
    if top.startswith("predict_"):
        return "predictors"
    if top == "lib" and below.removesuffix("_request") in MODELS:
        return "models"
    if module == RULES:
        return "gateway"
    if top == "gateway" and (module in PROCESSES or module.endswith("__main__")):
        return "gateway processes"
    return f"{top}.{below}" if top in ("lib", "gateway") and below and (ROOT / top / below).is_dir() else top


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            module = str(node.module)
            parts = {f"{module}.{alias.name}" for alias in node.names}
            names |= {part if is_ours(part) else module for part in parts}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    module = dotted(path)
    own = part_of(module)
    for name in imports(path):
        library = name.partition(".")[0]
        if library == "cog":
            assert own in ("predictors", "bench"), f"{module} imports cog"
        if own.startswith("gateway") and library in KNOWS:
            knowing = KNOWS[library]
            put_together = own == "gateway processes" and knowing
            assert own in knowing or put_together, f"{module} ({own}) imports {name}"
        if is_ours(name) and name not in {"gateway"}:
            other = part_of(name)
            assert other == own or other in MAY_IMPORT[own], f"{module} ({own}) imports {name} ({other})"


def test_every_folder_has_a_row() -> None:
    assert {part_of(dotted(path)) for path in MODULES if path.name != "__init__.py"} == MAY_IMPORT.keys()


def test_one_module_of_the_gateway_knows_coglet() -> None:
    """Its paths and its words stand in one place."""
    knowing = {
        dotted(path)
        for path in modules_under("gateway")
        if "health-check" in path.read_text(encoding="utf-8") or 'SETUP_FAILED"' in path.read_text(encoding="utf-8")
    }
    assert knowing == {"gateway.work.coglet"}


def test_the_record_stays_small() -> None:
    """Its modules are the densest sheet of the project: a new one must replace another."""
    assert len(modules_under("gateway/record")) <= 14
