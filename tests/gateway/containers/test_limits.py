"""How fast output arrives, in milliseconds and megabytes; run by script/test --limits on a quiet machine."""

import time

import psutil
import pytest

from tests.gateway.processes import System, Token, events

pytestmark = pytest.mark.limits
FIRST_MS = 150


def test_a_token_arrives_soon_after_the_model_has_yielded_it(containers_token: Token) -> None:
    given = {"prompt": "time", "count": 60, "interval_s": 0.05}
    for _ in range(3):
        created = containers_token.create("test/tokens", input=given)
        ahead_s = time.time() - time.monotonic()
        came = [event for event in events(created["urls"]["stream"]) if event.name == "output"]
        late_ms = sorted(1000 * (event.at_s + ahead_s - float(event.data)) for event in came[5:])
        print(f"a token is late by {late_ms[len(late_ms) // 2]:.0f} ms (median), {late_ms[-1]:.0f} ms at most")
        assert late_ms[len(late_ms) // 2] < FIRST_MS


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
