"""The worker beside a Cog server, in this process, on a real database and a fake coglet that is a real server."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from gateway.record import Attempt, Prediction, Record, Status
from gateway.work import sweep
from gateway.work.coglet import Coglet, plain_error
from gateway.work.concluding import storable
from gateway.work.patience import Patience
from gateway.work.worker import Worker
from tests.gateway.recording import QUEUE, new, opened, owner

FAKE = Path(__file__).with_name("fake_coglet.py")
QUICK = Patience(beat_s=0.5, poll_s=0.1, lost_s=2, gone_s=0.5, cancel_s=2, busy_s=20, setup_failed_s=0)
LIMIT_S = 90


@dataclass
class Cog:
    """A fake Cog server, which can end and be started again."""

    journal: Path
    arguments: tuple[str, ...] = ()
    url: str = ""

    def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, str(FAKE), "--port", port, "--journal", str(self.journal), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def asked(self, method: str) -> list[str]:
        """The paths that were asked for by a method."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []
        return [line["path"] for line in lines if line["method"] == method]

    async def supervise(self) -> None:
        """Start it again when it ends, as its supervisor does."""
        while True:
            await asyncio.sleep(0.05)
            if self.process.poll() is not None:
                self.end()
                self.start()


@dataclass
class Stage:
    """What a test plays on."""

    record: Record
    cog: Cog
    client: httpx.AsyncClient
    owner: int

    async def create(self, **given: object) -> Prediction:
        return await self.record.predictions.create(new(self.owner, input=given))

    async def until(self, row: Prediction, there: Callable[[Prediction], object]) -> Prediction:
        with self.record.changes.watch(row.id) as watch:
            while True:
                now = await self.record.predictions.get(row.id)
                assert now is not None
                if there(now):
                    return now
                await watch.changed(0.2)

    async def ended(self, row: Prediction) -> Prediction:
        return await self.until(row, lambda now: now.status.ended)

    async def running(self, row: Prediction) -> Prediction:
        """The prediction, once the server has it."""
        await self.until(row, lambda now: now.status is Status.PROCESSING)
        while not any(row.id in path for path in self.cog.asked("PUT")):
            await asyncio.sleep(0.02)
        return row

    async def faults(self, **faults: object) -> None:
        await self.client.post(self.cog.url + "/faults", json=faults)

    def worker(self, patience: Patience = QUICK) -> Worker:
        return Worker(self.record, Coglet(self.client, self.cog.url), QUEUE, "server", patience)


@asynccontextmanager
async def working(stage: Stage, patience: Patience = QUICK) -> AsyncIterator[Worker]:
    """Run a worker for the block; it ends what it runs."""
    worker = stage.worker(patience)
    task = asyncio.create_task(worker.run("127.0.0.1", 0, 1 << 20))
    try:
        yield worker
    finally:
        worker.stop()
        await task


def play(
    url: str,
    folder: Path,
    test: Callable[[Stage], Awaitable[None]],
    arguments: tuple[str, ...] = (),
    stalled_s: float = 3600,
) -> None:
    """Set the stage: a record, its sweep, a fake coglet and its supervisor."""

    async def run() -> None:
        async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
            cog = Cog(folder / "journal.jsonl", arguments)
            cog.start()
            stack.callback(cog.end)
            record = await stack.enter_async_context(opened(url, folder / "files", stalled_s))
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            tasks = [asyncio.create_task(cog.supervise()), asyncio.create_task(sweep.run_forever(record, 0.2))]
            for task in tasks:
                stack.callback(task.cancel)
            await test(Stage(record, cog, client, await owner(record)))

    asyncio.run(run())


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
        puts = stage.cog.asked("PUT")
        assert {row.attempts for row in ended} == {1}
        assert sorted(set(puts)) == sorted(f"/predictions/{row.id}-{row.job_id}" for row in rows)
        assert list(await stage.record.engine.job_manager.list_jobs_async(queue=QUEUE)) == []

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
        assert done.error == "The output is larger than 1 MB, which the gateway takes at most"
        assert after.status is Status.SUCCEEDED

    play(database_url, tmp_path, test)


