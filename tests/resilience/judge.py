"""Judge predictions: each has ended exactly once, its webhooks report that end, and its files are complete."""

import collections
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.rows import scalar_row

from tests.gateway.processes import ENDED
from tests.gateway.receiver import Delivery
from tests.waiting import HANG_S

AUDIT: LiteralString = """
create table audit (id text not null, status text not null);
create function note_end() returns trigger language plpgsql as $$
begin
    if new.status in ('succeeded', 'failed', 'canceled') and new.status is distinct from old.status then
        insert into audit values (new.id, new.status);
    elsif old.status in ('succeeded', 'failed', 'canceled') and new.status is distinct from old.status then
        insert into audit values (new.id, 'from ' || old.status || ' to ' || new.status);
    end if;
    return new;
end $$;
create trigger note_end after update on predictions for each row execute function note_end();
"""  # records every end, whichever process writes it
UNFINISHED: LiteralString = """
select (select count(*) from predictions where status in ('starting', 'processing'))
     + (select count(*) from deliveries where done_at is null)
"""


def unfinished(database_url: str) -> int:
    """Count the predictions and webhooks that are still to be finished. Raises psycopg.OperationalError."""
    with psycopg.connect(database_url, connect_timeout=2, row_factory=scalar_row) as connection:
        return int(connection.execute(UNFINISHED).fetchone() or 0)


def judge(
    database_url: str,
    created: Sequence[str],
    deliveries: Sequence[Delivery],
    requests: Sequence[Mapping[str, Any]],
    folder: Path,
    tend: Callable[[], None],
) -> list[str]:
    """Compare the database with what was observed from outside, and return the problems; each is a sentence.

    Args:
        database_url: The database, with AUDIT.
        created: The ids that clients received.
        deliveries: The webhooks that arrived.
        requests: The requests to the Cog servers.
        folder: Where the files are.
        tend: Is called while this waits for the gateway to delete unused files.
    """
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("select id, status, files from predictions").fetchall()
        noted = connection.execute("select id, status from audit").fetchall()
        uploads = connection.execute("select key, size from files where state = 'stored'").fetchall()
    status = {row[0]: row[1] for row in rows}
    ends = collections.Counter(prediction_id for prediction_id, _ in noted)
    bodies: dict[str, set[str]] = collections.defaultdict(set)
    for delivery in deliveries:
        bodies[json.loads(delivery.body)["id"]].add(delivery.body)
    puts = [one["path"] for one in requests if (one["method"], one["status"]) == ("PUT", 202)]
    files = {**dict(uploads), **{file["key"]: file["size"] for row in rows for file in row[2]}}
    found = _files(folder)
    give_up = time.monotonic() + HANG_S
    while found != files and time.monotonic() < give_up:
        tend()
        time.sleep(0.5)
        found = _files(folder)
    return [
        *(f"{i} was created and is not stored" for i in created if i not in status),
        *(f"{i} is still {s}" for i, s in status.items() if s not in ENDED),
        *(f"{i} has {ends[i]} ends" for i, s in status.items() if s in ENDED and ends[i] != 1),
        *(f"{i} went {s}" for i, s in noted if s not in ENDED),
        *(f"{i} had no webhook" for i in status if not bodies[i]),
        *(f"{i} had {len(sent)} different webhooks" for i, sent in bodies.items() if len(sent) > 1),
        *(f"{path} was put {n} times" for path, n in collections.Counter(puts).items() if n > 1),
        *(f"the file {key} is missing" for key in files.keys() - found.keys()),
        *(f"the file {key} is left over" for key in found.keys() - files.keys()),
        *(f"the file {key} is incomplete" for key in files.keys() & found.keys() if found[key] != files[key]),
    ]


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
