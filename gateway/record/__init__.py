"""Everything that the gateway knows: predictions, jobs, files and tokens. The only package that knows SQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import procrastinate

from gateway.clock import Clock
from gateway.links import Links
from gateway.record import notices
from gateway.record.attempts import Attempts
from gateway.record.database import UNAVAILABLE, Database, SecretInputs, Secrets, open_database, read_secrets
from gateway.record.end import Deliveries
from gateway.record.files import Files, Retention
from gateway.record.jobs import EXPIRE_TASK, GATEWAY_QUEUE, RETAIN_TASK
from gateway.record.migrations import check_schema
from gateway.record.notices import Notices
from gateway.record.predictions import Predictions
from gateway.record.statistics import Statistics
from gateway.record.sweep import Sweep
from gateway.record.tokens import Tokens
from gateway.record.uploads import Uploads


@dataclass(frozen=True)
class Record:
    """The queries, grouped by who makes them."""

    procrastinate: procrastinate.App  # the job queues
    secrets: Secrets
    clock: Clock
    links: Links  # the JSON and the URLs of predictions
    predictions: Predictions  # for clients
    attempts: Attempts  # for workers
    sweep: Sweep
    deliveries: Deliveries  # for webhooks
    tokens: Tokens
    files: Files
    uploads: Uploads
    secret_inputs: SecretInputs
    retention: Retention
    statistics: Statistics
    notices: Notices

    async def ready(self) -> bool:
        """Return whether the database answers."""
        try:
            await self.statistics.ping()
        except UNAVAILABLE:
            return False
        return True

    def register_tasks(self, keep_s: float) -> None:
        """Register the tasks of the queue `gateway` on the procrastinate app.

        Args:
            keep_s: A prediction's data is removed this long after its end; 0 keeps it forever.
        """
        app = self.procrastinate

        @app.task(name=EXPIRE_TASK, queue=GATEWAY_QUEUE)
        async def expire(id: str) -> None:  # noqa: A002 - the name of the job's argument
            await self.predictions.cancel(id)

        # One job is deferred for all gateways, and only while no earlier one waits.
        @app.periodic(cron="* * * * *")
        @app.task(name=RETAIN_TASK, queue=GATEWAY_QUEUE, queueing_lock=RETAIN_TASK)
        async def retain(timestamp: int) -> None:
            if keep_s:
                await self.retention.remove(keep_s)
            await self.retention.sweep_files()
            await self.uploads.sweep()
            await self.secret_inputs.sweep()
            if timestamp // 60 % 10 == 0:
                await self.retention.delete_old_rows()


@asynccontextmanager
async def open_record(
    database_url: str,
    files_url: str,
    *,
    file_url_s: float = 3600.0,
    stalled_s: float = 30.0,
    delivery_s: float = 30.0,
    max_connections: int = 8,
) -> AsyncIterator[Record]:
    """Open the record on a migrated database for the block.

    Args:
        database_url: The database, as libpq takes it.
        files_url: Where files are stored: file:///folder or the URL of a bucket.
        file_url_s: The least time that the signed URL of a file stays valid.
        stalled_s: An attempt without a heartbeat for this long is lost.
        delivery_s: The job of a delivery that started this long ago is lost.
        max_connections: The size of the connection pool. Notices use one connection more.

    Raises:
        DatabaseError: The schema is missing, older than this program, or too new for it.
    """
    async with open_database(database_url, max_connections) as database:
        async with database.pool.connection() as connection:
            await check_schema(connection)
        clock = Clock()
        await clock.sync(database.time)
        secrets = await read_secrets(database)
        links = Links(secrets.files, file_url_s, clock.now)
        async with notices.listening(database_url, clock) as heard:
            sweep = Sweep(database, links, stalled_s, delivery_s)
            yield _record(database, secrets, clock, links, heard, Files(files_url), sweep)


def _record(
    database: Database,
    secrets: Secrets,
    clock: Clock,
    links: Links,
    heard: Notices,
    files: Files,
    sweep: Sweep,
) -> Record:
    return Record(
        procrastinate=database.procrastinate,
        secrets=secrets,
        clock=clock,
        links=links,
        predictions=Predictions(database, links),
        attempts=Attempts(database, links),
        sweep=sweep,
        deliveries=Deliveries(database),
        tokens=Tokens(database),
        files=files,
        uploads=Uploads(database, files),
        secret_inputs=SecretInputs(database, secrets.inputs),
        retention=Retention(database, files),
        statistics=Statistics(database),
        notices=heard,
    )
