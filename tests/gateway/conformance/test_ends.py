"""Cancels, deadlines, bursts of creates, and the ids of attempts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from tests.gateway.processes import IDLE, System, Token


def test_t12_cancel_of_a_queued_a_running_and_an_ended_prediction(token: Token) -> None:
    response = token.cancel(token.create(IDLE)["id"])
    assert (response.status_code, response.json()["status"]) == (200, "canceled")

    running = token.create(input={"seconds": 600})["id"]
    token.until(running, "processing")
    headers = {"Content-Type": "application/json"}
    assert token.http.post(f"/predictions/{running}/cancel", headers=headers, content=b"").status_code == 200
    ended = token.ended(running)
    assert (ended["status"], ended["output"], ended["error"]) == ("canceled", None, None)

    succeeded = token.run()
    response = token.cancel(succeeded["id"])
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert response.json()["completed_at"] == succeeded["completed_at"]


def test_t16_twenty_concurrent_creates_all_run(token: Token, system: System) -> None:
    before = len(system.requests())
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda number: token.create(input={"text": str(number)})["id"], range(20)))
    assert [token.ended(prediction_id)["output"] for prediction_id in ids] == [str(number) for number in range(20)]
    puts = [request for request in system.requests()[before:] if request["method"] == "PUT"]
    assert [request["status"] for request in puts] == [202] * 20


def test_t16_predictions_run_in_the_order_of_their_creation(token: Token) -> None:
    ids = [token.create()["id"] for _ in range(10)]
    started = [str(token.ended(prediction_id)["started_at"]) for prediction_id in ids]
    assert sorted(started) == started


def test_t17_a_deadline_cancels_queued_and_running_predictions(token: Token) -> None:
    running = token.create(input={"seconds": 600}, headers={"Cancel-After": "5s"})
    queued = token.create(IDLE, headers={"Cancel-After": "5"})
    assert running["deadline"] > running["created_at"]
    for created in (running, queued):
        ended = token.ended(created["id"])
        assert ended["status"] == "canceled"
        taken = datetime.fromisoformat(ended["completed_at"]) - datetime.fromisoformat(ended["created_at"])
        assert taken.total_seconds() >= 5


def test_t19_no_attempt_is_sent_twice(system: System, token: Token) -> None:
    """Cog would run an attempt again that is sent after its end. This checks all that the tests have made so far."""
    token.run()
    started = [
        request["path"] for request in system.requests() if (request["method"], request["status"]) == ("PUT", 202)
    ]
    assert len(started) == len(set(started))
