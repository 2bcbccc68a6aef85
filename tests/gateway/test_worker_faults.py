import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.prediction import Attempt, Status
from gateway.work.coglet import Coglet
from tests.gateway.recording import QUEUE
from tests.gateway.staging import LIMIT_S, QUICK, Stage, play, working


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
        jobs = await stage.record.procrastinate.job_manager.list_jobs_async(queue=QUEUE)
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
    manager = stage.record.procrastinate.job_manager
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
            assert await stage.record.sweep.give_up(live.id, live.job_id)  # as a sweep that thinks it dead
            await stage.record.predictions.cancel(row.id)
            done = await stage.ended(row)
            assert done.status is Status.CANCELED
            assert (await stage.ended(await stage.create())).status is Status.SUCCEEDED
        assert await stage.record.files.by_prediction() == {}

    play(database_url, tmp_path, test)


def test_a_server_that_stops_with_its_worker_loses_no_attempt(database_url: str, tmp_path: Path) -> None:
    """As when a container's two processes are told to stop at once."""

    async def test(stage: Stage) -> None:
        row = await stage.create(seconds=2)
        for stops in (1, 2, 3):
            async with working(stage) as worker:
                while len(stage.cog.asked("PUT")) < stops:
                    await asyncio.sleep(0.02)
                worker.stop()
                stage.cog.process.terminate()
            now = await stage.record.predictions.get(row.id)
            assert now is not None
            assert (now.status, now.attempts) == (Status.PROCESSING, 0)
        async with working(stage):
            done = await stage.ended(row)
        assert (done.status, done.attempts) == (Status.SUCCEEDED, 1)

    play(database_url, tmp_path, test)
