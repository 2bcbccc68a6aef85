import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.prediction import Prediction, Status
from gateway.work.coglet import Coglet, plain_error
from gateway.work.outcome import storable
from tests.gateway.recording import QUEUE, fetch, reload
from tests.gateway.staging import ENDLESS_S, QUICK, Harness

pytestmark = pytest.mark.anyio


async def test_predictions_run_one_at_a_time_in_order(harness: Harness) -> None:
    await harness.inject(busy_s=0.2)  # the server refuses a PUT right after an end
    rows = [await harness.create(text=str(number), seconds=0.05) for number in range(3)]
    async with harness.worker():
        ended = [await harness.ended(row) for row in rows]
    assert [(row.output, row.attempts) for row in ended] == [("0", 1), ("1", 1), ("2", 1)]
    # Each once, because a second PUT of an attempt that has ended would run it again.
    assert harness.cog.requests("PUT", 202) == [f"/predictions/{row.id}-{row.job_id}" for row in rows]
    assert list(await harness.record.procrastinate.job_manager.list_jobs_async(queue=QUEUE)) == []


async def test_errors_are_in_the_models_own_words(harness: Harness) -> None:
    async with harness.worker():
        failed = await harness.run(fail="zoom is 0, but must be above 0")
        invalid = await harness.run(text=None)
        too_large = await harness.run(files=1, bytes=2 << 20)
        assert (await harness.run()).status is Status.SUCCEEDED  # the server has stopped sending the large webhook
    assert {row.status for row in (failed, invalid, too_large)} == {Status.FAILED}
    assert failed.error == "zoom is 0, but must be above 0"
    assert invalid.error == "input.text: null is not of type"
    assert too_large.error == "The output is larger than 1 MB, the limit of this gateway"


@pytest.mark.parametrize(
    ("error", "plain"),
    [
        ("Prediction failed: Prediction failed: ValueError: a: b", "a: b"),
        ("Prediction failed: lib.errors.UserError: a\nb", "a\nb"),
        ("Worker crashed", "Worker crashed"),
        ("ValueError: not from a prediction", "ValueError: not from a prediction"),
        ("Prediction failed: Prediction failed: MemoryError: ", "MemoryError: "),
    ],
)
def test_coglets_prefixes_are_stripped_from_errors(error: str, plain: str) -> None:
    assert plain_error(error) == plain


def test_characters_that_postgres_rejects_are_replaced() -> None:
    assert storable("a\0b\udc00c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"


async def test_cancel_of_a_running_prediction_is_sent_once(harness: Harness) -> None:
    async with harness.worker():
        row = await harness.started(await harness.create(seconds=ENDLESS_S, tidy_s=0.7))
        await harness.record.predictions.cancel(row.id)
        assert (await harness.ended(row)).status is Status.CANCELED
        assert len(harness.cog.requests("POST")) == 1  # a second would raise in the model's clean-up
        assert (await harness.run()).status is Status.SUCCEEDED


@pytest.mark.parametrize("record_options", [{"stalled_s": 2, "delivery_s": 3600}])
async def test_a_stopped_worker_finishes_its_prediction_with_heartbeats(harness: Harness) -> None:
    """The prediction takes longer than an attempt without a heartbeat would survive."""
    async with harness.worker() as worker:
        row = await harness.started(await harness.create(seconds=3))
        later = await harness.create()
        worker.stop()
        worker.stop()
    done = await harness.ended(row)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
    assert (await reload(harness.record, later)).status is Status.STARTING


async def test_a_full_disk_fails_the_prediction_and_leaves_no_file(harness: Harness, tmp_path: Path) -> None:
    row = await harness.create(files=2)
    (tmp_path / "files" / row.id).write_text("a file where the folder should be")
    async with harness.worker(replace(QUICK, store_tries=2)):
        done = await harness.ended(row)
    assert done.status is Status.FAILED
    assert done.error is not None
    assert done.error.startswith("The output could not be stored: ")
    assert done.files == ()


async def test_a_server_that_ignores_a_cancel_is_shut_down(harness: Harness) -> None:
    async with harness.worker():
        row = await harness.started(await harness.create(seconds=ENDLESS_S, deaf=True))
        await harness.record.predictions.cancel(row.id)
        assert (await harness.ended(row)).status is Status.CANCELED
        assert (await harness.run()).status is Status.SUCCEEDED
    assert harness.cog.requests("POST")[-1] == "/shutdown"


@pytest.mark.parametrize(
    "fault",
    [
        "dead_child",  # the model's process died before the prediction
        "lose_terminal",  # the server is idle, but its terminal webhook never arrived
    ],
)
async def test_a_prediction_that_the_server_loses_runs_again(harness: Harness, fault: str) -> None:
    await harness.inject(**{fault: 1})
    async with harness.worker():
        done = await harness.run()
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
    assert len(set(harness.cog.requests("PUT"))) == len(harness.cog.requests("PUT")) == 2  # never the same id


@pytest.mark.parametrize("cog_arguments", [("--setup-fails",)])
async def test_a_failed_setup_fails_queued_predictions_with_its_logs(harness: Harness) -> None:
    async with harness.worker():
        done = await harness.run()
    assert (done.status, done.error) == (Status.FAILED, "The model's setup failed")
    assert done.logs.endswith("RuntimeError: no weights")
    assert harness.cog.requests("PUT") == []


async def test_the_worker_waits_for_a_server_that_does_not_answer(harness: Harness) -> None:
    async with harness.worker():
        row = await harness.started(await harness.create(seconds=0.3))
        await harness.inject(silent_s=3)
        done = await harness.ended(row)
    assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)


