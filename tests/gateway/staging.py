"""A worker in this process, with a real database and a fake Cog server in a process of its own."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.prediction import Prediction, Status
from gateway.record import Record
from gateway.tasks import end
from gateway.work.coglet import Coglet
from gateway.work.inputs import InputLimits, Inputs
from gateway.work.timeouts import Timeouts
from gateway.work.worker import Worker
from tests.gateway.processes import NO_TLS, TIMEOUT_S
from tests.gateway.recording import QUEUE, new, reload

FAKE = Path(__file__).with_name("fake_coglet.py")
QUICK = Timeouts(beat_s=0.5, poll_s=0.1, lost_s=2, gone_s=0.5, cancel_s=2, busy_s=20, setup_failed_s=0)
ENDLESS_S = 600  # a run that a test cancels or interrupts


@dataclass
class FakeCog:
    journal: Path
    arguments: tuple[str, ...] = ()
    url: str = ""

    def start(self) -> None:
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, str(FAKE), "--port", port, "--journal", str(self.journal), *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def requests(self, method: str, status: int | None = None) -> list[str]:
        """Return the paths of the requests with this method, or those that got this status."""
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []
        return [line["path"] for line in lines if line["method"] == method and status in (None, line["status"])]

    async def restart_forever(self) -> None:
        """Start it again whenever it exits, as its supervisor does."""
        while True:
            await asyncio.sleep(0.05)
            if self.process.poll() is not None:
                self.close()
                self.start()


@dataclass
class Harness:
    record: Record
    cog: FakeCog
    client: httpx.AsyncClient
    owner: int

    async def create(self, **inputs: object) -> Prediction:
        return await self.record.predictions.create(new(self.owner, input=inputs))

    async def run(self, **inputs: object) -> Prediction:
        return await self.ended(await self.create(**inputs))

    async def until(self, row: Prediction, condition: Callable[[Prediction], object]) -> Prediction:
        with self.record.notices.watch(row.id) as watch:
            async with asyncio.timeout(TIMEOUT_S):
                while not condition(now := await reload(self.record, row)):
                    await watch.changed(0.2)
        return now

    async def ended(self, row: Prediction) -> Prediction:
        return await self.until(row, lambda now: now.status.ended)

    async def started(self, row: Prediction, attempts: int = 1) -> Prediction:
        """Wait until the Cog server has got the prediction this many times."""
        await self.until(row, lambda now: now.status is Status.PROCESSING and now.attempts == attempts)
        async with asyncio.timeout(TIMEOUT_S):
            while sum(row.id in path for path in self.cog.requests("PUT")) < attempts:
                await asyncio.sleep(0.02)
        return row

    async def inject(self, **faults: object) -> None:
        """Make the Cog server misbehave; fake_coglet.py lists the faults."""
        await self.client.post(self.cog.url + "/faults", json=faults)

    @asynccontextmanager
    async def worker(self, timeouts: Timeouts = QUICK, coglet: Coglet | None = None) -> AsyncIterator[Worker]:
        """Run a worker for the block; on the way out it finishes what it runs."""
        inputs = Inputs(self.record, InputLimits(file_bytes=1 << 20, total_s=20, private=True))
        coglet = coglet or Coglet(self.client, self.cog.url)
        worker = Worker(self.record, coglet, inputs, QUEUE, "server", timeouts)
        task = asyncio.create_task(worker.run("127.0.0.1", 0, 1 << 20))
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, TIMEOUT_S)


@asynccontextmanager
async def running(record: Record, owner: int, journal: Path, arguments: tuple[str, ...]) -> AsyncIterator[Harness]:
    """Run a fake Cog server with its supervisor, and the sweep."""
    cog = FakeCog(journal, arguments)
    cog.start()
    with closing(cog):
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as client:
            tasks = [asyncio.create_task(cog.restart_forever()), asyncio.create_task(record.sweep.run_forever(0.2))]
            try:
                yield Harness(record, cog, client, owner)
            finally:
                await end(*tasks)
