"""Two versions of a model at the same time, each with a queue and a Cog server of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.catalog_files import CatalogError, CatalogFiles
from tests.gateway.processes import CATALOG, FAKE, FAKE_VERSION, System, Token

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
