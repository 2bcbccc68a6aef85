"""Predictions survive kill -9 of the Cog server's child, the Cog server and the gateway."""

from collections.abc import Iterator

import pytest

from tests.gateway.conftest import Databases
from tests.gateway.processes import System, Token, running


@pytest.fixture(scope="module")
def fragile(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return a system of our own, since these tests kill its parts."""
    with running(tmp_path_factory.mktemp("fragile"), databases.make()) as system:
        yield system


@pytest.fixture(scope="module")
def owner(fragile: System) -> Token:
    return fragile.token()


def starts(system: System, prediction_id: str) -> list[str]:
    """Return the attempts of a prediction that a Cog server took, in order."""
    return [
        request["path"]
        for request in system.requests()
        if request["method"] == "PUT" and request["status"] == 202 and f"/{prediction_id}-" in request["path"]
    ]


def test_t13_the_models_process_dies(fragile: System, owner: Token) -> None:
    crashed = owner.create(input={"crash": True})["id"]
    after = owner.create(input={"text": "after"})["id"]
    ended = owner.ended(crashed)
    assert ended["status"] == "failed"
    assert ended["error"]
    assert owner.ended(after)["output"] == "after"  # the server was started again
    assert len(starts(fragile, crashed)) == 1  # what crashes a model is not tried again
    assert any(request["path"] == "/shutdown" for request in fragile.requests())


def test_t14_the_cog_server_dies(fragile: System, owner: Token) -> None:
    interrupted = owner.create(input={"seconds": 2, "text": "again"})["id"]
    owner.until(interrupted, "processing")
    fragile.until(lambda: starts(fragile, interrupted))  # the Cog server has it
    fragile.kill("coglet")
    assert owner.ended(interrupted)["output"] == "again"
    attempts = starts(fragile, interrupted)
    assert len(attempts) == len(set(attempts)) == 2


def test_t14_twice_is_enough(fragile: System, owner: Token) -> None:
    interrupted = owner.create(input={"seconds": 60})["id"]
    for attempts in (1, 2):

        def began(attempts: int = attempts) -> bool:
            return len(starts(fragile, interrupted)) == attempts

        fragile.until(began)
        owner.until(interrupted, "processing")
        fragile.kill("coglet")
    ended = owner.ended(interrupted)
    assert (ended["status"], ended["error"]) == ("failed", "Prediction interrupted; the worker was lost")
    assert owner.ended(owner.create()["id"])["status"] == "succeeded"


def test_t15_the_gateway_dies(fragile: System, owner: Token) -> None:
    interrupted = owner.create(input={"seconds": 2, "text": "here"})["id"]
    owner.until(interrupted, "processing")
    fragile.kill("gateway")
    fragile.until(fragile.answers)
    assert owner.ended(interrupted)["output"] == "here"
    assert len(starts(fragile, interrupted)) == 1


def test_the_worker_dies(fragile: System, owner: Token) -> None:
    interrupted = owner.create(input={"seconds": 3, "text": "kept"})["id"]
    owner.until(interrupted, "processing")
    fragile.kill("worker")
    assert owner.ended(interrupted)["output"] == "kept"
