"""Store the output of an iterator while the model produces it."""

import asyncio
import logging
from collections.abc import Sequence

from obstore.exceptions import BaseError as StoreError

from gateway.prediction import Attempt, File, Json
from gateway.record import Record
from gateway.record.database import UNAVAILABLE
from gateway.work.callbacks import AttemptWebhooks
from gateway.work.coglet import Chunk, Coglet, Liveness
from gateway.work.outputs import Stored, store

logger = logging.getLogger(__name__)

RETRY_S = 0.5


class OutputSoFar:
    """The items of an attempt's output that are stored, in order."""

    def __init__(self, record: Record, attempt: Attempt, files: Sequence[File] = ()) -> None:
        """Take an attempt, and its stored files if an earlier worker has started it."""
        self._record = record
        self._attempt = attempt
        self.values: list[Json] = []  # with references in place of files
        self.files = list(files)

    async def load(self) -> None:
        """Read what an earlier worker has stored."""
        self.values = await self._record.predictions.chunks(self._attempt.id)

    async def add(self, items: Sequence[Json]) -> bool:
        """Store the next items. Return False if the attempt has been taken over."""
        first = len(self.values)
        stored = [
            await store(item, self._record.files, self._attempt.id, f"output-{first + number}")
            for number, item in enumerate(items)
        ]
        values = [one.output for one in stored]
        new_files = [file for one in stored for file in one.files]
        files = [*self.files, *new_files] if new_files else []
        if not await self._record.attempts.add_output(self._attempt, first, values, files):
            return False
        self.values += values
        self.files += new_files
        return True

    async def complete(self, output: Json) -> Stored:
        """Store what is left of the final output, whose first items are stored."""
        if not self.values:
            return await store(output, self._record.files, self._attempt.id)
        if not isinstance(output, list) or len(output) < len(self.values):
            return Stored(list(self.values), tuple(self.files))  # ended early, without its output
        first = len(self.values)
        rest = [
            await store(item, self._record.files, self._attempt.id, f"output-{first + number}")
            for number, item in enumerate(output[first:])
        ]
        files = [*self.files, *(file for one in rest for file in one.files)]
        return Stored([*self.values, *(one.output for one in rest)], tuple(files))


async def follow_events(coglet: Coglet, attempt: Attempt, output: OutputSoFar) -> None:
    """Store a running prediction's output from coglet's server-sent events. Returns when it has ended."""
    chunks: asyncio.Queue[Chunk] = asyncio.Queue()

    async def receive() -> None:
        async for chunk in coglet.chunks(attempt.cog_id):
            chunks.put_nowait(chunk)

    while True:
        receiving = asyncio.create_task(receive(), name="events")
        try:
            await _store_chunks(receiving, chunks, output)
        finally:
            receiving.cancel()
        # The events ended: with the prediction, or because coglet dropped some or the connection was lost.
        probe = await coglet.probe(attempt.cog_id)
        if probe.liveness is Liveness.ENDED:
            return
        if isinstance(probe.output, list):
            await _store_items(probe.output[len(output.values) :], output)
        await asyncio.sleep(RETRY_S)


async def follow_webhooks(webhooks: AttemptWebhooks, output: OutputSoFar) -> None:
    """Store a running prediction's output from its webhooks, each of which has all of it so far."""
    while True:
        report = await webhooks.outputs.get()
        while not webhooks.outputs.empty():
            report = webhooks.outputs.get_nowait()
        if isinstance(report, list):
            await _store_items(report[len(output.values) :], output)


async def _store_chunks(receiving: "asyncio.Task[None]", chunks: "asyncio.Queue[Chunk]", output: OutputSoFar) -> None:
    """Store chunks, as many at a time as have arrived, until the events end or have a gap."""
    while True:
        getting = asyncio.create_task(chunks.get())
        await asyncio.wait([getting, receiving], return_when=asyncio.FIRST_COMPLETED)
        if not getting.done():
            getting.cancel()
            return
        arrived = [getting.result()]
        while not chunks.empty():
            arrived.append(chunks.get_nowait())
        new = [chunk for chunk in arrived if chunk.number >= len(output.values)]  # after a reconnect, old ones come too
        if new and new[0].number > len(output.values):
            return
        await _store_items([chunk.value for chunk in new], output)


async def _store_items(items: Sequence[Json], output: OutputSoFar) -> None:
    """Store items, retrying until the database and the store answer."""
    while items:
        try:
            await output.add(items)
        except (*UNAVAILABLE, StoreError, OSError) as error:
            logger.warning("can't store the output so far; retrying", extra={"error": str(error).strip()})
            await asyncio.sleep(RETRY_S)
        else:
            return
