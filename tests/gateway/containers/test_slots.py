"""Concurrent predictions on a real Cog server with four slots."""

from datetime import datetime
from pathlib import Path

from gateway.work.coglet import FOLDER
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


def test_no_folder_of_an_ended_prediction_is_left(containers: System, containers_token: Token) -> None:
    """coglet makes one for each, in a folder that all Cog servers of the machine share."""
    created = [containers_token.create("test/slots", input={"seconds": 1}) for _ in range(2)]
    ids = {prediction["id"] for prediction in created}
    containers.until(lambda: len(_folders(ids)) == 2)
    for prediction in created:
        assert containers_token.ended(prediction["id"])["status"] == "succeeded"
    containers.until(lambda: not _folders(ids))


def _folders(ids: set[str]) -> list[Path]:
    return [folder for folder in FOLDER.iterdir() if folder.name.partition("-")[0] in ids]
