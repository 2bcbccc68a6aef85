"""Asynchronous predictions: webhooks, cancellation, a client that disconnects, a busy server."""

import http.client
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from local.serve import health
from tests.gateway.receiver import Receiver
from tests.local.serving.client import Client, until_status, webhooks
from tests.waiting import eventually

LONG: dict[str, dict[str, object]] = {  # 15 s and more
    "riffusion": {"num_inference_steps": 1000, "denoising": 1},
    "walk": {"bars": 240},
    "deforum": {"max_frames": 1000, "sampler": "heun"},
    "music-video": {"max_frames": 1000},
}
SHORT: dict[str, dict[str, object]] = {
    "riffusion": {"num_inference_steps": 2},
    "walk": {"bars": 2, "denoising": 0},
    "deforum": {},
    "music-video": {"max_frames": 1, "num_inference_steps": 1, "width": 256, "height": 256},
}
CANCEL_LIMIT_S = 1


def start_long(client: Client, name: str, receiver: Receiver) -> None:
    """Start a long prediction and return once it reports progress."""
    client.start(name, receiver, ["logs", "completed"], **LONG[client.model])
    webhooks(receiver, lambda body: "%|" in body["logs"])


def check_clean_and_usable(client: Client) -> None:
    eventually(lambda: health(client.server.url)["status"] == "READY")
    eventually(lambda: not client.files())
    assert client.predict(**SHORT[client.model])["status"] == "succeeded"


def test_webhooks_report_the_start_the_logs_and_the_end(riffusion: Client, receiver: Receiver) -> None:
    riffusion.start("reported", receiver, ["start", "logs", "completed"], num_inference_steps=60)
    first, *between, last = until_status(receiver, "succeeded")
    assert {body["id"] for body in (first, *between, last)} == {"reported"}
    assert (first["status"], first["logs"]) == ("processing", "")
    assert {body["status"] for body in between} == {"processing"}
    logs = [body["logs"] for body in (first, *between, last)]
    assert all(later.startswith(earlier) for earlier, later in pairwise(logs))
    assert 0 < len(logs[1]) < len(logs[-1])
    assert last["metrics"]["seed"] == int(last["logs"].removeprefix("Using seed: ").split("\n")[0])
    assert last["output"]


@pytest.mark.parametrize(
    ("events", "statuses"),
    [
        (["start", "completed"], ["processing", "succeeded"]),
        (["completed"], ["succeeded"]),
    ],
)
def test_the_filter_selects_the_webhooks(
    riffusion: Client, receiver: Receiver, events: list[str], statuses: list[str]
) -> None:
    riffusion.start("filtered", receiver, events, num_inference_steps=2)
    assert [body["status"] for body in until_status(receiver, "succeeded")] == statuses


def test_without_a_filter_all_webhooks_are_sent(riffusion: Client, receiver: Receiver) -> None:
    riffusion.start("unfiltered", receiver, num_inference_steps=2)
    assert until_status(receiver, "succeeded")[0]["status"] == "processing"


def cancel(client: Client, receiver: Receiver) -> dict[str, Any]:
    """Cancel the prediction of start_long and return the webhook that reports it."""
    assert client.send("POST", "/predictions/dropped/cancel").status == 200
    return until_status(receiver, "canceled")[-1]


def test_a_cancelled_prediction_stops_before_its_end(client: Client, receiver: Receiver) -> None:
    start_long(client, "dropped", receiver)
    last = cancel(client, receiver)
    assert "output" not in last
    assert "100%" not in last["logs"]
    check_clean_and_usable(client)


@pytest.mark.limits
def test_a_cancelled_prediction_stops_within_a_second(client: Client, receiver: Receiver) -> None:
    start_long(client, "dropped", receiver)
    asked_s = time.monotonic()
    cancel(client, receiver)
    assert time.monotonic() - asked_s < CANCEL_LIMIT_S


def test_cancelling_an_unknown_prediction_is_not_found(riffusion: Client) -> None:
    assert riffusion.send("POST", "/predictions/nobody/cancel").status == 404


def test_a_client_that_disconnects_cancels_its_prediction(riffusion: Client) -> None:
    before = len(riffusion.log.read_text())
    connection = http.client.HTTPConnection(riffusion.server.url.removeprefix("http://"))
    body = json.dumps({"input": LONG["riffusion"]})
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
    eventually(lambda: "%|" in riffusion.log.read_text()[before:])
    connection.close()
    check_clean_and_usable(riffusion)


def test_a_busy_server_rejects_a_second_prediction(riffusion: Client, receiver: Receiver) -> None:
    start_long(riffusion, "dropped", receiver)
    reply = riffusion.send("POST", "/predictions", {"input": {}})
    assert (reply.status, reply.body["status"]) == (409, "failed")
    assert health(riffusion.server.url)["status"] == "BUSY"
    cancel(riffusion, receiver)
    check_clean_and_usable(riffusion)
