"""The OpenAPI document agrees with the two pages that Replicate published, and the responses with the document."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from gateway.api.openapi import model_document
from gateway.catalog_files import CatalogFiles
from tests.gateway.processes import CATALOG, FAKE_VERSION, System, Token

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


CHECKS = [
    *(not_a_server_error, checks.status_code_conformance, checks.content_type_conformance),
    *(checks.response_headers_conformance, checks.response_schema_conformance),
]

steady = settings(
    max_examples=16,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with fewer values to choose from, among them names that exist."""
    names = {
        "owner": ["test"],
        "name": ["fake", "deployed"],
        "version_id": [FAKE_VERSION, "x"],
        "sort_by": ["model_created_at", "x"],
        "sort_direction": ["asc", "x"],
        "source": ["web", "api", "x"],
        "Cancel-After": ["90s", "x"],
        "Prefer": ["wait=1", "x"],
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in names:
                    parameter["schema"] = {"enum": names[parameter["name"]]}
    body = document["paths"]["/predictions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    body["properties"]["version"]["enum"] = [FAKE_VERSION, "test/fake", "x"]
    body["properties"]["webhook"]["enum"] = ["https://example.com/hook", "x"]
    return document


def test_responses_conform_to_the_document(system: System) -> None:
    token = system.token()
    schema = schemathesis.openapi.from_dict(narrowed(token.http.get("/openapi.json").json()))
    seen: set[tuple[str, int]] = set()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token.text}"
        for found in schema.get_all_operations():
            operation = found.ok()  # type: ignore[union-attr]  # raises if it can't be read

            @steady
            @given(case=operation.as_strategy())
            def conforms(case: schemathesis.Case[Any]) -> None:
                response = case.call_and_validate(base_url=system.url, session=session, checks=CHECKS)
                seen.add((case.operation.label, response.status_code))

            conforms()
    create = "POST /models/{owner}/{name}/predictions"
    assert seen >= {("GET /predictions", 200), ("POST /predictions", 201), (create, 201), (create, 404)}
    version = "GET /models/{owner}/{name}/versions/{version_id}"
    assert seen >= {("GET /predictions/{prediction_id}", 404), (version, 200), (version, 404)}
    assert seen >= {("GET /models", 200), ("GET /models", 422), ("GET /models/{owner}/{name}/readme", 200)}
    assert not any(status == 401 for _, status in seen), "the token was not sent"
