"""The numbered migrations, which only go forward. docs/gateway.md, "Upgrades", says what one may change."""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import psycopg
from procrastinate.schema import SchemaManager

from gateway.record.database import Connection, DatabaseError, conninfo

logger = logging.getLogger(__name__)

_NEEDS = re.compile(r"-- needs (\S+)\n")
_LOCK = 7_203_514_901  # an advisory lock for migrations; any number that nobody else uses
RETRY_S = 0.5


class TooNewError(DatabaseError):
    """A later version of this program has changed the database so that this one can't use it."""


@dataclass(frozen=True)
class Migration:
    """A numbered change of the schema."""

    name: str  # 0001_predictions.sql
    text: str

    @property
    def needs(self) -> str | None:
        """The migration that a program must know to run on this schema; None if this one only adds."""
        found = _NEEDS.match(self.text)
        return found[1] if found else None


def known_migrations() -> list[Migration]:
    """Return this program's migrations, in order."""
    folder = resources.files("gateway.record.migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(name, (folder / name).read_text("utf-8")) for name in names]


async def migrate(url: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply the missing migrations and return their names. Any number of processes may call this at once.

    Programs of the previous version keep running meanwhile.

    Raises:
        TooNewError: A later version has changed the database.
    """
    known = known_migrations() if migrations is None else migrations
    async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as connection:
        await connection.execute("select pg_advisory_lock(%s)", (_LOCK,))  # released with the connection
        await connection.execute(
            "create table if not exists migrations (name text primary key, applied_at timestamptz default now())"
        )
        await connection.execute("alter table migrations add column if not exists needs text")
        await _add_procrastinate(connection)
        applied = []
        for migration in known:
            found = await connection.execute("select 1 from migrations where name = %s", (migration.name,))
            if await found.fetchone():
                continue
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(
                    "insert into migrations (name, needs) values (%s, %s)", (migration.name, migration.needs)
                )
            logger.info("migration applied", extra={"migration": migration.name})
            applied.append(migration.name)
        await check_schema(connection, known)
        return applied


async def wait_until_migrated(url: str) -> None:
    """Return when the database answers and has this program's schema.

    A process that starts before the database, or before the migration, waits here.

    Raises:
        TooNewError: A later version has changed the database, so waiting doesn't help.
    """
    logged = ""
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(conninfo(url)) as connection:
                return await check_schema(connection)
        except TooNewError:
            raise
        except (psycopg.Error, DatabaseError) as error:
            if str(error) != logged:
                logged = str(error)
                logger.warning("waiting for the database", extra={"error": logged})
        await asyncio.sleep(RETRY_S)


async def check_schema(connection: Connection, migrations: Sequence[Migration] | None = None) -> None:
    """Check that this program can run on the database's schema.

    Unknown migrations are fine unless they say otherwise: during an upgrade both versions run.

    Raises:
        DatabaseError: A migration is missing.
        TooNewError: A migration that this program doesn't know needs a later version.
    """
    known = [migration.name for migration in (known_migrations() if migrations is None else migrations)]
    found = await connection.execute("select to_regclass('migrations')")
    row = await found.fetchone()
    applied: dict[str, str | None] = {}
    if row is not None and row[0] is not None:
        # Through JSON, because the first version's table has no column `needs`.
        found = await connection.execute("select name, to_jsonb(m)->>'needs' from migrations m order by name")
        applied = dict(await found.fetchall())
    if missing := [name for name in known if name not in applied]:
        raise DatabaseError(f"the database lacks {', '.join(missing)}: run python -m gateway.record migrate")
    for name, needs in applied.items():
        if name not in known and needs is not None and needs not in known:
            raise TooNewError(
                f"the database has the migration {name}, which needs a version that knows {needs}: install a later "
                "version of the gateway"
            )


async def _add_procrastinate(connection: Connection) -> None:
    """Create procrastinate's tables. When its version moves, its own migrations become a numbered file here."""
    found = await connection.execute("select to_regclass('procrastinate_jobs')")
    row = await found.fetchone()
    if row is None or row[0] is None:
        async with connection.transaction():
            await connection.execute(SchemaManager.get_schema())
