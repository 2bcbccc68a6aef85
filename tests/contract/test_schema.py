"""The predictor, the documented schema, the committed generated schema and lib's inputs are one.

schema/NAME.documented.json is the API as it was always documented; schema/NAME.openapi.json is what Cog's
generator makes of the predictor, which the server validates requests with.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lib import deforum_request, riffusion_request
from lib.diffusion.timesteps import MAX_STEPS
from lib.errors import UserError
from tests.contract.schema_of import as_documented, input_schemas, output_schema

ROOT = Path(__file__).resolve().parent.parent.parent
INPUTS: dict[str, riffusion_request.Inputs | deforum_request.Inputs] = {
    "riffusion": riffusion_request.Inputs(),
    "deforum": deforum_request.Inputs(),
}
MODELS = [path.stem.removeprefix("predict_") for path in sorted(ROOT.glob("predict_*.py"))]
ADVICE = "change predict_{0}.py back, or schema/{0}.openapi.json with it (`cog build` writes it to .cog/)"


def committed(model: str, kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((ROOT / "schema" / f"{model}.{kind}.json").read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("model", MODELS)
def test_the_predictor_is_what_is_documented(model: str) -> None:
    predictor = as_documented(input_schemas(ROOT / f"predict_{model}.py"))
    assert predictor == committed(model, "documented"), ADVICE.format(model)


@pytest.mark.parametrize("model", MODELS)
def test_the_committed_schema_is_that_of_the_predictor(model: str) -> None:
    schemas = committed(model, "openapi")["components"]["schemas"]
    predictor = input_schemas(ROOT / f"predict_{model}.py")
    assert predictor == {name: schemas[name] for name in predictor}, ADVICE.format(model)
    assert list(predictor["Input"]["properties"]) == list(schemas["Input"]["properties"]), ADVICE.format(model)
    assert output_schema(ROOT / f"predict_{model}.py") == schemas["Output"], ADVICE.format(model)


@pytest.mark.parametrize("model", MODELS)
def test_lib_has_the_same_names_and_defaults(model: str) -> None:
    documented = {name: about["default"] for name, about in properties(model).items()}
    # A seed that is left out is drawn; riffusion's is no documented input.
    assert {**asdict(INPUTS[model]), "seed": None} == {**documented, "seed": None}


@pytest.mark.parametrize("model", MODELS)
def test_lib_takes_every_choice_and_bound_and_nothing_beyond(model: str) -> None:
    schemas = input_schemas(ROOT / f"predict_{model}.py")
    for name, about in properties(model).items():
        for choice in schemas.get(name, {}).get("enum", []):
            assert read(model, name, choice) == choice
        for bound, beyond in (("minimum", -1), ("maximum", 1)):
            if bound in about:
                assert read(model, name, about[bound]) == about[bound]
                with pytest.raises(UserError, match=rf"^{name} is "):
                    read(model, name, about[bound] + beyond)


def test_lib_refuses_what_a_schedule_has_no_room_for() -> None:
    """The documented schema has no upper bound for the steps."""
    assert "maximum" not in properties("riffusion")["num_inference_steps"]
    assert read("riffusion", "num_inference_steps", MAX_STEPS) == 1000
    with pytest.raises(UserError, match=r"^num_inference_steps is 1001, but must be a whole number from 1 to 1000$"):
        read("riffusion", "num_inference_steps", MAX_STEPS + 1)


def properties(model: str) -> dict[str, Any]:
    found: dict[str, Any] = input_schemas(ROOT / f"predict_{model}.py")["Input"]["properties"]
    return found


def read(model: str, name: str, value: object) -> object:
    """Return what a request has for an input of this value."""
    changes: dict[str, Any] = {name: value}
    return getattr(replace(INPUTS[model], **changes).request().inputs, name)


@pytest.mark.parametrize("model", MODELS)
def test_descriptions_are_plain_one_line_literals(model: str) -> None:
    """Cog's reader takes the raw text of a literal: joined, bracketed or escaped ones come out wrong."""
    source = (ROOT / f"predict_{model}.py").read_text(encoding="utf-8")
    for about in committed(model, "documented")["properties"].values():
        if about["description"] != "An enumeration.":
            assert f'description="{about["description"]}"' in source
