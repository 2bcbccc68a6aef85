"""The documentation agrees with the files, inputs and versions that it describes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.make.tables import page_of, table, with_table
from gateway import version
from lib.animation.operations import FUNCTIONS, VARIABLES
from lib.animation.soundtrack import MUSIC
from local import ROOT
from local.inputs import MODELS

LISTING = ["git", "ls-files", "*.md"]
NAMES = subprocess.check_output(LISTING, cwd=ROOT, text=True).splitlines()
PAGES = sorted(ROOT / name for name in NAMES if (ROOT / name).is_file())
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("model", MODELS)
def test_the_table_of_inputs_agrees_with_the_schema(model: str) -> None:
    page = text_of(page_of(model))
    assert page == with_table(page, table(model)), "run script/make tables"
    assert len(table(model).splitlines()) > 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_have_targets(page: Path) -> None:
    for target in LINK.findall(text_of(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_blocks_are_well_formed(page: Path) -> None:
    for language, block in re.findall(r"^```(sh|yaml|json)\n(.*?)^```", text_of(page), re.MULTILINE | re.DOTALL):
        if language == "sh":
            subprocess.run(["/bin/bash", "-n"], input=block, text=True, check=True)
        elif language == "yaml":
            yaml.safe_load(re.sub(r"!(reset|override) ", "", block))  # Compose's own tags
        else:
            json.loads(block)


def test_the_page_of_deforum_lists_every_variable_and_function_of_expressions() -> None:
    known = text_of(page_of("deforum")).partition("Expressions know:")[2].partition("##")[0]
    written = set(re.findall(r"[a-z_][a-z_0-9]*", " ".join(re.findall(r"`([^`]+)`", known))))
    assert written - {"condition", "a", "b"} == {*VARIABLES, *FUNCTIONS}


def test_the_page_of_music_video_lists_every_variable_and_function_that_follows_music() -> None:
    known = text_of(page_of("music-video")).partition("## Expressions")[2].partition("| string | effect |")[0]
    cells = re.findall(r"^\| (`.+?`) \|", known, re.MULTILINE)
    written = {name for cell in cells for name in re.findall(r"`([a-z_]+)", cell)}
    assert written == {*MUSIC.variables, *MUSIC.functions} - {*VARIABLES, *FUNCTIONS}


def test_every_script_is_listed() -> None:
    listed = set(re.findall(r"^\| `script/([\w-]+)", text_of(ROOT / "script" / "README.md"), re.MULTILINE))
    assert listed == {path.name for path in (ROOT / "script").iterdir() if path.suffix != ".md"}


def test_the_version_is_the_newest_release_in_the_changelog() -> None:
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert released[0] == version()


def test_scripts_report_the_version() -> None:
    for program in ("local.predict", "local.serve"):
        command = [sys.executable, "-m", program, "--version"]
        assert subprocess.check_output(command, cwd=ROOT, text=True).strip() == version()
