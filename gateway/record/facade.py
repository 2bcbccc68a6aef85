"""The record as one thing to open and hand on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import procrastinate

from gateway.record import database as databases
from gateway.record.attempts import Attempts
from gateway.record.changes import Changes, listening
from gateway.record.clock import Clock
from gateway.record.database import UNAVAILABLE, Secrets
from gateway.record.deliveries import Deliveries
from gateway.record.files import Files
from gateway.record.lost import Lost
from gateway.record.numbers import Numbers
from gateway.record.predictions import Predictions
from gateway.record.retention import Retention
from gateway.record.rows import Body
from gateway.record.tokens import Tokens


@dataclass(frozen=True)
class Record:
    """Everything that is known, by who asks."""

    engine: procrastinate.App  # the queues
    secrets: Secrets
    predictions: Predictions  # for clients
    attempts: Attempts  # for workers
    lost: Lost  # for the sweep
    deliveries: Deliveries  # for the webhooks
    tokens: Tokens
    files: Files
    retention: Retention
    numbers: Numbers
    changes: Changes
    clock: Clock  # of all processes

    async def ready(self) -> bool:
        """Say whether the database answers."""
        try:
            return await self.numbers.answers()
        except UNAVAILABLE:
            return False


@asynccontextmanager
async def opened(
    url: str,
    files_url: str,
    make_body: Callable[[Secrets, Clock], Body],
    max_connections: int = 8,
    stalled_s: float = 30.0,
) -> AsyncIterator[Record]:
    """Open the record on a migrated database, and close it at the end.

    make_body: gets the record's secrets and clock, returns what serialises a prediction for its webhooks.
    stalled_s: an attempt without a heartbeat for so long is lost. Raises DatabaseError for a schema that is missing
    or too old.
    """
    clock = Clock()
    async with databases.opened(url, max_connections) as database:
        async with database.pool.connection() as connection:
            await clock.hear(connection)
        secrets = await databases.secrets_of(database)
        body = make_body(secrets, clock)
        files = Files(files_url)
        async with listening(url, clock) as changes:
            yield Record(
                engine=database.engine,
                secrets=secrets,
                predictions=Predictions(database, body),
                attempts=Attempts(database, body),
                lost=Lost(database, body, stalled_s),
                deliveries=Deliveries(database),
                tokens=Tokens(database),
                files=files,
                retention=Retention(database, files),
                numbers=Numbers(database),
                changes=changes,
                clock=clock,
            )
