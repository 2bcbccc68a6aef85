"""Cancels, deadlines, a burst of creates, and new attempt ids."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.gateway.processes import System, Token

IDLE = "riffusion/riffusion"  # no worker takes its queue


def test_t12_cancel_queued_running_and_ended(token: Token) -> None:
    queued = token.create(IDLE)["id"]
    answer = token.http.post(f"/predictions/{queued}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")

    running = token.create(input={"seconds": 60})["id"]
    token.until(running, "processing")
    answer = token.http.post(
        f"/predictions/{running}/cancel", headers={"Content-Type": "application/json"}, content=b""
    )
    assert answer.status_code == 200
    ended = token.ended(running)
    assert (ended["status"], ended["output"], ended["error"]) == ("canceled", None, None)

    succeeded = token.ended(token.create()["id"])
    answer = token.http.post(f"/predictions/{succeeded['id']}/cancel")
    assert answer.status_code == 200
    assert answer.json()["status"] == "succeeded"
    assert answer.json()["completed_at"] == succeeded["completed_at"]


def test_t16_what_comes_at_once_runs_without_a_refusal(token: Token, system: System) -> None:
    before = len(system.requests())
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda number: token.create(input={"text": str(number)})["id"], range(20)))
    ended = [token.ended(prediction_id) for prediction_id in ids]
    assert [prediction["output"] for prediction in ended] == [str(number) for number in range(20)]
    puts = [request for request in system.requests()[before:] if request["method"] == "PUT"]
    assert [request["status"] for request in puts] == [202] * 20


def test_t16_what_comes_in_order_runs_in_order(token: Token) -> None:
    ids = [token.create()["id"] for _ in range(10)]
    ended = [token.ended(prediction_id) for prediction_id in ids]
    assert sorted(ended, key=lambda prediction: str(prediction["started_at"])) == ended


def test_t17_a_deadline_ends_what_is_queued_and_what_runs(token: Token) -> None:
    began = time.monotonic()
    after = {"Cancel-After": "5s"}
    running = token.create(input={"seconds": 300}, headers=after)
    queued = token.create(IDLE, headers={"Cancel-After": "5"})
    assert running["deadline"] > running["created_at"]
    for created in (running, queued):
        assert token.ended(created["id"])["status"] == "canceled"
    assert time.monotonic() - began >= 5


@pytest.mark.parametrize("after", ["4", "4s", "0", "-5", "soon", "1e3", ""])
def test_a_deadline_that_makes_no_sense_is_refused(token: Token, after: str) -> None:
    answer = token.http.post(f"/models/{IDLE}/predictions", json={"input": {}}, headers={"Cancel-After": after})
    assert answer.status_code == 422
    assert "Cancel-After" in answer.json()["detail"]


def test_t19_no_attempt_is_put_twice(system: System, token: Token) -> None:
    """Cog runs an attempt again that is put after its end; here are all that the tests have made so far."""
    token.ended(token.create()["id"])
    started = [
        request["path"] for request in system.requests() if (request["method"], request["status"]) == ("PUT", 202)
    ]
    assert len(started) == len(set(started))