async def begun_by_a_dead_worker(harness: Harness, **inputs: object) -> Prediction:
    """Do what a worker does that is killed right after the start."""
    row = await harness.create(**inputs)
    with socket.create_server(("127.0.0.1", 0)) as free:
        callback = f"http://127.0.0.1:{free.getsockname()[1]}/of-the-dead-worker"
    coglet = Coglet(harness.client, harness.cog.url)
    while not (boot := (await coglet.health()).boot):
        await asyncio.sleep(0.05)
    attempt = replace(await fetch(harness.record, row), boot=boot, callback=callback)
    assert await harness.record.attempts.begin(attempt)
    await coglet.start(attempt.cog_id, row.input, callback)
    return await reload(harness.record, row)


@pytest.mark.parametrize("seconds", [0.2, 2.0], ids=["ended", "running"])
async def test_the_next_worker_adopts_the_prediction_of_a_dead_worker(harness: Harness, seconds: float) -> None:
    row = await begun_by_a_dead_worker(harness, seconds=seconds, text="adopted")
    await asyncio.sleep(1)
    async with harness.worker():
        done = await harness.ended(row)
        assert (done.status, done.output, done.attempts) == (Status.SUCCEEDED, "adopted", 1)
        assert (await harness.run()).status is Status.SUCCEEDED
    assert len(harness.cog.requests("PUT")) == 2
    assert list(await harness.record.procrastinate.job_manager.list_jobs_async(queue=QUEUE)) == []


async def test_a_prediction_of_an_earlier_boot_is_requeued_without_waiting_for_the_sweep(harness: Harness) -> None:
    """The worker and the server have both died. The sweep would notice after an hour, the `stalled_s` of this test."""
    row = await begun_by_a_dead_worker(harness, seconds=ENDLESS_S)
    await harness.client.post(harness.cog.url + "/shutdown")
    async with harness.worker():
        await harness.until(row, lambda now: now.attempts == 2)
        await harness.record.predictions.cancel(row.id)
        assert (await harness.ended(row)).status is Status.CANCELED


async def test_a_worker_whose_attempt_was_taken_over_drops_it(harness: Harness) -> None:
    async with harness.worker():
        row = await harness.started(await harness.create(seconds=30, files=1, text="old"))
        live = await reload(harness.record, row)
        assert await harness.record.sweep.give_up(live.id, live.job_id)  # like a sweep that believes the worker dead
        await harness.record.predictions.cancel(row.id)
        assert (await harness.ended(row)).status is Status.CANCELED
        assert (await harness.run()).status is Status.SUCCEEDED
    assert await harness.record.files.by_prediction() == {}
