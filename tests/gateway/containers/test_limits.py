"""How fast output arrives, in milliseconds and megabytes; run by script/test --limits on a quiet machine."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import psycopg
import pytest

from tests.gateway.containers.conftest import cog_url
from tests.gateway.processes import System, Token, events

pytestmark = pytest.mark.limits
FIRST_MS = 150  # at the client, after coglet has it


def test_a_token_arrives_soon_after_coglet_has_it(containers: System, containers_token: Token) -> None:
    for _ in range(3):
        created = containers_token.create("test/tokens", input={"prompt": "w", "count": 60, "interval_s": 0.05})
        containers_token.until(created["id"], "processing")
        url = f"{cog_url(containers, 'tokens')}/predictions/{_attempt(containers, created['id'])}"
        direct_at = {}
        with ThreadPoolExecutor() as pool:
            ours = pool.submit(lambda stream: list(events(stream)), created["urls"]["stream"])
            accept = {"Accept": "text/event-stream"}
            with httpx.stream("PUT", url, json={"input": 5}, headers=accept, timeout=60) as direct:
                for line in direct.iter_lines():
                    if line.startswith("data: ") and "chunk" in line:
                        direct_at[json.loads(line.removeprefix("data: "))["chunk"]] = time.monotonic()
        late_ms = [
            1000 * (event.at_s - direct_at[event.data]) for event in ours.result()[5:] if event.data in direct_at
        ]
        print(f"a token is late by {sorted(late_ms)[len(late_ms) // 2]:.0f} ms (median), {max(late_ms):.0f} ms at most")
        assert sorted(late_ms)[len(late_ms) // 2] < FIRST_MS


def _attempt(system: System, prediction_id: str) -> str:
    with psycopg.connect(system.database_url) as connection:
        row = connection.execute("select job_id from predictions where id = %s", (prediction_id,)).fetchone()
    assert row is not None
    return f"{prediction_id}-{row[0]}"


def test_memory_stays_flat_over_ten_thousand_events(containers: System, containers_token: Token) -> None:
    def rss_mb() -> dict[str, float]:
        names = ("gateway", "worker-tokens")
        return {name: psutil.Process(containers.supervisor.process(name).pid).memory_info().rss / 1e6 for name in names}

    def run() -> None:
        given = {"prompt": "", "count": 10_000, "interval_s": 0.002}
        created = containers_token.create("test/tokens", input=given)
        assert sum(1 for _ in events(created["urls"]["stream"])) == 10_001

    run()
    before = rss_mb()
    run()
    after = rss_mb()
    print(f"MB before and after: {before} {after}")
    assert all(after[name] < before[name] + 20 for name in after)
