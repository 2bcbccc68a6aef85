"""A worker in this process, on a real database, beside a fake coglet that is a real server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.prediction import Prediction, Status
from gateway.record import Record, open_record
from gateway.work.coglet import Coglet
from gateway.work.inputs import InputLimits, Inputs
from gateway.work.timeouts import Timeouts
from gateway.work.worker import Worker
from tests.gateway.recording import QUEUE, new, owner

FAKE = Path(__file__).with_name("fake_coglet.py")
QUICK = Timeouts(beat_s=0.5, poll_s=0.1, lost_s=2, gone_s=0.5, cancel_s=2, busy_s=20, setup_failed_s=0)
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

    def asked(self, method: str, status: int | None = None) -> list[str]:
        """The paths that were asked for by a method, and answered with a status."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []
        return [line["path"] for line in lines if line["method"] == method and status in (None, line["status"])]

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
        with self.record.notices.watch(row.id) as watch:
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

    def worker(self, timeouts: Timeouts = QUICK, coglet: Coglet | None = None) -> Worker:
        inputs = Inputs(self.record, InputLimits(file_bytes=1 << 20, total_s=20, private=True))
        coglet = coglet or Coglet(self.client, self.cog.url)
        return Worker(self.record, coglet, inputs, QUEUE, "server", timeouts)


@asynccontextmanager
async def working(stage: Stage, timeouts: Timeouts = QUICK) -> AsyncIterator[Worker]:
    """Run a worker for the block; it ends what it runs."""
    worker = stage.worker(timeouts)
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
            record = await stack.enter_async_context(open_record(url, (folder / "files").as_uri(), stalled_s=stalled_s))
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            tasks = [asyncio.create_task(cog.supervise()), asyncio.create_task(record.sweep.run_forever(0.2))]
            for task in tasks:
                stack.callback(task.cancel)
            await test(Stage(record, cog, client, await owner(record)))

    asyncio.run(run())
