"""The predictor, the documented schema, the committed generated schema and lib's inputs agree.

schema/NAME.documented.json is the documented API of the two models that existed before. schema/NAME.openapi.json is
what Cog generates from the predictor; the server validates requests against it.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from lib import deforum_request, music_video_request, riffusion_request, walk_request
from lib.diffusion.schedule import MAX_STEPS
from lib.errors import UserError
from local import ROOT
from local.inputs import module_name
from tests.contract.schema_of import as_documented, input_schemas, output_schema

INPUTS: dict[str, Any] = {
    "riffusion": riffusion_request.Inputs(),
    "deforum": deforum_request.Inputs(),
    "walk": walk_request.Inputs(bars=walk_request.MAX_BARS),  # with all bars, every start_bar is valid
    "music-video": music_video_request.Inputs(),
}
DOCUMENTED = ("riffusion", "deforum")
MODELS = [path.stem.removeprefix("predict_").replace("_", "-") for path in sorted(ROOT.glob("predict_*.py"))]
ADVICE = "change the predictor of {0} back, or schema/{0}.openapi.json with it (`cog build` writes it to .cog/)"


def predictor_file(model: str) -> Path:
    return ROOT / f"predict_{module_name(model)}.py"


def committed(model: str, kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((ROOT / "schema" / f"{model}.{kind}.json").read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("model", DOCUMENTED)
def test_the_predictor_agrees_with_the_documented_schema(model: str) -> None:
    predictor = as_documented(input_schemas(predictor_file(model)))
    assert predictor == committed(model, "documented"), ADVICE.format(model)


@pytest.mark.parametrize("model", MODELS)
def test_the_committed_schema_agrees_with_the_predictor(model: str) -> None:
    schemas = committed(model, "openapi")["components"]["schemas"]
    predictor = input_schemas(predictor_file(model))
    assert predictor == {name: schemas[name] for name in predictor}, ADVICE.format(model)
    assert list(predictor["Input"]["properties"]) == list(schemas["Input"]["properties"]), ADVICE.format(model)
    assert output_schema(predictor_file(model)) == schemas["Output"], ADVICE.format(model)


@pytest.mark.parametrize("model", MODELS)
def test_lib_has_the_same_names_and_defaults(model: str) -> None:
    documented = {name: about["default"] for name, about in properties(model).items()}
    # A missing seed is drawn at random; riffusion's seed is not a documented input.
    assert {**asdict(type(INPUTS[model])()), "seed": None} == {**documented, "seed": None}


@pytest.mark.parametrize("model", MODELS)
def test_lib_accepts_every_choice_and_bound_and_nothing_beyond(model: str) -> None:
    schemas = input_schemas(predictor_file(model))
    for name, about in properties(model).items():
        for choice in schemas.get(name, {}).get("enum", []):
            assert read(model, name, choice) == choice
        for bound, beyond in (("minimum", -1), ("maximum", 1)):
            if bound in about:
                assert read(model, name, about[bound]) == about[bound]
                with pytest.raises(UserError, match=rf"^{name} is "):
                    read(model, name, about[bound] + beyond)


def test_lib_rejects_more_steps_than_the_schedule_has() -> None:
    """The documented schema has no upper bound for the steps."""
    assert "maximum" not in properties("riffusion")["num_inference_steps"]
    assert read("riffusion", "num_inference_steps", MAX_STEPS) == 1000
    with pytest.raises(UserError, match=r"^num_inference_steps is 1001, but must be a whole number from 1 to 1000$"):
        read("riffusion", "num_inference_steps", MAX_STEPS + 1)


def properties(model: str) -> dict[str, Any]:
    found: dict[str, Any] = input_schemas(predictor_file(model))["Input"]["properties"]
    return found


def read(model: str, name: str, value: object) -> object:
    """Return the value in the request made of an input."""
    changes: dict[str, Any] = {name: value}
    return getattr(replace(INPUTS[model], **changes).request().inputs, name)
