"""Write the tables of inputs in docs/ from the schemas: `script/make tables`."""

import re
from pathlib import Path

from local import ROOT
from local.inputs import MODELS, Input, inputs_of

BEGIN, END = "<!-- inputs: written by script/make tables -->", "<!-- /inputs -->"
HEAD = ["| input | values | default | description |", "| --- | --- | --- | --- |"]


def main() -> None:
    """Write the table of each model into its page."""
    for model in MODELS:
        page = page_of(model)
        page.write_text(with_table(page.read_text(encoding="utf-8"), table(model)), encoding="utf-8")


def page_of(model: str) -> Path:
    """Return the page of a model."""
    return ROOT / "docs" / f"{model}.md"


def with_table(text: str, table: str) -> str:
    """Return the text of a page with `table` between its markers.

    Raises:
        ValueError: the page doesn't have exactly one pair of markers.
    """
    place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    replaced, count = place.subn(lambda _: f"{BEGIN}\n{table}\n{END}", text)
    if count != 1:
        raise ValueError(f"the page has {count} places for a table instead of one between {BEGIN} and {END}")
    return replaced


def table(model: str) -> str:
    """Return the inputs of `model` as a Markdown table, in the predictor's order."""
    return "\n".join([*HEAD, *map(row, inputs_of(model).values())])


def row(one: Input) -> str:
    """Return the row of one input."""
    takes = ", ".join(f"`{choice}`" for choice in one.choices) or one.allowed
    default = one.default_text and f"`{one.default_text}`"
    # Cog's description of a list of choices that has none of its own.
    description = "" if one.description == "An enumeration." else one.description.replace("|", "\\|")
    return f"| `{one.name}` | {takes} | {default} | {description} |"


if __name__ == "__main__":
    main()
