"""Write the tables of inputs in docs/ from the schemas: `script/tables`."""

import json
import re
from pathlib import Path
from typing import NotRequired, TypedDict, cast

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("riffusion", "deforum")
BEGIN, END = "<!-- inputs: script/tables writes this -->", "<!-- /inputs -->"
HEAD = ["| input | type | default | allowed | description |", "| --- | --- | --- | --- | --- |"]


class About(TypedDict):
    """One input as a schema describes it."""

    type: str
    description: str
    default: NotRequired[str | float]
    enum: NotRequired[list[str]]
    minimum: NotRequired[float]
    maximum: NotRequired[float]


def main() -> None:
    """Write the table of each model into its page."""
    for model in MODELS:
        page = page_of(model)
        page.write_text(with_table(page.read_text(encoding="utf-8"), table(model)), encoding="utf-8")


def page_of(model: str) -> Path:
    """Return the page of a model."""
    return ROOT / "docs" / f"{model}.md"


def with_table(text: str, table: str) -> str:
    """Return a page's text with `table` between the marks.

    Raises:
        ValueError: the page has no such marks, or several.
    """
    replaced, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.S
    )
    if count != 1:
        raise ValueError(f"the page has {count} places for a table, but must have one, between {BEGIN} and {END}")
    return replaced


def table(model: str) -> str:
    """Return the inputs of `model` as a Markdown table: documented words and values, in the order of its predictor."""
    generated = json.loads((ROOT / "schema" / f"{model}.openapi.json").read_text(encoding="utf-8"))
    documented = json.loads((ROOT / "schema" / f"{model}.documented.json").read_text(encoding="utf-8"))
    properties = cast(dict[str, About], documented["properties"])
    return "\n".join(
        [*HEAD, *(row(name, properties[name]) for name in generated["components"]["schemas"]["Input"]["properties"])]
    )


def row(name: str, about: About) -> str:
    """Return one input's row."""
    default = f"`{about['default']}`" if "default" in about else ""
    # What Cog writes where a list of choices has no description says nothing.
    description = "" if about["description"] == "An enumeration." else about["description"].replace("|", "\\|")
    return f"| `{name}` | {about['type']} | {default} | {allowed(about)} | {description} |"


def allowed(about: About) -> str:
    """Say which values an input takes, nothing if its type says all."""
    if "enum" in about:
        return ", ".join(f"`{choice}`" for choice in about["enum"])
    if "minimum" not in about:
        return ""
    return f"{about['minimum']} to {about['maximum']}" if "maximum" in about else f"{about['minimum']} or more"


if __name__ == "__main__":
    main()
