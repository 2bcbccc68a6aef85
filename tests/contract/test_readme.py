"""The README's tables of inputs are those of the documented schema."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def allowed(about: dict[str, Any]) -> str:
    if "enum" in about:
        return ", ".join(f"`{choice}`" for choice in about["enum"])
    if "maximum" in about:
        return f"{about['minimum']} to {about['maximum']}"
    return f"{about['minimum']} or more" if "minimum" in about else ""


def table(model: str) -> str:
    generated = json.loads((ROOT / "schema" / f"{model}.openapi.json").read_text(encoding="utf-8"))
    documented = json.loads((ROOT / "schema" / f"{model}.documented.json").read_text(encoding="utf-8"))
    rows = ["| input | type | default | allowed | description |", "| --- | --- | --- | --- | --- |"]
    for name in generated["components"]["schemas"]["Input"]["properties"]:
        about = documented["properties"][name]
        default = f"`{about['default']}`" if "default" in about else ""
        description = "" if about["description"] == "An enumeration." else about["description"].replace("|", "\\|")
        rows.append(f"| `{name}` | {about['type']} | {default} | {allowed(about)} | {description} |")
    return "\n".join(rows)


@pytest.mark.parametrize("model", ["riffusion", "deforum"])
def test_the_table_of_inputs_is_the_schemas(model: str) -> None:
    assert table(model) in (ROOT / "README.md").read_text(encoding="utf-8"), f"README.md needs\n{table(model)}"
