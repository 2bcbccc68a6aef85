"""What a fault works with, and how it looks at what it did."""

import json
import time
from dataclasses import dataclass, field
from typing import LiteralString

import httpx

from bench.drill.clients import Asked, Clients
from bench.drill.site import Host, Site
from tests.gateway.receiver import Receiver

SIGNED_WITHIN_S = 300  # how old a webhook may be for those who verify it
LATE = "/late/completed"  # where the receiver refuses the first try of each webhook


@dataclass(frozen=True)
class Drill:
    """What a fault works with."""

    site: Site
    clients: Clients
    receiver: Receiver


@dataclass
class Found:
    """What a fault found out."""

    seconds: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    runs_again: bool = False  # whether an attempt may be lost by it
    may_fail_with: tuple[str, ...] = ()  # what the errors begin with that the fault brings

    def limit(self, name: str, seconds: float, at_most_s: float) -> None:
        """Note how long something took, and whether that was too long."""
        self.seconds[name] = seconds
        if seconds > at_most_s:
            self.problems.append(f"{name} took {seconds:.1f} s, but at most {at_most_s:.0f} s are allowed")


def until_it_works(site: Site, host: Host) -> float:
    """Return how long it takes until a host has begun and ended a prediction that came after now."""
    began = time.monotonic()
    now = site.ask("select clock_timestamp()")
    ended: LiteralString = """select count(*) from predictions
                              where server = %s and started_at > %s and status = 'succeeded'"""
    site.until(lambda: site.ask(ended, host.name, now))
    return time.monotonic() - began


def told_twice(drill: Drill, path: str) -> set[str]:
    """Return the predictions whose end was told at a path at a second try."""
    ids = [json.loads(delivery.body)["id"] for delivery in drill.receiver.at(path)]
    return {one for one in ids if ids.count(one) > 1}


def badly_signed(drill: Drill, since: float) -> list[str]:
    """Return the webhooks that whoever verifies them refuses, as too old or from the future."""
    now = time.time() - time.monotonic()
    problems = []
    for delivery in drill.receiver.deliveries:
        off_s = int(delivery.headers["webhook-timestamp"]) - (now + delivery.at)
        if delivery.at > since and abs(off_s) > SIGNED_WITHIN_S:
            problems.append(f"a webhook was signed {off_s:.0f} s off its time")
    return problems


def unreachable(drill: Drill, asked: list[Asked]) -> list[str]:
    """Return the files that a gateway does not give, by the URLs of answers and of webhooks."""
    told = [json.loads(delivery.body) for delivery in drill.receiver.at(LATE)]
    outputs = {str(one["output"]) for one in [*told, *(one.prediction for one in asked)]}
    problems = []
    for url in sorted(outputs):
        path = httpx.URL(url).raw_path.decode()
        for gateway in drill.site.gateways:
            status = httpx.get(gateway + path, trust_env=False).status_code
            problems += [f"{gateway} answers {status} to the URL of a file"] if status != httpx.codes.OK else []
    return problems
