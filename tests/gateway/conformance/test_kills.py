"""Every created prediction ends exactly once, whichever processes are killed or stopped."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway import probe
from tests.gateway.processes import ENDED, FAKE, TIMEOUT_S, System, Token, own_database


@dataclass
class Fragile:
    """A system with a database server of its own. Its processes may be killed; `until` restarts them."""

    system: System
    token: Token
    alive: Path  # the worker's alive file
    created: list[str] = field(default_factory=list)

    def create(self, **inputs: Any) -> str:
        self.created.append(self.token.create(input=inputs)["id"])
        return self.created[-1]

    def processing(self, **inputs: Any) -> str:
        prediction_id = self.create(**inputs)
        self.until_started(prediction_id, 1)
        return prediction_id

    def attempts(self, prediction_id: str) -> list[str]:
        return [
            request["path"]
            for request in self.system.requests()
            if (request["method"], request["status"]) == ("PUT", 202) and f"/{prediction_id}-" in request["path"]
        ]

    def until_started(self, prediction_id: str, attempts: int) -> None:
        self.system.until(lambda: len(self.attempts(prediction_id)) == attempts)

    def is_draining(self, prediction_id: str) -> bool:
        with psycopg.connect(self.system.database_url) as connection:
            row = connection.execute("select draining from predictions where id = %s", (prediction_id,)).fetchone()
        return row == (True,)

    def stop(self, name: str) -> "subprocess.Popen[bytes]":
        process = self.system.supervisor.process(name)
        process.send_signal(signal.SIGTERM)
        return process

    def ended(self, prediction_id: str) -> dict[str, Any]:
        """Wait until a prediction has ended, while the gateway may be down, and return it."""

        def check() -> dict[str, Any] | None:
            with suppress(httpx.TransportError):
                # `until` restarts the processes between two checks, so one that waits for ever would wait for itself.
                response = self.token.http.get(f"/predictions/{prediction_id}", timeout=10)
                if response.status_code == httpx.codes.OK and response.json()["completed_at"]:
                    found: dict[str, Any] = response.json()
                    return found
            return None

        return self.system.until(check)

    def check(self) -> None:
        """Check that every created prediction has ended once, and that the store has its files and no others."""
        with psycopg.connect(self.system.database_url) as connection:
            rows = connection.execute("select id, status, files from predictions").fetchall()
            ends = connection.execute("select sum(count) from ends").fetchone()
        assert {row[0] for row in rows} == set(self.created)
        assert all(row[1] in ENDED for row in rows)
        assert ends == (len(self.created),)
        sizes = {file["key"]: file["size"] for row in rows for file in row[2]}
        folder = self.system.folder / "files"

        def stored() -> dict[str, int]:
            return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

        self.system.until(lambda: stored() == sizes)  # the sweep of files comes each minute


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fragile]:
    folder = tmp_path_factory.mktemp("fragile")
    settings = {"GATEWAY_RETENTION_S": "0", "GATEWAY_ALIVE_FILE": str(folder / "alive")}
    with own_database(folder, settings) as system:
        system.start_model()
        system.start_gateway()
        yield Fragile(system, system.token(), folder / "alive")


def test_t13_a_crash_of_the_models_process_fails_its_prediction(fragile: Fragile) -> None:
    crashed, later = fragile.create(crash=True), fragile.create(text="later")
    ended = fragile.ended(crashed)
    assert (ended["status"], ended["error"]) == ("failed", "Worker crashed")
    assert fragile.ended(later)["output"] == "later"  # the server was restarted
    assert len(fragile.attempts(crashed)) == 1  # a crash of the model is not retried
    assert any(request["path"] == "/shutdown" for request in fragile.system.requests())


def test_t14_a_prediction_whose_cog_server_is_killed_runs_again(fragile: Fragile) -> None:
    interrupted = fragile.processing(seconds=2, text="again")
    fragile.system.kill("coglet")
    assert fragile.ended(interrupted)["output"] == "again"
    attempts = fragile.attempts(interrupted)
    assert len(attempts) == len(set(attempts)) == 2


def test_t14_a_prediction_whose_cog_server_is_killed_twice_fails(fragile: Fragile) -> None:
    interrupted = fragile.create(seconds=600)
    for attempts in (1, 2):
        fragile.until_started(interrupted, attempts)
        fragile.system.kill("coglet")
    ended = fragile.ended(interrupted)
    assert (ended["status"], ended["error"]) == ("failed", "Prediction interrupted; the worker was lost")
    assert fragile.ended(fragile.create())["status"] == "succeeded"


@pytest.mark.parametrize("part", ["gateway", "worker"])
def test_t15_a_prediction_survives_a_kill_of_the_gateway_and_of_the_worker(fragile: Fragile, part: str) -> None:
    interrupted = fragile.processing(seconds=2, text="kept")
    fragile.system.kill(part)
    assert fragile.ended(interrupted)["output"] == "kept"
    assert len(fragile.attempts(interrupted)) == 1


def test_predictions_survive_a_kill_of_the_database(fragile: Fragile) -> None:
    ids = [fragile.processing(seconds=3, files=2), fragile.create(files=1)]
    fragile.system.kill("postgres")
    response = fragile.token.http.post(f"/models/{FAKE}/predictions", json={"input": {}})
    assert response.status_code == 503  # and nothing is stored
    assert [fragile.ended(prediction_id)["status"] for prediction_id in ids] == ["succeeded"] * 2
    assert [len(fragile.attempts(prediction_id)) for prediction_id in ids] == [1, 1]  # the first one kept running
    fragile.check()


def test_predictions_survive_a_kill_of_everything_at_once(fragile: Fragile) -> None:
    ids = [fragile.create(seconds=1, files=1, text=str(number)) for number in range(5)]
    fragile.token.until(ids[1], "processing")
    for name in ("gateway", "worker", "coglet", "postgres"):
        fragile.system.kill(name)
    assert [fragile.ended(prediction_id)["status"] for prediction_id in ids] == ["succeeded"] * 5
    fragile.check()


def test_the_gateway_and_the_worker_stop_without_the_database(fragile: Fragile) -> None:
    fragile.system.until(lambda: fragile.system.answers() and fragile.alive.exists())
    fragile.system.kill("postgres")
    time.sleep(1)  # until they have lost their connections
    environment = {"GATEWAY_PORT": str(fragile.system.port)}
    assert probe.gateway(environment)  # it isn't ready: it answers 503, or not in time while it still waits
    assert probe.gateway(environment, live=True) is None  # so nothing restarts it
    for process in [fragile.stop(name) for name in ("gateway", "worker")]:
        process.wait(TIMEOUT_S)
    fragile.system.until(fragile.system.answers)


def test_a_worker_that_is_told_to_stop_finishes_its_prediction(fragile: Fragile) -> None:
    running, queued = fragile.processing(seconds=3, files=1), fragile.create()
    assert fragile.alive.exists()
    assert fragile.stop("worker").wait(TIMEOUT_S) == 0
    assert not fragile.alive.exists()
    assert fragile.token.get(running)["status"] == "succeeded"
    assert fragile.token.get(queued)["status"] == "starting"
    assert fragile.ended(queued)["status"] == "succeeded"  # by the next worker
    assert [len(fragile.attempts(prediction_id)) for prediction_id in (running, queued)] == [1, 1]
    fragile.check()


def test_two_orderly_stops_do_not_fail_a_prediction(fragile: Fragile) -> None:
    """Each time, a second signal makes the worker exit at once, and its Cog server stops too."""
    prediction_id = fragile.create(seconds=6, files=1)
    for stops in (1, 2):
        fragile.until_started(prediction_id, stops)
        worker = fragile.stop("worker")
        fragile.system.until(lambda: fragile.is_draining(prediction_id))
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(TIMEOUT_S) == 130
        fragile.system.kill("coglet")
    assert fragile.ended(prediction_id)["status"] == "succeeded"
    assert len(fragile.attempts(prediction_id)) == 3
    fragile.check()


def test_a_stopping_worker_does_not_wait_for_a_database_and_a_cog_server_that_have_gone(fragile: Fragile) -> None:
    """As when Docker or the whole host is stopped: it tells all at once, and nothing comes back until all have exited.

    It waits for as long as one of the two is there, because then the prediction can still end.
    """
    prediction_id = fragile.processing(seconds=8, files=1)
    worker = fragile.stop("worker")
    fragile.system.until(lambda: fragile.is_draining(prediction_id))
    for name in ("postgres", "coglet"):
        assert worker.poll() is None
        fragile.system.kill(name)
        time.sleep(1)  # a worker that no longer waits exits sooner
    assert worker.wait(TIMEOUT_S) == 0
    assert fragile.ended(prediction_id)["status"] == "succeeded"  # by the next worker, on the next server
    assert len(fragile.attempts(prediction_id)) == 2
    fragile.check()
