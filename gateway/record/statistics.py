"""Statistics for /metrics: queue lengths, ended predictions, servers and webhooks."""

from dataclasses import dataclass

from psycopg.rows import class_row

from gateway.record.database import IS_LIVE, Database


@dataclass(frozen=True)
class QueueLength:
    """The length of a version's queue."""

    model: str
    version: str
    queued: int
    running: int
    oldest_s: float  # the age of the oldest queued prediction


@dataclass(frozen=True)
class EndedCount:
    """The predictions that have ended since the database was created."""

    model: str
    version: str
    status: str
    count: int
    queue_s: float  # sum of the times from created to started
    run_s: float  # sum of the times from started to completed


@dataclass(frozen=True)
class ServerHealth:
    """The health of a Cog server, as its worker last saw it."""

    name: str
    queue: str
    health: str
    age_s: float  # since then


@dataclass(frozen=True)
class WebhookCounts:
    """The `completed` webhooks in the database, by state."""

    owed: int
    delivered: int
    given_up: int


class Statistics:
    """Read the statistics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ping(self) -> None:
        """Make a round trip to the database.

        Raises:
            UNAVAILABLE: It doesn't answer.
        """
        async with self._database.pool.connection() as connection:
            await connection.execute("select 1")

    async def queues(self) -> list[QueueLength]:
        """Return the queues of the versions that have live predictions."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(QueueLength)) as c,
        ):
            await c.execute(
                f"""select model, version,
                   count(*) filter (where beat_at is null) as queued,
                   count(*) filter (where beat_at is not null) as running,
                   coalesce(extract(epoch from now() - min(created_at) filter (where beat_at is null)), 0)::float8
                   as oldest_s from predictions where {IS_LIVE} group by model, version
                   order by model, version"""
            )
            return await c.fetchall()

    async def ended(self) -> list[EndedCount]:
        """Return the counts of ended predictions."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(EndedCount)) as c,
        ):
            await c.execute("select model, version, status, count, queue_s, run_s from ends order by 1, 2, 3")
            return await c.fetchall()

    async def servers(self) -> list[ServerHealth]:
        """Return the Cog servers whose workers have reported in the last minute."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(ServerHealth)) as c,
        ):
            await c.execute(
                """select name, queue, health, extract(epoch from now() - seen_at)::float8 as age_s from servers
                   where seen_at > now() - interval '1 min' order by name"""
            )
            return await c.fetchall()

    async def webhooks(self) -> WebhookCounts:
        """Count the `completed` webhooks that retention has not removed."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(WebhookCounts)) as c,
        ):
            await c.execute(
                """select count(*) filter (where done_at is null) as owed,
                   count(*) filter (where delivered) as delivered,
                   count(*) filter (where done_at is not null and not delivered) as given_up from deliveries"""
            )
            counts = await c.fetchone()
        assert counts is not None  # noqa: S101 - an aggregate has one row
        return counts
