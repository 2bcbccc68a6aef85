"""Every request that the OpenAPI document allows gets a response that it describes."""

from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.gateway.processes import FAKE_VERSION, System

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
