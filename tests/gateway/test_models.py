"""Models, their versions, READMEs and examples, deployments, and the filters of lists."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog_files import CatalogError, CatalogFiles
from tests.gateway.processes import CATALOG, FAKE, FAKE_VERSION, System, Token
from tests.gateway.receiver import Receiver
from tests.gateway.test_routes import error_of

DEPLOYED = "test/deployed"


def names(token: Token, **query: str) -> list[str]:
    answer = token.http.get("/models", params=query)
    assert answer.status_code == 200, answer.text
    return [f"{model['owner']}/{model['name']}" for model in answer.json()["results"]]


def test_all_clients_browse_the_models_and_deployments(token: Token) -> None:
    empty: list[list[Any]] = [[], [], []]
    python1 = token.python1("browse", model=FAKE, deployment=DEPLOYED)
    assert python1 == {"example": "hi", "deployments": [DEPLOYED], "release": [FAKE, FAKE_VERSION], "empty": empty}
    python2 = token.python2("browse", owner="test", name="fake", deployment_owner="test", deployment_name="deployed")
    assert python2["oldest"][0] == FAKE
    assert python2 == {
        "official": True,
        "readme": CATALOG.with_name("fake.md").read_text(),
        "examples": ["hi", None],
        "oldest": python2["oldest"],
        "deployments": [DEPLOYED],
        "release": FAKE_VERSION,
        "deployment": DEPLOYED,
        "empty": empty,
    }
    javascript = token.javascript("browse", owner="test", name="deployed")
    expected = {"deployments": [DEPLOYED], "release": FAKE_VERSION, "deployment": DEPLOYED, "empty": empty}
    assert javascript == expected


def test_a_prediction_keeps_the_deployment_it_was_created_with(token: Token, receiver: Receiver) -> None:
    body = {"input": {}, "webhook": f"{receiver.url}/hook", "webhook_events_filter": ["completed"]}
    created = token.http.post(f"/deployments/{DEPLOYED}/predictions", json=body).json()
    assert created["deployment"] == DEPLOYED
    assert token.ended(created["id"])["deployment"] == DEPLOYED
    token.system.until(lambda: receiver.deliveries)
    assert json.loads(receiver.deliveries[0].body)["deployment"] == DEPLOYED
    assert "deployment" not in token.create()
    listed = token.http.get("/predictions").json()["results"]
    assert [row.get("deployment") for row in listed] == [None, DEPLOYED]


def test_a_deployment_counts_its_servers(system: System, token: Token) -> None:
    def configuration() -> dict[str, Any]:
        release = token.http.get(f"/deployments/{DEPLOYED}").json()["current_release"]
        found: dict[str, Any] = release["configuration"]
        return found

    system.until(lambda: configuration()["max_instances"] == 1)
    assert configuration() == {"hardware": "self-hosted", "min_instances": 1, "max_instances": 1}
    error_of(token.http.get("/deployments/test/fake"), 404)


def test_models_are_sorted_as_asked(token: Token) -> None:
    assert names(token, sort_by="model_created_at", sort_direction="asc")[0] == FAKE  # of January, the others later
    assert names(token, sort_by="model_created_at", sort_direction="desc")[-1] == FAKE
    assert names(token) == names(token, sort_by="latest_version_created_at", sort_direction="desc")
    assert names(token, sort_direction="asc")[0] == FAKE
    for query in ({"sort_by": "bogus"}, {"sort_direction": "up"}, {"sort_by": ""}):
        answer = error_of(token.http.get("/models", params=query), 422)
        assert answer["invalid_fields"][0]["field"] == next(iter(query))


def test_predictions_of_the_web_are_none(token: Token) -> None:
    made = token.create()["id"]
    assert token.http.get("/predictions?source=web").json() == {"previous": None, "next": None, "results": []}
    assert [row["id"] for row in token.http.get("/predictions?source=api").json()["results"]] == [made]
    error_of(token.http.get("/predictions?source=cli"), 422)
    error_of(token.http.get("/predictions?source=web&cursor=x"), 422)


def test_readmes_and_examples(token: Token) -> None:
    error_of(token.http.get("/models/riffusion/riffusion/readme"), 404)  # the tests' catalog has none
    assert token.http.get("/models/riffusion/riffusion/examples").json()["results"] == []
    examples = token.http.get("/models/test/fake/examples").json()["results"]
    assert [(row["input"], row["output"], row["data_removed"]) for row in examples] == [
        ({"text": "hi"}, "hi", False),
        ({"files": 1}, None, True),
    ]
    assert token.http.get("/models/test/fake").json()["default_example"] == examples[0]
    assert token.http.get("/models/riffusion/riffusion").json()["default_example"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"examples": [{"input": {"colour": 1}}]}, "an example of test/fake is invalid: colour is unknown"),
        ({"examples": [{"input": {"files": 3}}]}, "an example of test/fake is invalid: files: 3 is greater than"),
        ({"readme": "none.md"}, "the README .*none.md of test/fake can't be used"),
        ({"is_official": "perhaps"}, "is_official"),
        ({"owner": "Test"}, "owner"),
    ],
)
def test_an_invalid_catalog_says_why(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    entry = next(model for model in json.loads(CATALOG.read_text())["models"] if model["name"] == "fake")
    entry["versions"][0]["schema"] = str(CATALOG.with_name("fake.openapi.json"))
    entry["readme"] = str(CATALOG.with_name("fake.md"))
    (tmp_path / "catalog.json").write_text(json.dumps({"models": [entry | change]}))
    with pytest.raises(CatalogError, match=said):
        CatalogFiles(tmp_path / "catalog.json").load()


NEW_VERSION = "fb" * 32
NEW_QUEUE = "test/fake-2"


def two_versions(folder: Path, **more: str) -> Path:
    """Write a catalog in which the fake model has a second, newer version, with the fields `more`."""
    file = json.loads(CATALOG.read_text(encoding="utf-8"))
    model = next(model for model in file["models"] if model["name"] == "fake")
    model["versions"][0]["schema"] = str(CATALOG.with_name("fake.openapi.json"))
    del model["readme"]
    model["versions"].append(model["versions"][0] | {"id": NEW_VERSION, "created_at": "2026-02-01T00:00:00Z"} | more)
    path = folder / "catalog.json"
    path.write_text(json.dumps({"models": [model]}), encoding="utf-8")
    return path


def test_each_version_runs_on_its_own_server_and_the_models_name_means_the_newest(
    system: System, token: Token, tmp_path: Path
) -> None:
    settings = {"GATEWAY_CATALOG": str(two_versions(tmp_path, queue=NEW_QUEUE))}
    journal = tmp_path / "journal.jsonl"
    with (
        system.another_model(NEW_QUEUE, journal),
        system.another_gateway(settings) as url,
        Token(url, token.text, system) as updated,
    ):

        def create(version: str) -> dict[str, Any]:
            created: dict[str, Any] = updated.http.post("/predictions", json={"version": version, "input": {}}).json()
            return updated.ended(created["id"])

        ran_new = [
            create(NEW_VERSION),
            create(f"{FAKE}:{NEW_VERSION}"),
            create(FAKE),
            updated.run(),
        ]
        ran_old = [create(FAKE_VERSION), token.run()]  # the other gateway still has the old catalog
        assert [one["version"] for one in ran_new] == [NEW_VERSION] * 4
        assert [one["version"] for one in ran_old] == [FAKE_VERSION] * 2
        assert [token.get(one["id"])["status"] for one in ran_new] == ["succeeded"] * 4  # which doesn't disturb it
        taken = [line["path"] for line in map(json.loads, journal.read_text().splitlines()) if line["method"] == "PUT"]
    assert [path.split("/")[2].split("-")[0] for path in taken] == [one["id"] for one in ran_new]


def test_two_versions_with_the_same_queue_are_rejected(tmp_path: Path) -> None:
    path = two_versions(tmp_path)
    with pytest.raises(CatalogError, match=f"the queue {FAKE} for two versions, {NEW_VERSION} and {FAKE_VERSION}"):
        CatalogFiles(path).load()
