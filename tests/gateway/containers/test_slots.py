"""Concurrent predictions on a real Cog server with four slots."""

from datetime import datetime

from tests.gateway.processes import System, Token


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_four_predictions_run_at_once(containers_token: Token) -> None:
    created = [containers_token.create("test/slots", input={"seconds": 2, "text": str(n)}) for n in range(4)]
    ended = [containers_token.ended(prediction["id"]) for prediction in created]
    assert [prediction["output"] for prediction in ended] == ["0", "1", "2", "3"]
    last_start = max(at(prediction["started_at"]) for prediction in ended)
    assert all(at(prediction["completed_at"]) > last_start for prediction in ended)  # all four overlap


def test_a_long_prediction_is_not_lost_while_slots_are_free(containers: System, containers_token: Token) -> None:
    """Health says READY all the time; its worker restarts meanwhile."""
    created = [containers_token.create("test/slots", input={"seconds": 16, "text": str(n)}) for n in range(2)]
    for prediction in created:
        containers_token.until(prediction["id"], "processing")
    containers.kill("worker-slots")
    ended = [containers_token.ended(prediction["id"]) for prediction in created]
    assert [prediction["output"] for prediction in ended] == ["0", "1"]
    assert all(prediction["metrics"]["predict_time"] < 20 for prediction in ended)
    for prediction in ended:
        assert prediction["logs"].count("sleeping") == 1  # ran once
