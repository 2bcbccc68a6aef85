"""How fast output arrives, in milliseconds and megabytes; run by script/test --limits on a quiet machine."""

import json
import threading
import time

import httpx
import psutil
import psycopg
import pytest

from tests.gateway.processes import System, Token

pytestmark = pytest.mark.limits
FIRST_MS = 150  # at the client, after coglet has it


def cog_url(system: System, name: str) -> str:
    """Return the address of a Cog server, from its worker's command line."""
    arguments = psutil.Process(system.supervisor.process(f"worker-{name}").pid).cmdline()
    return str(arguments[arguments.index("--cog-url") + 1])


def lines(answer: httpx.Response, came: list[tuple[float, str]]) -> None:
    came += [(time.monotonic(), line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data")]


def test_a_token_arrives_soon_after_coglet_has_it(containers: System, containers_token: Token) -> None:
    for _ in range(3):
        created = containers_token.create("test/tokens", input={"prompt": "w", "count": 60, "interval_s": 0.05})
        containers_token.until(created["id"], "processing")
        ours: list[tuple[float, str]] = []
        theirs: list[tuple[float, str]] = []
        attempt = _attempt(containers, created["id"])
        url = f"{cog_url(containers, 'tokens')}/predictions/{attempt}"
        with (
            containers_token.http.stream("GET", created["urls"]["stream"]) as stream,
            httpx.stream("PUT", url, json={"input": 5}, headers={"Accept": "text/event-stream"}, timeout=60) as direct,
        ):
            threads = [threading.Thread(target=lines, args=given) for given in ((stream, ours), (direct, theirs))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        direct_at = {json.loads(data)["chunk"]: at for at, data in theirs if "chunk" in data}
        late_ms = [1000 * (at - direct_at[text]) for at, text in ours[5:] if text in direct_at]
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
        with containers_token.http.stream("GET", created["urls"]["stream"]) as answer:
            texts = [line for line in answer.iter_lines() if line.startswith("data")]
        assert len(texts) == 10_001

    run()
    before = rss_mb()
    run()
    after = rss_mb()
    print(f"MB before and after: {before} {after}")
    assert all(after[name] < before[name] + 20 for name in after)