def test_a_full_disk_fails_the_prediction_and_leaves_no_file(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        row = await stage.create(files=2)
        (tmp_path / "files" / row.id).write_text("a file where the folder should be")
        async with working(stage, replace(QUICK, store_tries=2)):
            done = await stage.ended(row)
        assert done.status is Status.FAILED
        assert done.error is not None
        assert done.error.startswith("The output could not be stored: ")
        assert done.files == ()

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
            row = await stage.running(await stage.create(seconds=LIMIT_S))
            await stage.record.predictions.cancel(row.id)
            done = await stage.ended(row)
            assert done.status is Status.CANCELED
            assert len(stage.cog.asked("POST")) == 1  # a second would raise in the model's clean-up
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED

    play(database_url, tmp_path, test)


def test_a_server_that_does_not_heed_a_cancel_is_shut_down(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            row = await stage.running(await stage.create(seconds=LIMIT_S, deaf=True))
            await stage.record.predictions.cancel(row.id)
            assert (await stage.ended(row)).status is Status.CANCELED
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED
        assert stage.cog.asked("POST")[-1] == "/shutdown"

    play(database_url, tmp_path, test)


def test_a_crash_fails_and_the_server_is_recycled(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            done = await stage.ended(await stage.create(crash=True))
            assert (done.status, done.error, done.attempts) == (Status.FAILED, "Worker crashed", 1)
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED
        assert stage.cog.asked("POST") == ["/shutdown"]

    play(database_url, tmp_path, test)


@pytest.mark.parametrize("fault", ["dead_child", "lose_terminal"])
def test_what_the_server_lost_runs_again(database_url: str, tmp_path: Path, fault: str) -> None:
    """The idle child had died; or the server forgot the terminal webhook, and is idle."""

    async def test(stage: Stage) -> None:
        await stage.faults(**{fault: 1})
        async with working(stage):
            done = await stage.ended(await stage.create())
        assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
        assert len(set(stage.cog.asked("PUT"))) == len(stage.cog.asked("PUT")) == 2  # never one id twice

    play(database_url, tmp_path, test)


def test_a_killed_server_loses_its_run_which_runs_again_once(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            row = await stage.running(await stage.create(seconds=1))
            stage.cog.process.kill()
            done = await stage.ended(row)
            assert (done.status, done.attempts) == (Status.SUCCEEDED, 2)
            row = await stage.running(await stage.create(seconds=LIMIT_S))
            stage.cog.process.kill()
            await stage.until(row, lambda now: now.attempts == 2)
            while len([path for path in stage.cog.asked("PUT") if row.id in path]) < 2:
                await asyncio.sleep(0.02)
            stage.cog.process.kill()
            done = await stage.ended(row)
            assert (done.status, done.error) == (Status.FAILED, "Prediction interrupted; the worker was lost")

    play(database_url, tmp_path, test)


def test_nothing_is_dispatched_to_a_failed_setup(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            done = await stage.ended(await stage.create())
        assert (done.status, done.error) == (Status.FAILED, "The model's setup failed")
        assert done.logs.endswith("RuntimeError: no weights")
        assert stage.cog.asked("PUT") == []

    play(database_url, tmp_path, test, ("--setup-fails",))


def test_a_silent_server_is_waited_for(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            row = await stage.running(await stage.create(seconds=0.3))
            await stage.faults(silent_s=3)
            done = await stage.ended(row)
        assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)

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


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_the_next_worker_adopts_what_a_dead_one_began(database_url: str, tmp_path: Path, seconds: float) -> None:
    """The run ends while nobody listens, or when the next worker does."""

    async def test(stage: Stage) -> None:
        attempt = await begun_by_a_dead_worker(stage, seconds=seconds, text="adopted")
        await asyncio.sleep(1)
        row = await stage.record.predictions.get(attempt.id)
        assert row is not None
        async with working(stage):
            done = await stage.ended(row)
            assert (done.status, done.output, done.attempts) == (Status.SUCCEEDED, "adopted", 1)
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED
        assert len(stage.cog.asked("PUT")) == 2
        jobs = await stage.record.engine.job_manager.list_jobs_async(queue=QUEUE)
        assert list(jobs) == []

    play(database_url, tmp_path, test)


def test_what_ran_on_an_earlier_boot_runs_again_at_once(database_url: str, tmp_path: Path) -> None:
    """Worker and server have both died; nobody waits for the silence to be noticed, which takes an hour here."""

    async def test(stage: Stage) -> None:
        attempt = await begun_by_a_dead_worker(stage, seconds=LIMIT_S)
        await stage.client.post(stage.cog.url + "/shutdown")
        row = await stage.record.predictions.get(attempt.id)
        assert row is not None
        async with working(stage):
            await stage.until(row, lambda now: now.attempts == 2)
            await stage.record.predictions.cancel(row.id)
            assert (await stage.ended(row)).status is Status.CANCELED

    play(database_url, tmp_path, test)


async def begun_by_a_dead_worker(stage: Stage, **given: object) -> Attempt:
    """Do what a worker does that is killed right after the start."""
    row = await stage.create(**given)
    manager = stage.record.engine.job_manager
    job = await manager.fetch_job([QUEUE], await manager.register_worker())
    assert job is not None
    assert job.id is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        callback = f"http://127.0.0.1:{free.getsockname()[1]}/of-the-dead"
    coglet = Coglet(stage.client, stage.cog.url)
    while not (boot := (await coglet.health()).boot):
        await asyncio.sleep(0.05)
    attempt = Attempt(row.id, job.id, "server", boot, callback)
    assert await stage.record.attempts.begin(attempt)
    await coglet.start(attempt.cog_id, row.input, callback)
    return attempt


def test_a_worker_that_was_taken_over_drops_its_run(database_url: str, tmp_path: Path) -> None:
    async def test(stage: Stage) -> None:
        async with working(stage):
            row = await stage.running(await stage.create(seconds=30, files=1, text="old"))
            live = await stage.record.predictions.get(row.id)
            assert live is not None
            assert await stage.record.lost.give_up(live.id, live.job_id)  # as a sweep that thinks it dead
            await stage.record.predictions.cancel(row.id)
            done = await stage.ended(row)
            assert done.status is Status.CANCELED
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED
        assert await stage.record.files.by_prediction() == {}

    play(database_url, tmp_path, test)
