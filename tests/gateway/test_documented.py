"""The gateway's OpenAPI document agrees with the two pages that Replicate published."""

import json
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from gateway.api.openapi import model_document
from gateway.catalog_files import CatalogFiles
from tests.gateway.processes import CATALOG, Token

MODELS = {"riffusion": "riffusion/riffusion", "deforum": "deforum/deforum_stable_diffusion"}


def documented(name: str) -> dict[str, Any]:
    page: dict[str, Any] = json.loads((Path(__file__).parent / "documented" / f"{name}.json").read_text())
    return page


def parameters(operation: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("name", "in", "required", "description")
    return [
        {name: parameter[name] for name in names} | {"type": parameter["schema"].get("type", "string")}
        for parameter in operation["parameters"]
    ]


@pytest.mark.parametrize("name", MODELS)
def test_a_models_document_agrees_with_its_published_page(token: Token, name: str) -> None:
    page = token.http.get(f"/models/{MODELS[name]}/openapi.json").json()
    published = documented(name)
    assert page["info"] == {key: published[key] for key in ("title", "version", "description")}
    operations = {
        (method.upper(), path): operation
        for path, methods in page["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == {(operation["method"], operation["path"]) for operation in published["operations"]}
    for operation in published["operations"]:
        ours = operations[operation["method"], operation["path"]]
        assert (ours["summary"], ours["description"]) == (operation["summary"], operation["description"])
        ours_parameters = parameters(ours)
        for parameter in operation["parameters"]:
            assert parameter in ours_parameters
        added = [parameter for parameter in ours_parameters if parameter not in operation["parameters"]]
        assert not any(parameter["required"] for parameter in added), "existing clients don't send what we added"
        if "body" in operation:
            assert ours["requestBody"]["content"]["application/json"]["schema"] == operation["body"]
    assert sum("body" in operation for operation in published["operations"]) == 1


@pytest.mark.parametrize(
    "path", ["/openapi.json", *(f"/models/{name}/openapi.json" for name in [*MODELS.values(), "test/fake"])]
)
def test_each_document_is_valid_and_all_its_references_resolve(token: Token, path: str) -> None:
    document = token.http.get(path).json()
    validate(document)
    assert "HTTPValidationError" not in json.dumps(document)


def test_a_models_document_has_the_schemas_that_its_inputs_refer_to(token: Token, tmp_path: Path) -> None:
    schema = json.loads(Path(__file__).with_name("fake.openapi.json").read_text())
    schemas = schema["components"]["schemas"]
    schemas["Style"] = {"type": "string", "enum": ["oil", "ink"]}
    schemas["Layer"] = {"type": "object", "properties": {"style": {"$ref": "#/components/schemas/Style"}}}
    layers = {"type": "array", "items": {"$ref": "#/components/schemas/Layer"}, "x-order": 9}
    schemas["Input"]["properties"]["layers"] = layers
    (tmp_path / "fake.openapi.json").write_text(json.dumps(schema))
    (tmp_path / "catalog.json").write_text(json.dumps({"models": [fake_entry() | {"readme": None}]}))
    model = CatalogFiles(tmp_path / "catalog.json").load().models["test/fake"]
    document = model_document(token.http.get("/openapi.json").json(), model, "http://x")
    validate(document)
    assert document["components"]["schemas"].keys() == {"Layer", "Style"}


def fake_entry() -> dict[str, Any]:
    models = json.loads(CATALOG.read_text())["models"]
    found: dict[str, Any] = next(model for model in models if model["name"] == "fake")
    return found
