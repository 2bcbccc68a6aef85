"""Output as it is produced, and concurrent predictions, by real Cog servers."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.work.coglet import FOLDER
from tests.gateway.containers.conftest import version
from tests.gateway.processes import System, Token, events
from tests.gateway.receiver import Receiver


def test_tokens_stream_while_the_model_produces_them(containers_token: Token) -> None:
    created = containers_token.create("test/tokens", input={"prompt": "w", "count": 10, "interval_s": 0.3})
    came = list(events(created["urls"]["stream"]))
    outputs = [(at, data) for at, name, _, data in came if name == "output"]
    assert [data for _, data in outputs] == [f"w{number} " for number in range(10)]
    assert outputs[-1][0] - outputs[0][0] > 2  # of 2.7 s
    assert came[-1][1:] == ("done", "done-1", "{}")
    assert containers_token.get(created["id"])["output"] == [f"w{number} " for number in range(10)]
    again = events(created["urls"]["stream"], came[3].id)
    assert [data for _, name, _, data in again if name == "output"] == [f"w{number} " for number in range(4, 10)]


def with_output(token: Token, prediction_id: str) -> dict[str, Any]:
    """Wait until a running prediction shows output."""

    def check() -> dict[str, Any] | None:
        prediction = token.get(prediction_id)
        return prediction if prediction["output"] else None

    running = token.system.until(check)
    assert running["status"] == "processing"
    return running


def test_a_poll_shows_the_output_so_far_and_a_cancel_keeps_it(containers_token: Token) -> None:
    created = containers_token.create("test/tokens", input={"prompt": "w", "count": 200, "interval_s": 0.1})
    running = with_output(containers_token, created["id"])
    assert running["output"][0] == "w0 "
    containers_token.http.post(f"/predictions/{created['id']}/cancel")
    canceled = containers_token.ended(created["id"])
    assert canceled["status"] == "canceled"
    assert canceled["output"][: len(running["output"])] == running["output"]


def test_a_failure_keeps_what_was_produced_and_says_why(containers_token: Token) -> None:
    created = containers_token.create("test/tokens", input={"prompt": "w", "fail_at": 3})
    failed = containers_token.ended(created["id"])
    assert (failed["status"], failed["error"]) == ("failed", "out of words")
    assert failed["output"] == ["w0 ", "w1 ", "w2 "]
    assert [event.name for event in events(created["urls"]["stream"])] == [*["output"] * 3, "error", "done"]


def test_files_of_an_iterator_are_there_while_it_runs(containers_token: Token) -> None:
    created = containers_token.create("test/lines", input={"count": 4, "interval_s": 0.5})
    running = with_output(containers_token, created["id"])
    assert containers_token.http.get(running["output"][0]).text == "frame 0"
    ended = containers_token.ended(created["id"])
    assert [containers_token.http.get(url).text for url in ended["output"]] == [f"frame {n}" for n in range(4)]
    first = [url.rsplit("/", 2)[1:] for url in (running["output"][0], ended["output"][0])]
    assert first[0] == first[1]  # stored once


def test_output_webhooks_come_while_it_runs(containers_token: Token, receiver: Receiver) -> None:
    given = {"prompt": "w", "count": 20, "interval_s": 0.1}
    webhook = {"webhook": f"{receiver.url}/hook", "webhook_events_filter": ["output", "completed"]}
    created = containers_token.create("test/tokens", body={"input": given, **webhook})
    containers_token.ended(created["id"])
    containers_token.system.until(lambda: "succeeded" in receiver.statuses("/hook"))
    bodies = [json.loads(delivery.body) for delivery in receiver.at("/hook")]
    running = [body for body in bodies if body["status"] == "processing"]
    assert 2 <= len(running) <= 7  # one per 0.5 s of 2 s, and the last
    lengths = [len(body["output"]) for body in running]
    assert lengths == sorted(lengths)


def test_a_stream_survives_restarts_of_the_worker_and_the_gateway(containers: System, containers_token: Token) -> None:
    created = containers_token.create("test/tokens", input={"prompt": "w", "count": 40, "interval_s": 0.1})
    containers.until(lambda: containers_token.get(created["id"])["output"])
    containers.kill("worker-tokens")
    containers.kill("gateway")
    containers.until(containers.answers)
    came = list(events(created["urls"]["stream"]))
    assert [data for _, name, _, data in came if name == "output"] == [f"w{number} " for number in range(40)]
    ended = containers_token.get(created["id"])
    assert ended["output"] == [f"w{number} " for number in range(40)]


WORDS = [f"w{number} " for number in range(5)]
GIVEN = {"prompt": "w", "count": 5, "interval_s": 0.2}


@pytest.mark.parametrize("client", ["python1", "javascript"])
def test_the_clients_stream(containers_token: Token, client: str) -> None:
    came = getattr(containers_token, client)("stream", ref="test/tokens", inputs=GIVEN)
    assert came == [*(["output", word, True] for word in WORDS), ["done", "{}", True]]


def test_the_clients_iterate_over_an_output(containers_token: Token) -> None:
    ref = f"test/tokens:{version('tokens')}"
    assert containers_token.python1("iterate", ref=ref, inputs=GIVEN) == WORDS
    assert containers_token.python2("stream", ref=ref, inputs=GIVEN) == WORDS
    assert containers_token.javascript("run", ref=ref, input=GIVEN)["output"] == WORDS


def test_ten_thousand_tokens_arrive(containers_token: Token) -> None:
    created = containers_token.create("test/tokens", input={"prompt": "", "count": 10000, "interval_s": 0})
    came = list(events(created["urls"]["stream"]))
    assert [data for _, name, _, data in came if name == "output"] == [f"{number} " for number in range(10000)]
    assert json.loads(came[-1][3]) == {}


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


def test_the_next_worker_deletes_the_folders_that_a_killed_one_has_left(
    containers: System, containers_token: Token
) -> None:
    ended, running = [containers_token.create("test/slots", input={"seconds": seconds})["id"] for seconds in (0, 30)]
    containers_token.ended(ended)
    containers.until(lambda: _folders({running}))
    left, unknown = FOLDER / f"{ended}-0", FOLDER / "unknown-0"
    for folder in (left, unknown):
        folder.mkdir(exist_ok=True)
    containers.kill("worker-slots")
    containers.until(lambda: not left.exists())
    assert _folders({running})
    assert unknown.exists()  # of another database
    unknown.rmdir()
    containers_token.cancel(running)


def _folders(ids: set[str]) -> list[Path]:
    return [folder for folder in FOLDER.iterdir() if folder.name.partition("-")[0] in ids]
