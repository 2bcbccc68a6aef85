"""Migrations only add, so that the previous version runs next to the new schema."""

import asyncio
import os
import re
import secrets
import subprocess
from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import open_record
from gateway.record.database import DatabaseError
from gateway.record.migrations import Migration, TooNewError, known_migrations, migrate
from gateway.serve.supervisor import python
from tests.gateway.conftest import Databases
from tests.gateway.processes import ROOT
from tests.gateway.recording import begin, create_owner, new, reload

pytestmark = pytest.mark.anyio

KNOWN = known_migrations()
# What a later version may do to tables that this version uses: add what this version can ignore.
NEXT = Migration(
    "9001_next.sql",
    """
    alter table predictions add column place text, add column weight integer not null default 1;
    create table places (name text primary key, of text references predictions (id));
    create index predictions_place on predictions (place);
    """,
)
LATER = Migration("9002_later.sql", "-- needs 9001_next.sql\nalter table predictions drop column callback;")

BREAKS = re.compile(
    r"\b(drop|rename|truncate|delete|update|alter column|add constraint|create unique index)\b"
    r"|add column (?![^,;]*default)[^,;]*not null"
)


def breaking(migration: Migration) -> list[str]:
    """Return what may break the previous version, which ignores functions and tables that it doesn't know."""
    text = re.sub(r"--[^\n]*|\$\$.*?\$\$", "", migration.text, flags=re.DOTALL)
    made = re.findall(r"create table (\w+)", text)
    statements = [" ".join(statement.split()) for statement in text.split(";")]
    return [one for one in statements if BREAKS.search(one) and not any(f" on {name} " in one for name in made)]


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.name[:5] for migration in KNOWN] == [f"{number:04}_" for number in range(1, len(KNOWN) + 1)]


def test_a_migration_only_adds_or_names_the_migration_that_it_needs() -> None:
    names = [migration.name for migration in KNOWN]
    for migration in KNOWN:
        earlier = names[: names.index(migration.name)]
        assert migration.needs in earlier if migration.needs else breaking(migration) == [], migration.name


@pytest.mark.parametrize(
    "statement",
    [
        "alter table predictions rename column callback to url",
        "alter table predictions add column place text not null",
        "alter table predictions add column place text, drop column callback",
        "create unique index predictions_boot on predictions (boot)",
    ],
)
def test_statements_that_may_break_the_previous_version_are_found(statement: str) -> None:
    assert breaking(Migration("9001_x.sql", f"create table x (id text);\n{statement};")) == [statement]
    assert breaking(NEXT) == []


@pytest.fixture
def database_url(databases: Databases) -> str:
    """Return a database of the test's own, since these tests change its schema."""
    return databases.make()


async def test_processes_that_migrate_at_the_same_time_apply_each_migration_once(databases: Databases) -> None:
    url = databases.create(f"t{secrets.token_hex(6)}")
    applied = await asyncio.gather(*(migrate(url) for _ in range(4)))
    assert sorted(applied) == [[], [], [], [migration.name for migration in KNOWN]]
    assert await migrate(url) == []


async def test_a_missing_migration_is_named(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("delete from migrations")
    with pytest.raises(DatabaseError, match=r"lacks 0001_predictions\.sql"):
        async with open_record(database_url, tmp_path.as_uri()):
            pass


async def test_this_version_runs_on_the_schema_of_the_next(database_url: str, tmp_path: Path) -> None:
    assert await migrate(database_url, [*KNOWN, NEXT]) == [NEXT.name]
    assert await migrate(database_url) == []  # which doesn't undo it
    async with open_record(database_url, tmp_path.as_uri(), stalled_s=0) as record:
        owner = await create_owner(record)
        row = await record.predictions.create(new(owner, cancel_after_s=90))
        attempt = await begin(record, row)
        assert await record.attempts.beat(attempt)
        assert await record.attempts.log(attempt, "one\n")
        assert (await record.sweep.once()).requeued == 1
        second = await begin(record, await reload(record, row))
        await record.attempts.report_health("server", row.queue, "READY")
        assert await record.attempts.end(second, Outcome(Status.SUCCEEDED, output="done"))
        await record.deliveries.settle(row.id, delivered=True)
        canceled = await record.predictions.create(new(owner))
        assert await record.predictions.cancel(canceled.id)
        page = await record.predictions.page(owner)
        assert [found.status for found in page.rows] == [Status.CANCELED, Status.SUCCEEDED]
        counts = {count.status: count.count for count in await record.statistics.ended()}
        assert counts == {"canceled": 1, "succeeded": 1}
        assert await record.retention.remove(0) == 1


async def test_a_database_that_is_too_new_is_rejected(database_url: str, tmp_path: Path) -> None:
    """This version uses what LATER removes; the version that knows NEXT doesn't."""
    await migrate(database_url, [*KNOWN, NEXT, LATER])
    message = r"has the migration 9002_later\.sql, which needs a version that knows 9001_next\.sql"
    with pytest.raises(TooNewError, match=message):
        async with open_record(database_url, tmp_path.as_uri()):
            pass
    with pytest.raises(TooNewError, match=message):
        await migrate(database_url)
    assert await migrate(database_url, [*KNOWN, NEXT]) == []  # the version between
    environment = {**os.environ, "GATEWAY_DATABASE_URL": database_url, "GATEWAY_PORT": "0", "PYTHONPATH": str(ROOT)}
    gateway = subprocess.run(python("-m", "gateway"), env=environment, capture_output=True, text=True, timeout=180)
    assert gateway.returncode == 1
    assert gateway.stderr.startswith("gateway: the database has the migration 9002_later.sql"), gateway.stderr
