from pathlib import Path

import pytest

from gateway.prediction import Status
from gateway.work.coglet import plain_error
from gateway.work.outcome import storable
from tests.gateway.recording import QUEUE
from tests.gateway.staging import LIMIT_S, Stage, play, working


def test_predictions_run_in_order_one_at_a_time(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        await stage.faults(busy_s=0.2)  # a PUT right after an end is refused
        rows = [await stage.create(text=str(number), seconds=0.05) for number in range(8)]
        async with working(stage):
            ended = [await stage.ended(row) for row in rows]
        assert [row.output for row in ended] == [str(number) for number in range(8)]
        starts = [row.started_at for row in ended if row.started_at]
        assert starts == sorted(starts)
        assert len(starts) == 8
        assert {row.attempts for row in ended} == {1}
        taken = stage.cog.asked("PUT", 202)  # each once: a second PUT of what has ended would run it again
        assert taken == [f"/predictions/{row.id}-{row.job_id}" for row in rows]
        assert list(await stage.record.procrastinate.job_manager.list_jobs_async(queue=QUEUE)) == []

    play(database_url, tmp_path, test)


def test_files_and_logs_are_stored(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        row = await stage.create(files=2, bytes=100_000, logs=["one", "two\0", "three"], seconds=1.8)
        async with working(stage):
            early = await stage.until(row, lambda now: now.logs)
            done = await stage.ended(row)
        assert done.logs == "one\ntwo\ufffd\nthree\n"
        assert done.logs.startswith(early.logs)
        assert [(file.name, file.media_type, file.size) for file in done.files] == [
            ("audio.wav", "audio/wav", 100_000),
            ("spectrogram.jpg", "image/jpeg", 100_000),
        ]
        assert done.output == {"audio": done.files[0].reference, "spectrogram": done.files[1].reference}
        data = b"".join([chunk async for chunk in stage.record.files.read(done.files[1].key)])
        assert data == b"j" * 100_000
        assert done.metrics["predict_time"] == 0.1

    play(database_url, tmp_path, test)


def test_an_output_beyond_the_limit_fails_and_is_not_sent_for_ever(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        row = await stage.create(files=1, bytes=2 << 20)
        async with working(stage):
            done = await stage.ended(row)
            after = await stage.ended(await stage.create())
        assert done.error == "The output is larger than 1 MB, the limit of this gateway"
        assert after.status is Status.SUCCEEDED

    play(database_url, tmp_path, test)


def test_errors_are_the_models_own_words(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            failed = await stage.ended(await stage.create(fail="zoom is 0, but must be above 0"))
            refused = await stage.ended(await stage.create(text=None))
        assert (failed.status, failed.error) == (Status.FAILED, "zoom is 0, but must be above 0")
        assert (refused.status, refused.error) == (Status.FAILED, "input.text: null is not of type")

    play(database_url, tmp_path, test)


@pytest.mark.parametrize(
    ("told", "plain"),
    [
        ("Prediction failed: Prediction failed: ValueError: a: b", "a: b"),
        ("Prediction failed: lib.errors.UserError: a\nb", "a\nb"),
        ("Worker crashed", "Worker crashed"),
        ("ValueError: not from a prediction", "ValueError: not from a prediction"),
        ("Prediction failed: Prediction failed: MemoryError: ", "MemoryError: "),
    ],
)
def test_prefixes_are_stripped(told: str, plain: str) -> None:
    assert plain_error(told) == plain


def test_text_that_postgres_refuses_is_replaced() -> None:
    assert storable("a\0b\udc00c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"


def test_a_running_one_is_cancelled(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            row = await stage.running(await stage.create(seconds=LIMIT_S, tidy_s=0.7))
            await stage.record.predictions.cancel(row.id)
            done = await stage.ended(row)
            assert done.status is Status.CANCELED
            assert len(stage.cog.asked("POST")) == 1  # a second would raise in the model's clean-up
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED

    play(database_url, tmp_path, test)


def test_a_drained_worker_ends_its_run_and_beats_meanwhile(database_url: str, tmp_path: Path) -> None:
    """The run takes longer than an attempt without a heartbeat would live."""

    async def test(stage: Stage) -> None:
        async with working(stage) as worker:
            row = await stage.running(await stage.create(seconds=5))
            later = await stage.create()
            worker.stop()
            worker.stop()
        done, waiting = await stage.ended(row), await stage.record.predictions.get(later.id)
        assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)
        assert waiting is not None
        assert waiting.status is Status.STARTING

    play(database_url, tmp_path, test, stalled_s=2)
