"""The face, the documented schema and the committed generated schema are one.

schema/NAME.documented.json is the API as it was always documented; schema/NAME.openapi.json is what Cog's
generator makes of the face, which the server validates requests with.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from lib import deforum
from lib.animation.color import COLOR_COHERENCE
from lib.audio.seed_images import SEED_IMAGE_IDS
from lib.diffusion.samplers import SAMPLERS
from tests.contract.schema_of import as_documented, input_schemas, output_schema

ROOT = Path(__file__).resolve().parent.parent.parent
MODELS = [path.stem.removeprefix("predict_") for path in sorted(ROOT.glob("predict_*.py"))]
ADVICE = "change predict_{0}.py back, or schema/{0}.openapi.json with it (`cog build` writes it to .cog/)"


def committed(model: str, kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((ROOT / "schema" / f"{model}.{kind}.json").read_text(encoding="utf-8"))
    return schema


@pytest.mark.parametrize("model", MODELS)
def test_the_face_is_what_is_documented(model: str) -> None:
    face = as_documented(input_schemas(ROOT / f"predict_{model}.py"))
    assert face == committed(model, "documented"), ADVICE.format(model)


@pytest.mark.parametrize("model", MODELS)
def test_the_committed_schema_is_that_of_the_face(model: str) -> None:
    schemas = committed(model, "openapi")["components"]["schemas"]
    face = input_schemas(ROOT / f"predict_{model}.py")
    assert face == {name: schemas[name] for name in face}, ADVICE.format(model)
    assert list(face["Input"]["properties"]) == list(schemas["Input"]["properties"]), ADVICE.format(model)
    assert output_schema(ROOT / f"predict_{model}.py") == schemas["Output"], ADVICE.format(model)


def test_riffusions_tables_are_those_of_the_face() -> None:
    schemas = input_schemas(ROOT / "predict_riffusion.py")
    assert schemas["seed_image_id"]["enum"] == list(SEED_IMAGE_IDS)


def test_deforums_tables_and_bounds_are_those_of_the_face() -> None:
    schemas = input_schemas(ROOT / "predict_deforum.py")
    assert sorted(schemas["sampler"]["enum"]) == sorted(SAMPLERS)
    assert sorted(schemas["color_coherence"]["enum"]) == sorted(COLOR_COHERENCE)
    bounds = {
        name: (about["minimum"], about["maximum"])
        for name, about in schemas["Input"]["properties"].items()
        if "minimum" in about
    }
    assert bounds == {
        "max_frames": (deforum.MIN_FRAMES, deforum.MAX_FRAMES),
        "fps": (deforum.MIN_FPS, deforum.MAX_FPS),
    }


@pytest.mark.parametrize("model", MODELS)
def test_descriptions_are_plain_one_line_literals(model: str) -> None:
    """Cog's reader takes the raw text of a literal: joined, bracketed or escaped ones come out wrong."""
    source = (ROOT / f"predict_{model}.py").read_text(encoding="utf-8")
    for about in committed(model, "documented")["properties"].values():
        if about["description"] != "An enumeration.":
            assert f'description="{about["description"]}"' in source
