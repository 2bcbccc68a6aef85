"""What the page's modules know of each other and of the models: a model's own views are chosen by the catalog alone."""

import json
import re
from pathlib import Path

import pytest

from gateway.catalog_files import CatalogFiles
from gateway.settings import WEB
from tests.gateway.processes import ROOT

MODELS = [model for model in CatalogFiles(ROOT / "gateway" / "catalog.json").load().models.values() if model.page]
VIEWS = {folder.name for folder in (WEB / "models").iterdir()}
FILES = [
    path for path in WEB.rglob("*") if path.suffix in (".js", ".ts", ".css", ".html") and "vendor" not in path.parts
]
WORDS = {"audio", "border", "height", "width"}  # of HTML and CSS
INPUTS = {name for model in MODELS for name in model.latest.inputs} - WORDS
IMPORT = re.compile(r"""(?:from|import)\s*\(?\s*["'](\.[^"']+)["']""")


def view_of(path: Path) -> str | None:
    """Return the model view that a file belongs to; None for the generic page."""
    parts = path.relative_to(WEB).parts
    if parts[0] == "models":
        return parts[1]
    return path.stem if parts[0] == "styles" and path.stem in VIEWS else None


def names_of(view: str) -> set[str]:
    """Return a view's name, and the owners and names of its models."""
    return {view} | {name for model in MODELS if model.page == view for name in (model.owner, model.name)}


def test_the_catalog_names_each_view_and_each_has_its_files() -> None:
    assert {model.page for model in MODELS} == VIEWS
    for view in VIEWS:
        assert (WEB / "models" / view / "index.js").is_file()
        assert (WEB / "styles" / f"{view}.css").is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(WEB)))
def test_no_module_knows_or_imports_a_model_but_its_own(path: Path) -> None:
    text, own = path.read_text(encoding="utf-8"), view_of(path)
    words = set(re.findall(r"\w+", text.lower()))
    for view in VIEWS - {own}:
        assert not words & (names_of(view) - (names_of(own) if own else set()))  # two models may have one owner
    assert own or not words & INPUTS
    for name in IMPORT.findall(text):
        assert view_of((path.parent / name).resolve()) in (None, own), f"it imports {name}"


def test_the_vendored_library_is_the_published_one() -> None:
    version = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]["htm"]
    vendored = WEB / "vendor" / f"htm-preact-{version}.js"
    published = ROOT / "node_modules" / "htm" / "preact" / "standalone.module.js"
    assert vendored.read_bytes() == published.read_bytes()
