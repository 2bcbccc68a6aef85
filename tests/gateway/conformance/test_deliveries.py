"""Webhooks: event filters, signatures, retries and redirects."""

import json

import pytest

from tests.gateway.processes import System, Token
from tests.gateway.receiver import Receiver


@pytest.fixture(scope="module")
def owner(system: System) -> Token:
    return system.token()


@pytest.mark.parametrize(
    ("events", "statuses"),
    [
        ("completed", ["succeeded"]),
        ("start,completed", ["processing", "succeeded"]),
        (["start"], ["processing"]),
        (["completed", "start"], ["processing", "succeeded"]),
        ("output,completed", ["processing", "succeeded"]),
        (None, ["processing", "processing", "processing", "succeeded"]),  # start, logs, output, completed
    ],
)
def test_t06_the_filter_is_a_name_names_or_a_list(
    receiver: Receiver, owner: Token, events: str | list[str] | None, statuses: list[str]
) -> None:
    path = f"/{json.dumps(events)}".replace(" ", "").replace('"', "")
    body: dict[str, object] = {"webhook": receiver.url + path, "input": {"seconds": 0.2}}
    if events is None:
        body["input"] = {"seconds": 1.8, "logs": ["one", "two", "three"]}
    else:
        body["webhook_events_filter"] = events
    created = owner.create(body=body)
    owner.ended(created["id"])

    owner.system.until(lambda: receiver.statuses(path)[-1:] == statuses[-1:])
    seen = receiver.statuses(path)
    assert seen == statuses if events else set(seen) == set(statuses)  # there may be more than one with logs
    bodies = [json.loads(delivery.body) for delivery in receiver.at(path)]
    assert {body["id"] for body in bodies} == {created["id"]}
    if statuses[-1] == "succeeded":  # the body is what GET returns
        assert bodies[-1] == owner.get(created["id"])


def test_legacy_webhook_completed(receiver: Receiver, owner: Token) -> None:
    owner.create(webhook_completed=f"{receiver.url}/legacy")
    owner.system.until(lambda: receiver.at("/legacy"))
    assert receiver.statuses("/legacy") == ["succeeded"]


def test_t07_the_clients_verify_every_delivery(receiver: Receiver, owner: Token) -> None:
    owner.create(input={"files": 2, "logs": ["é\r 10%|█"]}, webhook=f"{receiver.url}/signed")
    owner.system.until(lambda: "succeeded" in receiver.statuses("/signed"))
    deliveries = [[one.headers, one.body] for one in list(receiver.deliveries)]
    altered = [[one.headers, one.body.replace("succeeded", "failed...")] for one in receiver.at("/signed")[-1:]]
    expected = [True] * len(deliveries) + [False]
    assert owner.python1("validate", deliveries=deliveries + altered) == expected
    assert owner.javascript("validate", deliveries=deliveries + altered) == expected


def test_t08_redirects_are_not_followed_and_only_completed_is_tried_again_up_to_seven_times(
    receiver: Receiver, owner: Token
) -> None:
    """The pauses of this system are short. test_hooks.py checks the default ones."""
    events = ["start", "completed"]
    owner.create(webhook=f"{receiver.url}/redirect/", webhook_events_filter=events)
    owner.system.until(lambda: receiver.statuses("/redirect/").count("succeeded") >= 7)
    assert receiver.statuses("/redirect/") == ["processing"] + ["succeeded"] * 7
    assert receiver.at("/trap") == []
    assert len({one.headers["webhook-id"] for one in receiver.at("/redirect/")}) == 2  # one for each event
