"""Write the tables of inputs in docs/ from the schemas: `script/tables`."""

import re
from pathlib import Path

from local.inputs import MODELS, ROOT, Input, inputs_of

BEGIN, END = "<!-- inputs: script/tables writes this -->", "<!-- /inputs -->"
HEAD = ["| input | takes | default | description |", "| --- | --- | --- | --- |"]


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
    place = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    replaced, count = place.subn(lambda _: f"{BEGIN}\n{table}\n{END}", text)
    if count != 1:
        raise ValueError(f"the page has {count} places for a table, but must have one, between {BEGIN} and {END}")
    return replaced


def table(model: str) -> str:
    """Return the inputs of `model` as a Markdown table, in the order of its predictor."""
    return "\n".join([*HEAD, *map(row, inputs_of(model).values())])


def row(one: Input) -> str:
    """Return one input's row."""
    takes = ", ".join(f"`{choice}`" for choice in one.choices) or one.allowed
    default = "" if one.default is None else f"`{one.default}`"
    # What Cog writes where a list of choices has no description says nothing.
    description = "" if one.description == "An enumeration." else one.description.replace("|", "\\|")
    return f"| `{one.name}` | {takes} | {default} | {description} |"


if __name__ == "__main__":
    main()
