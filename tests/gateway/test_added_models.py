"""script/model: containers that are added to a gateway that runs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from gateway.catalog_files import AddedModels, CatalogError, CatalogFiles, LiveCatalog
from gateway.models import main
from gateway.serve.supervisor import python
from tests.gateway.processes import CATALOG, FAKE, FAKE_VERSION, ROOT, System, Token
from tests.gateway.test_routes import error_of

ADDED = "ann/added"


def model(system: System, *words: str, data: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command that script/model runs, for a system or for a data folder."""
    environment = {**os.environ, **(system.environment if data is None else {"PYTHONPATH": str(ROOT)})}
    command = python("-m", "gateway.models", *words, *(["--data", str(data)] if data else []))
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_container_is_offered_without_a_restart_until_it_is_removed(
    system: System, token: Token, tmp_path: Path
) -> None:
    path = f"/models/{ADDED}"
    with system.another_model(ADDED, tmp_path / "journal.jsonl") as url:
        system.until(lambda: model(system, "add", ADDED, "--url", url, "--slots", "2").returncode == 0)
        system.until(lambda: token.http.get(path).status_code == 200)
        found = token.http.get(path).json()
        assert found["latest_version"]["cog_version"] == "0.23.1"
        assert found["latest_version"]["openapi_schema"] == json.loads(
            CATALOG.with_name("fake.openapi.json").read_text()
        )
        assert token.ended(token.create(ADDED, input={"text": "hi"})["id"])["output"] == "hi"
        by_id = {"version": found["latest_version"]["id"], "input": {"text": "id"}}
        assert token.ended(token.http.post("/predictions", json=by_id).json()["id"])["output"] == "id"
        error_of(token.http.post(f"{path}/predictions", json={"input": {"files": 5}}), 422)
        again = model(system, "add", ADDED, "--url", f"{url}/", "--description", "Does as told")
        assert f"added {ADDED}:{found['latest_version']['id']}\n" in again.stdout  # the same schema, the same version
        assert "--slots 2" in again.stdout
        system.until(lambda: token.http.get(path).json()["description"] == "Does as told")
        listed = [line.split() for line in model(system, "list").stdout.splitlines()]
        assert [ADDED, by_id["version"][:12], "2", url] in listed
        assert [FAKE, FAKE_VERSION[:12], "1", "in", "the", "catalog's", "file"] in listed
    assert model(system, "remove", ADDED).returncode == 0
    system.until(lambda: token.http.get(path).status_code == 404)
    error_of(token.http.post("/predictions", json=by_id), 422)
    gone = model(system, "remove", ADDED)
    assert (gone.returncode, gone.stderr) == (1, f"script/model: no added model is named {ADDED}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", ADDED, "--url", "http://127.0.0.1:9"), "http://127.0.0.1:9 doesn't answer: nothing listens there"),
        (("add", ADDED, "--url", "{gateway}"), "doesn't answer, or not as a Cog server does"),
    ],
)
def test_a_server_that_is_none_is_refused_with_a_sentence(
    system: System, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    refused = model(system, *(word.format(gateway=system.url) for word in words), data=tmp_path)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", ADDED, "--url", "ftp://x"), "'ftp://x' is not a URL such as http://127.0.0.1:5001"),
        (("add", "../x", "--url", "http://x"), "'../x' is not OWNER/NAME"),
        (("add", "a/../../x", "--url", "http://x"), "is not OWNER/NAME"),
        (("add", ADDED, "--url", "http://x", "--slots", "0"), "'0' is not a number from 1 to 1000"),
        (("remove", "/etc/passwd"), "is not OWNER/NAME"),
    ],
)
def test_an_invalid_command_line_is_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert said in capsys.readouterr().err


def test_a_name_of_the_catalogs_file_is_taken(system: System, tmp_path: Path) -> None:
    with system.another_model("taken", tmp_path / "journal.jsonl") as url:
        said = f"the model {FAKE} was added, but is in {CATALOG} too"
        system.until(lambda: said in model(system, "add", FAKE, "--url", url).stderr)
    assert not (system.folder / "models" / "test").exists()


def test_an_invalid_file_leaves_the_catalog_as_it_was(tmp_path: Path) -> None:
    files = CatalogFiles(CATALOG, AddedModels(tmp_path / "models"))
    live = LiveCatalog(files)
    before = live.current
    assert not live.refresh()
    broken = tmp_path / "models" / "ann" / "broken.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert not live.refresh()
    assert live.current is before
    with pytest.raises(CatalogError, match=r"broken\.json"):
        files.load()
    entry = json.loads(CATALOG.read_text())["models"][-1] | {"owner": "ann", "name": "broken", "readme": None}
    entry["versions"][0] |= {"id": "b" * 64, "schema": str(CATALOG.with_name("fake.openapi.json"))}
    broken.write_text(json.dumps(entry))
    assert live.refresh()
    assert live.current.models.keys() - before.models.keys() == {"ann/broken"}
    broken.unlink()
    assert live.refresh()
    assert live.current.models.keys() == before.models.keys()
