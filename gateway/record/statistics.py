"""Figures for the operators: queues, ends, deliveries."""

from dataclasses import dataclass

from psycopg.rows import class_row

from gateway.record.database import Database


@dataclass(frozen=True)
class Queue:
    """How a model's queue stands."""

    model: str
    version: str
    queued: int
    running: int
    oldest_s: float  # how long the oldest queued one has waited


@dataclass(frozen=True)
class Ends:
    """What has ended since the database was made."""

    model: str
    version: str
    status: str
    count: int
    queue_s: float  # sum of the times from created to started
    run_s: float  # sum of the times from started to completed


@dataclass(frozen=True)
class Server:
    """A Cog server, as the worker beside it last saw it."""

    name: str
    queue: str
    health: str
    age_s: float  # since it was seen


@dataclass(frozen=True)
class DeliveryNumbers:
    """The terminal webhooks that are kept."""

    owed: int
    delivered: int
    given_up: int


class Numbers:
    """Read the figures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answers(self) -> bool:
        """Ask the database for nothing. Raises what psycopg raises when it doesn't answer."""
        async with self._database.pool.connection() as connection:
            await connection.execute("select 1")
        return True

    async def queues(self) -> list[Queue]:
        """Return the models that have something queued or running."""
        async with self._database.pool.connection() as connection, connection.cursor(row_factory=class_row(Queue)) as c:
            await c.execute(
                """select model, version,
                   count(*) filter (where beat_at is null) as queued,
                   count(*) filter (where beat_at is not null) as running,
                   coalesce(extract(epoch from now() - min(created_at) filter (where beat_at is null)), 0)::float8
                   as oldest_s from predictions where status in ('starting', 'processing') group by model, version
                   order by model, version"""
            )
            return await c.fetchall()

    async def ends(self) -> list[Ends]:
        """Return the counts of all ends."""
        async with self._database.pool.connection() as connection, connection.cursor(row_factory=class_row(Ends)) as c:
            await c.execute("select model, version, status, count, queue_s, run_s from ends order by 1, 2, 3")
            return await c.fetchall()

    async def servers(self) -> list[Server]:
        """Return the Cog servers that were seen in the last minute."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(Server)) as c,
        ):
            await c.execute(
                """select name, queue, health, extract(epoch from now() - seen_at)::float8 as age_s from servers
                   where seen_at > now() - interval '1 min' order by name"""
            )
            return await c.fetchall()

    async def deliveries(self) -> DeliveryNumbers:
        """Count the terminal webhooks that retention has not removed."""
        async with (
            self._database.pool.connection() as connection,
            connection.cursor(row_factory=class_row(DeliveryNumbers)) as c,
        ):
            await c.execute(
                """select count(*) filter (where done_at is null) as owed,
                   count(*) filter (where delivered) as delivered,
                   count(*) filter (where done_at is not null and not delivered) as given_up from deliveries"""
            )
            numbers = await c.fetchone()
        assert numbers is not None  # noqa: S101 - an aggregate has one row
        return numbers
