"""The connection pool, the engine on it, and the numbered migrations."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import TypeAlias

import procrastinate
import psycopg
import psycopg.conninfo
from procrastinate.exceptions import ConnectorException
from procrastinate.schema import SchemaManager
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

logger = logging.getLogger(__name__)

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]
Pool: TypeAlias = AsyncConnectionPool[Connection]

POOL_WAIT_S = 5.0
SECRET_BYTES = 32
_LOCK = 7_203_514_901  # of those who migrate; any number will do that nobody else uses


# What PostgreSQL holds each session to. A host that vanishes in a transaction leaves its locks behind, the sweep's
# and those of rows; PostgreSQL's own two hours are too long to wait for them, for connections too.
SESSION = {
    "timezone": "UTC",  # the API answers in UTC
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
    "idle_in_transaction_session_timeout": 20_000,  # ms; ours take milliseconds
}
# The database can't be reached, or has ended the session. The engine wraps what psycopg raises.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    ConnectorException,
)


class DatabaseError(RuntimeError):
    """Report a database that can't be used as it is."""


@dataclass(frozen=True)
class Secrets:
    """What all gateways and workers sign with."""

    files: bytes = field(repr=False)  # for the URLs of files and streams
    webhooks: bytes = field(repr=False)  # for the deliveries; clients read it to verify them


@dataclass(frozen=True)
class Database:
    """What every query needs."""

    url: str
    pool: Pool
    engine: procrastinate.App

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection with a transaction, which commits at the end of the block."""
        async with self.pool.connection() as connection, connection.transaction():
            yield connection


def conninfo(url: str) -> str:
    """Return libpq's form of a database's URL, with what every connection of ours wants."""
    return psycopg.conninfo.make_conninfo(
        url,
        options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
        connect_timeout=5,
        # Without these a host that vanishes is noticed after the kernel's two hours.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=20_000,
    )


@asynccontextmanager
async def opened(url: str, max_connections: int = 8) -> AsyncIterator[Database]:
    """Open a pool on a database that has been migrated, and close it at the end.

    Raises DatabaseError when the schema is missing or older than this program.
    """
    pool: Pool = AsyncConnectionPool(
        conninfo(url),
        min_size=1,
        max_size=max_connections,
        timeout=POOL_WAIT_S,
        open=False,
        check=AsyncConnectionPool.check_connection,  # after a restart of PostgreSQL all idle ones are dead
    )
    engine = procrastinate.App(connector=procrastinate.PsycopgConnector())
    async with pool:
        async with pool.connection() as connection:
            await _check_schema(connection)
        async with engine.open_async(pool):
            yield Database(url, pool, engine)


async def migrate(url: str) -> list[str]:
    """Bring the schema up to date and return the names of the migrations that it took. Any number may call at once."""
    async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as connection:
        await connection.execute("select pg_advisory_lock(%s)", (_LOCK,))  # ends with the connection
        await connection.execute(
            "create table if not exists migrations (name text primary key, applied_at timestamptz default now())"
        )
        await _add_engine(connection)
        taken = []
        for name, text in _migrations():
            found = await connection.execute("select 1 from migrations where name = %s", (name,))
            if await found.fetchone():
                continue
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute("insert into migrations (name) values (%s)", (name,))
            logger.info("migrated", extra={"migration": name})
            taken.append(name)
        return taken


async def wait_until_migrated(url: str, pause_s: float = 0.5) -> None:
    """Return when the database answers and has this program's schema; a process that starts first waits here."""
    told = ""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(conninfo(url)) as connection:
                return await _check_schema(connection)
        except (psycopg.Error, DatabaseError) as error:
            if str(error) != told:
                told = str(error)
                logger.warning("waiting for the database", extra={"error": told})
        await asyncio.sleep(pause_s)


async def secrets_of(database: Database) -> Secrets:
    """Return the secrets, which are made at their first use and the same for all processes."""
    return Secrets(files=await _secret(database, "files"), webhooks=await _secret(database, "webhooks"))


async def _secret(database: Database, name: str) -> bytes:
    async with database.transaction() as connection:
        await connection.execute(
            "insert into secrets (name, value) values (%s, %s) on conflict do nothing",
            (name, secrets.token_bytes(SECRET_BYTES)),
        )
        found = await connection.execute("select value from secrets where name = %s", (name,))
        row = await found.fetchone()
    assert row is not None  # noqa: S101 - inserted above, and never deleted
    return bytes(row[0])


async def _add_engine(connection: Connection) -> None:
    """Make procrastinate's tables. When its pin moves, its own migrations since then become a numbered file here."""
    found = await connection.execute("select to_regclass('procrastinate_jobs')")
    row = await found.fetchone()
    if row is None or row[0] is None:
        async with connection.transaction():
            await connection.execute(SchemaManager.get_schema())


async def _check_schema(connection: Connection) -> None:
    """Raise DatabaseError if a migration is missing. More than this program knows is fine: a newer one runs too."""
    found = await connection.execute("select to_regclass('migrations')")
    row = await found.fetchone()
    taken: set[str] = set()
    if row is not None and row[0] is not None:
        rows = await (await connection.execute("select name from migrations")).fetchall()
        taken = {name for (name,) in rows}
    missing = [name for name, _ in _migrations() if name not in taken]
    if missing:
        raise DatabaseError(f"the database lacks {', '.join(missing)}: run python -m gateway.record migrate")


def _migrations() -> list[tuple[str, str]]:
    folder = resources.files("gateway.record") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(name, (folder / name).read_text("utf-8")) for name in names]
