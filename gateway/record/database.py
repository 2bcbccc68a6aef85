"""The connection pool, the engine on it, and the numbered migrations."""

import asyncio
import logging
import re
import secrets
from collections.abc import AsyncIterator, Sequence
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

_NEEDS = re.compile(r"-- needs (\S+)\n")
POOL_WAIT_S = 5.0
# A connection that fails is tried again after a second, then two, four, eight: after a long outage nobody would be
# served for as long once more. Given up so soon, and begun anew, it is tried every second.
RECONNECT_S = 2.0
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


class TooNewError(DatabaseError):
    """Report a database that a later version has changed beyond what this one can use."""


@dataclass(frozen=True)
class Migration:
    """A numbered step of the schema, forward only. docs/gateway.md, "Upgrades", tells what one may do."""

    name: str  # 0001_predictions.sql
    text: str

    @property
    def needs(self) -> str | None:
        """Return the migration that a program must know to run beside this one; None: it only adds, any may."""
        found = _NEEDS.match(self.text)
        return found[1] if found else None


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

    Raises DatabaseError when the schema is missing, older than this program, or too new for it.
    """
    pool: Pool = AsyncConnectionPool(
        conninfo(url),
        min_size=1,
        max_size=max_connections,
        timeout=POOL_WAIT_S,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=AsyncConnectionPool.check,  # which begins anew where there is none
        open=False,
        check=AsyncConnectionPool.check_connection,  # after a restart of PostgreSQL all idle ones are dead
    )
    engine = procrastinate.App(connector=procrastinate.PsycopgConnector())
    async with pool:
        async with pool.connection() as connection:
            await check_schema(connection)
        async with engine.open_async(pool):
            yield Database(url, pool, engine)


async def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Bring the schema up to date and return the names of the migrations that it took. Any number may call at once.

    Programs of the version before go on meanwhile. Raises TooNewError.
    """
    known = migrations_known() if migrations is None else migrations
    async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as connection:
        await connection.execute("select pg_advisory_lock(%s)", (_LOCK,))  # ends with the connection
        await connection.execute(
            "create table if not exists migrations (name text primary key, applied_at timestamptz default now())"
        )
        await connection.execute("alter table migrations add column if not exists needs text")
        await _add_engine(connection)
        taken = []
        for migration in known:
            found = await connection.execute("select 1 from migrations where name = %s", (migration.name,))
            if await found.fetchone():
                continue
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(
                    "insert into migrations (name, needs) values (%s, %s)", (migration.name, migration.needs)
                )
            logger.info("migrated", extra={"migration": migration.name})
            taken.append(migration.name)
        await check_schema(connection, known)
        return taken


async def wait_until_migrated(url: str, pause_s: float = 0.5) -> None:
    """Return when the database answers and has this program's schema; a process that starts first waits here.

    Raises TooNewError, for which no waiting helps.
    """
    told = ""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(conninfo(url)) as connection:
                return await check_schema(connection)
        except TooNewError:
            raise
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


async def check_schema(connection: Connection, migrations: Sequence[Migration] | None = None) -> None:
    """Raise DatabaseError if a migration is missing, TooNewError for one that this program can't run beside.

    More than it knows is fine otherwise: in an upgrade both versions run.
    """
    known = [migration.name for migration in (migrations_known() if migrations is None else migrations)]
    found = await connection.execute("select to_regclass('migrations')")
    row = await found.fetchone()
    taken: dict[str, str | None] = {}
    if row is not None and row[0] is not None:
        # By way of JSON: the first version's table has no such column.
        found = await connection.execute("select name, to_jsonb(m)->>'needs' from migrations m order by name")
        taken = dict(await found.fetchall())
    if missing := [name for name in known if name not in taken]:
        raise DatabaseError(f"the database lacks {', '.join(missing)}: run python -m gateway.record migrate")
    for name, needs in taken.items():
        if name not in known and needs is not None and needs not in known:
            raise TooNewError(
                f"the database has {name}, which needs a version that knows {needs}; this one does not: install a "
                "later one"
            )


def migrations_known() -> list[Migration]:
    """Return this program's own migrations, in their order."""
    folder = resources.files("gateway.record") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(name, (folder / name).read_text("utf-8")) for name in names]
