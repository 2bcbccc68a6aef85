"""Run one prediction in this process, with inputs as `cog predict` takes them."""

import argparse
import importlib
import json
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("riffusion", "deforum")


def main() -> None:
    """Parse the command line, run the model, move its files to the output folder."""
    parser = argparse.ArgumentParser(prog="script/predict", description="Run one prediction without Docker.")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("-i", "--input", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="where the files go (default: out/MODEL)")
    arguments = parser.parse_args()
    properties = input_schema(arguments.model)
    try:
        inputs = parse_inputs(arguments.input, properties)
    except ValueError as error:
        parser.error(str(error))

    folder = arguments.output or Path("out") / arguments.model
    # Imported late: it takes seconds, and a wrong command line should not.
    from lib.errors import UserError

    try:
        # The face verifies too, but only after minutes of loading weights.
        story = importlib.import_module(f"lib.{arguments.model}")
        story.Request.verified(**{**inputs, "seed": 0 if inputs.get("seed") is None else inputs["seed"]})
        make(folder)
        predictor = importlib.import_module(f"predict_{arguments.model}").Predictor()
        predictor.setup()
        output = predictor.run(**inputs)
    except UserError as error:
        sys.exit(f"script/predict: {error}")
    for path in save(output, folder):
        print(f"Wrote {path}")


def input_schema(model: str) -> dict[str, Any]:
    """Return the properties of the model's inputs, in the order of its face."""
    schema = json.loads((ROOT / "schema" / f"{model}.openapi.json").read_text(encoding="utf-8"))
    properties: dict[str, Any] = schema["components"]["schemas"]["Input"]["properties"]
    return properties


def parse_inputs(assignments: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    """Return a value for every input: the given ones in the type that the schema says, the others' defaults."""
    inputs = {name: about.get("default") for name, about in properties.items()}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"-i takes NAME=VALUE, not {assignment!r}")
        if name not in properties:
            raise ValueError(f"there is no input {name!r}; the inputs are {', '.join(properties)}")
        if text or properties[name].get("type") == "string":
            inputs[name] = typed(text, properties[name].get("type"))  # a number left blank keeps its default
    return inputs


def typed(text: str, json_type: str | None) -> str | float:
    """Return `text` as a number where the schema wants one and it is one; a request refuses what is left."""
    if json_type in ("integer", "number"):
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def make(folder: Path) -> None:
    """Make the output folder, before there is a result that could find no place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"script/predict: -o is {folder}, but there can be no such folder: {error.strerror}")


def save(output: Any, folder: Path) -> list[Path]:
    """Move the files of an output to `folder` and return where they are."""
    outputs = [output] if isinstance(output, Path) else [getattr(output, name) for name in type(output).__annotations__]
    moved = [Path(shutil.move(path, folder / path.name)) for path in outputs]
    for parent in {path.parent for path in outputs}:
        shutil.rmtree(parent)
    return moved


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C, no half-done output stays behind
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
