"""Migrations go forward only, and the version before runs beside each."""

import asyncio
import os
import re
import secrets
import subprocess
from pathlib import Path

import psycopg
import pytest

from gateway.prediction import Outcome, Status
from gateway.record import Record
from gateway.record.database import DatabaseError
from gateway.record.migrations import Migration, TooNewError, known_migrations, migrate
from gateway.serve import postgres
from gateway.serve.supervisor import python
from tests.gateway.processes import ROOT
from tests.gateway.recording import fetched, new, owner, with_record

KNOWN = known_migrations()
# What a later version may do to tables that this one uses: add, where nobody has to know of it.
NEXT = Migration(
    "9001_next.sql",
    """
    alter table predictions add column place text, add column weight integer not null default 1;
    create table places (name text primary key, of text references predictions (id));
    create index predictions_place on predictions (place);
    """,
)
LATER = Migration("9002_later.sql", "-- needs 9001_next.sql\nalter table predictions drop column callback;")

ADDS = re.compile(
    r"create table |create index |create( or replace)? function |comment on |insert into "
    r"|create unique index \w+ on (?P<unique>\w+) |alter table \w+ (?P<columns>add column .*)"
)


def beyond_adding(migration: Migration) -> list[str]:
    """Return the statements that the version before may not bear."""
    text = re.sub(r"--[^\n]*", "", migration.text)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.DOTALL)  # a function's body: the version before calls none of it
    statements = [" ".join(statement.split()) + " " for statement in text.split(";") if statement.strip()]
    made = {found[1] for statement in statements if (found := re.match(r"create table (\w+)", statement))}

    def adds(statement: str) -> bool:
        found = ADDS.match(statement)
        if found is None or (found["unique"] and found["unique"] not in made):
            return False
        actions = re.split(r", (?=\w+ (?:column|constraint) )", found["columns"] or "add column")
        return all(
            action.startswith("add column") and ("not null" not in action or "default" in action) for action in actions
        )

    return [statement for statement in statements if not adds(statement)]


def test_migrations_are_numbered_one_after_the_other() -> None:
    assert [migration.name[:5] for migration in KNOWN] == [f"{number:04}_" for number in range(1, len(KNOWN) + 1)]


def test_a_migration_only_adds_or_says_what_it_needs() -> None:
    names = [migration.name for migration in KNOWN]
    for migration in KNOWN:
        earlier = names[: names.index(migration.name)]
        assert migration.needs in earlier if migration.needs else beyond_adding(migration) == [], migration.name


@pytest.mark.parametrize(
    "statement",
    [
        "alter table predictions drop column callback",
        "alter table predictions rename column callback to url",
        "alter table predictions add column place text not null",
        "alter table predictions add column place text, drop column callback",
        "alter table predictions alter column input set not null",
        "alter table predictions add constraint short check (length(logs) < 9)",
        "create unique index predictions_boot on predictions (boot)",
        "drop table servers",
        "delete from tokens",
    ],
)
def test_what_the_version_before_may_not_bear_is_found(statement: str) -> None:
    assert beyond_adding(Migration("9001_x.sql", f"create table x (id text);\n{statement};")) == [f"{statement} "]
    assert beyond_adding(NEXT) == []


def test_several_may_migrate_at_once(cluster: postgres.Cluster) -> None:
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f'create database "{name}"')

    async def all_at_once() -> list[list[str]]:
        return await asyncio.gather(*(migrate(cluster.url_of(name)) for _ in range(4)))

    assert sorted(asyncio.run(all_at_once())) == [[], [], [], [migration.name for migration in KNOWN]]
    assert asyncio.run(migrate(cluster.url_of(name))) == []


def test_what_is_missing_is_said(database_url: str, tmp_path: Path) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("delete from migrations")
    with pytest.raises(DatabaseError, match=r"lacks 0001_predictions\.sql"):
        with_record(database_url, tmp_path, _nothing)


def test_this_version_runs_beside_the_next(database_url: str, tmp_path: Path) -> None:
    """All that it writes and reads goes on after a migration that it does not know."""
    assert asyncio.run(migrate(database_url, [*KNOWN, NEXT])) == [NEXT.name]
    assert asyncio.run(migrate(database_url)) == []  # nor does it undo it

    async def test(it: Record) -> None:
        me = await owner(it)
        row = await it.predictions.create(new(me, cancel_after_s=90))
        attempt = await fetched(it, row)
        assert await it.attempts.begin(attempt)
        assert await it.attempts.beat(attempt)
        assert await it.attempts.log(attempt, "one\n")
        assert (await it.sweep.once()).requeued == 1  # stalled_s is 0
        again = await it.predictions.get(row.id)
        assert again is not None
        second = await fetched(it, again)
        assert await it.attempts.begin(second)
        await it.attempts.report_health("server", row.queue, "READY")
        assert await it.attempts.end(second, Outcome(Status.SUCCEEDED, output="done"))
        await it.deliveries.settle(row.id, delivered=True)
        canceled = await it.predictions.create(new(me))
        assert await it.predictions.cancel(canceled.id)
        page = await it.predictions.page(me)
        assert [found.status for found in page.rows] == [Status.CANCELED, Status.SUCCEEDED]
        counts = {count.status: count.count for count in await it.statistics.ended()}
        assert counts == {"canceled": 1, "succeeded": 1}
        assert await it.retention.remove(0) == 1

    with_record(database_url, tmp_path, test, stalled_s=0)


def test_a_database_that_is_too_new_is_refused(database_url: str, tmp_path: Path) -> None:
    """What LATER takes away is used by this version, not by the one that knows NEXT."""
    asyncio.run(migrate(database_url, [*KNOWN, NEXT, LATER]))
    said = r"has the migration 9002_later\.sql, which needs a version that knows 9001_next\.sql"
    with pytest.raises(TooNewError, match=said):
        with_record(database_url, tmp_path, _nothing)
    with pytest.raises(TooNewError, match=said):
        asyncio.run(migrate(database_url))
    assert asyncio.run(migrate(database_url, [*KNOWN, NEXT])) == []  # the version between
    environment = {**os.environ, "GATEWAY_DATABASE_URL": database_url, "GATEWAY_PORT": "0", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(python("-m", "gateway"), env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert ended.stderr.startswith("gateway: the database has the migration 9002_later.sql"), ended.stderr


async def _nothing(it: Record) -> None:
    pass
