"""What was answered 201 reaches one end, whatever is killed."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx
import psycopg
import pytest

from gateway.serve import postgres
from gateway.serve.supervisor import python
from tests.gateway.processes import ROOT, System, Token, running

SETTINGS = {"GATEWAY_STALLED_S": "5", "GATEWAY_LOST_S": "3", "GATEWAY_RETENTION_S": "0"}


@dataclass
class Killable:
    """A system with a database server of its own, which can be killed too."""

    system: System
    token: Token
    cluster: postgres.Cluster
    postmaster: "subprocess.Popen[bytes]"
    log: IO[bytes]
    created: list[str] = field(default_factory=list)

    def kill_database(self) -> None:
        """Kill the postmaster; its children notice and end."""
        self.postmaster.send_signal(signal.SIGKILL)
        self.postmaster.wait()

    def start_database(self) -> None:
        self.postmaster = self.cluster.start(self.log)

    def create(self, **given: Any) -> str:
        self.created.append(self.token.create(input=given)["id"])
        return self.created[-1]

    def starts(self, prediction_id: str) -> int:
        """How often a Cog server began it."""
        return sum(f"/{prediction_id}-" in one["path"] and one["method"] == "PUT" for one in self.system.requests())

    def until_started(self, prediction_id: str, times: int) -> None:
        self.system.until(lambda: self.starts(prediction_id) == times)

    def is_draining(self, prediction_id: str) -> bool:
        with psycopg.connect(self.system.database_url) as connection:
            row = connection.execute("select draining from predictions where id = %s", (prediction_id,)).fetchone()
        return row == (True,)

    def ended(self, prediction_id: str) -> dict[str, Any]:
        """The prediction once it has ended, over whatever the gateway can't answer meanwhile."""

        def there() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                answer = self.token.http.get(f"/predictions/{prediction_id}")
                if answer.status_code == httpx.codes.OK and answer.json()["completed_at"]:
                    found: dict[str, Any] = answer.json()
                    return found
            return None

        return self.system.until(there)

    def check(self) -> None:
        """Each that was created has one end, its files are there, and no others."""
        with psycopg.connect(self.system.database_url) as connection:
            rows = connection.execute("select id, status, files from predictions").fetchall()
            counted = connection.execute("select sum(count) from ends").fetchone()
        assert {row[0] for row in rows} == set(self.created)
        assert all(row[1] in ("succeeded", "failed", "canceled") for row in rows)
        assert counted == (len(self.created),)
        wanted = {file["key"] for row in rows for file in row[2]}
        self.system.until(lambda: wanted == self.stored() or None)  # the sweep of files comes each minute
        for _, _, files in rows:
            for file in files:
                assert (self.files / file["key"]).stat().st_size == file["size"]

    @property
    def files(self) -> Path:
        return self.system.folder / "files"

    def stored(self) -> set[str]:
        return {str(path.relative_to(self.files)) for path in self.files.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killable]:
    folder = Path(tempfile.mkdtemp(prefix="gw-"))
    folder.chmod(0o711)
    with (folder / "log").open("wb") as log:
        cluster = postgres.prepare(folder / "pg", fsync="off")
        postmaster = cluster.start(log)
        made: Killable | None = None
        try:
            url = cluster.url_of("gateway")
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                connection.execute("create database gateway")
            environment = {**os.environ, "GATEWAY_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
            subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, check=True)
            with running(tmp_path_factory.mktemp("killable"), url, SETTINGS) as system:
                made = Killable(system, system.token(), cluster, postmaster, log)
                yield made
        finally:
            postgres.stop(made.postmaster if made else postmaster)
            postgres.remove(folder / "pg")
            shutil.rmtree(folder)


def test_predictions_outlive_the_database(killable: Killable) -> None:
    ids = [killable.create(seconds=3, files=2), killable.create(files=1)]
    killable.token.until(ids[0], "processing")
    killable.kill_database()
    refused = killable.token.http.post("/models/test/fake/predictions", json={"input": {}})
    assert refused.status_code == 503  # and nothing was stored
    killable.start_database()
    ended = [killable.ended(prediction_id) for prediction_id in ids]
    assert [one["status"] for one in ended] == ["succeeded", "succeeded"]
    assert [killable.starts(prediction_id) for prediction_id in ids] == [1, 1]  # the run went on meanwhile
    killable.check()


def test_predictions_outlive_everything_at_once(killable: Killable) -> None:
    ids = [killable.create(seconds=1, files=1, text=str(number)) for number in range(5)]
    killable.token.until(ids[1], "processing")
    for name in ("gateway", "worker", "coglet"):
        killable.system.kill(name)
    killable.kill_database()
    killable.start_database()
    killable.system.until(killable.system.answers)
    ended = [killable.ended(prediction_id) for prediction_id in ids]
    assert [one["status"] for one in ended] == ["succeeded"] * 5
    killable.check()


def test_what_is_told_to_stop_ends_without_the_database(killable: Killable) -> None:
    killable.kill_database()
    time.sleep(1)  # so that they find it gone before they are told
    told = [killable.system.supervisor.process(name) for name in ("gateway", "worker")]
    for process in told:
        process.send_signal(signal.SIGTERM)
    for process in told:
        process.wait(60)
    killable.start_database()
    killable.system.until(killable.system.answers)


def test_a_worker_ends_its_run_when_told_to_stop(killable: Killable) -> None:
    running_id, queued_id = killable.create(seconds=6, files=1), killable.create()
    killable.token.until(running_id, "processing")
    worker = killable.system.supervisor.process("worker")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert killable.token.get(running_id)["status"] == "succeeded"
    assert killable.token.get(queued_id)["status"] == "starting"
    assert killable.ended(queued_id)["status"] == "succeeded"  # by the next worker
    assert [killable.starts(running_id), killable.starts(queued_id)] == [1, 1]
    killable.check()


def test_two_orderly_stops_do_not_fail_a_prediction(killable: Killable) -> None:
    """Each time the worker stops, the second signal ends its patience, and its Cog server stops too."""
    prediction_id = killable.create(seconds=6, files=1)
    for stops in (1, 2):
        killable.until_started(prediction_id, stops)
        worker = killable.system.supervisor.process("worker")
        worker.send_signal(signal.SIGTERM)
        killable.system.until(lambda: killable.is_draining(prediction_id))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 130
        killable.system.kill("coglet")
    ended = killable.ended(prediction_id)
    assert (ended["status"], killable.starts(prediction_id)) == ("succeeded", 3)
    killable.check()
