"""Judge what became of predictions: each has one end, was told of it as it was, and its files are there."""

import collections
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import scalar_row

from tests.gateway.receiver import Delivery

TERMINAL = ("succeeded", "failed", "canceled")
SWEPT_WITHIN_S = 150  # the gateway deletes files that nobody has, each minute
AUDIT: LiteralString = """
create table audit (id text not null, status text not null, at timestamptz not null default clock_timestamp());
create function note_end() returns trigger language plpgsql as $$
begin
    if new.status in ('succeeded', 'failed', 'canceled') and new.status is distinct from old.status then
        insert into audit (id, status) values (new.id, new.status);
    elsif old.status in ('succeeded', 'failed', 'canceled') and new.status is distinct from old.status then
        insert into audit (id, status) values (new.id, 'from ' || old.status || ' to ' || new.status);
    end if;
    return new;
end $$;
create trigger note_end after update on predictions for each row execute function note_end();
"""  # every end, whoever writes it
UNFINISHED: LiteralString = """
select (select count(*) from predictions where status in ('starting', 'processing'))
     + (select count(*) from deliveries where done_at is null)
"""


@dataclass(frozen=True)
class Evidence:
    """What was seen from outside, to be compared with the database."""

    database_url: str
    answered: Sequence[str]  # ids that clients were given
    deliveries: Sequence[Delivery]  # the webhooks that came
    requests: Sequence[Mapping[str, Any]]  # what the Cog servers were asked
    files: Path  # the folder of the output files
    tend: Callable[[], None]  # called while waiting


@dataclass(frozen=True)
class Verdict:
    """What was found at the end; each problem is a sentence."""

    ends: collections.Counter[str]
    attempts: int
    files: int
    problems: list[str]


def unfinished(database_url: str) -> int:
    """Count what has not ended and what is owed to webhooks. Raises psycopg.OperationalError."""
    with psycopg.connect(database_url, connect_timeout=2, row_factory=scalar_row) as connection:
        return int(connection.execute(UNFINISHED).fetchone() or 0)


def judge(evidence: Evidence) -> Verdict:
    """Compare what was answered with the rows, the ends, the webhooks and the files."""
    with psycopg.connect(evidence.database_url) as connection:
        rows = connection.execute("select id, status, files, attempts from predictions").fetchall()
        noted = connection.execute("select id, status from audit").fetchall()
        owed = connection.execute("select count(*) from deliveries where done_at is null").fetchone()
    status = {row[0]: row[1] for row in rows}
    noted_ends = collections.Counter(prediction_id for prediction_id, _ in noted)
    told = collections.Counter(json.loads(delivery.body)["id"] for delivery in evidence.deliveries)
    problems = [f"{i} was answered and is not stored" for i in evidence.answered if i not in status]
    problems += [f"{i} is still {s}" for i, s in status.items() if s not in TERMINAL]
    problems += [f"{i} has {noted_ends[i]} ends" for i, s in status.items() if s in TERMINAL and noted_ends[i] != 1]
    problems += [f"{i} went {s}" for i, s in noted if s not in TERMINAL]
    problems += [f"{i} was never told" for i in status if not told[i]]
    problems += _different(evidence.deliveries)
    problems += [f"{owed and owed[0]} webhooks are owed"] if owed != (0,) else []
    wanted = {file["key"]: file["size"] for row in rows for file in row[2]}
    problems += _files(evidence, wanted)
    puts = [one["path"] for one in evidence.requests if (one["method"], one["status"]) == ("PUT", 202)]
    problems += [f"{path} was put {n} times" for path, n in collections.Counter(puts).items() if n > 1]
    return Verdict(collections.Counter(status.values()), sum(row[3] for row in rows), len(wanted), problems)


def _different(deliveries: Sequence[Delivery]) -> Iterator[str]:
    """Yield the predictions whose webhooks differ from one try to the next."""
    bodies: dict[str, set[str]] = collections.defaultdict(set)
    for delivery in deliveries:
        bodies[json.loads(delivery.body)["id"]].add(delivery.body)
    yield from (
        f"{prediction_id} was told in {len(told)} ways" for prediction_id, told in bodies.items() if len(told) > 1
    )


def _files(evidence: Evidence, wanted: dict[str, int]) -> Iterator[str]:
    """Yield the files that are lost, cut, or left over once the gateway has swept."""
    folder = evidence.files

    def stored() -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}

    give_up = time.monotonic() + SWEPT_WITHIN_S
    while stored() != wanted and time.monotonic() < give_up:
        evidence.tend()
        time.sleep(0.5)
    there = stored()
    yield from (f"the file {key} is lost" for key in wanted.keys() - there.keys())
    yield from (f"the file {key} is left over" for key in there.keys() - wanted.keys())
    yield from (f"the file {key} is cut" for key in wanted.keys() & there.keys() if there[key] != wanted[key])
