import pytest

from gateway.prediction import Status
from gateway.work.coglet import plain_error
from gateway.work.outcome import storable
from tests.gateway.recording import QUEUE, reload
from tests.gateway.staging import ENDLESS_S, Harness

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


async def test_files_and_logs_are_stored(harness: Harness) -> None:
    row = await harness.create(files=2, bytes=100_000, logs=["one", "two\0", "three"], seconds=1.8)
    async with harness.worker():
        early = await harness.until(row, lambda now: now.logs)
        done = await harness.ended(row)
    assert done.logs == "one\ntwo\ufffd\nthree\n"
    assert done.logs.startswith(early.logs)
    assert [(file.name, file.media_type, file.size) for file in done.files] == [
        ("audio.wav", "audio/wav", 100_000),
        ("spectrogram.jpg", "image/jpeg", 100_000),
    ]
    assert done.output == {"audio": done.files[0].reference, "spectrogram": done.files[1].reference}
    data = b"".join([chunk async for chunk in harness.record.files.read(done.files[1].key)])
    assert data == b"j" * 100_000
    assert done.metrics["predict_time"] == 0.1


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
