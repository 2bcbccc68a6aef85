"""Webhooks: event filters, signatures, retries and redirects."""

import json
from collections.abc import Iterator

import pytest

from tests.gateway.processes import FAKE, System, Token
from tests.gateway.receiver import Receiver, receiving


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module", autouse=True)
def redirected(receiver: Receiver, system: System) -> str:
    """Create a prediction whose webhook is redirected, and return its id; its tries take half a minute."""
    events = ["start", "completed"]
    return str(system.token().create(webhook=f"{receiver.url}/redirect/", webhook_events_filter=events)["id"])


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
    assert seen == statuses if events else set(seen) == set(statuses)  # of logs there may be more
    bodies = [json.loads(delivery.body) for delivery in receiver.at(path)]
    assert {body["id"] for body in bodies} == {created["id"]}
    if statuses[-1] == "succeeded":  # the webhook is what GET answers
        assert bodies[-1] == owner.get(created["id"])


def test_legacy_webhook_completed(receiver: Receiver, owner: Token) -> None:
    owner.create(webhook_completed=f"{receiver.url}/legacy")
    owner.system.until(lambda: receiver.at("/legacy"))
    assert [json.loads(delivery.body)["status"] for delivery in receiver.at("/legacy")] == ["succeeded"]


@pytest.mark.parametrize("events", ["begin", ["completed", "end"], 7, [7]])
def test_an_unknown_event_is_refused(owner: Token, receiver: Receiver, events: object) -> None:
    body = {"input": {}, "webhook": receiver.url, "webhook_events_filter": events}
    answer = owner.http.post(f"/models/{FAKE}/predictions", json=body)
    assert answer.status_code == 422
    assert "webhook_events_filter" in answer.json()["detail"]


def test_t07_the_clients_verify_every_delivery(receiver: Receiver, owner: Token) -> None:
    owner.ended(owner.create(input={"files": 2}, webhook=f"{receiver.url}/signed")["id"])
    owner.system.until(lambda: "succeeded" in receiver.statuses("/signed"))
    deliveries = [[one.headers, one.body] for one in receiver.deliveries if not one.path.startswith("/redirect")]
    altered = [[one.headers, one.body.replace("succeeded", "failed...")] for one in receiver.at("/signed")[-1:]]
    expected = [True] * len(deliveries) + [False]
    assert owner.python1("validate", deliveries=deliveries + altered) == expected
    assert owner.javascript("validate", deliveries=deliveries + altered) == expected


def test_t08_a_redirect_is_not_followed_and_completed_is_tried_seven_times(
    receiver: Receiver, system: System, redirected: str
) -> None:
    def tries(status: str) -> list[float]:
        return [one.at for one in receiver.at("/redirect/") if json.loads(one.body)["status"] == status]

    system.until(lambda: len(tries("succeeded")) >= 7)
    assert len(tries("processing")) == 1  # only the last one is tried again
    assert receiver.at("/trap") == []
    assert tries("succeeded")[-1] - tries("succeeded")[0] > 30
    ids = {one.headers["webhook-id"] for one in receiver.at("/redirect/") if "succeeded" in one.body}
    assert len(ids) == 1
