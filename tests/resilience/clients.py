"""Clients of the site: they create, wait or ask again and again, and go to the other gateway when one is away."""

import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway.processes import ENDED, FAKE

POLL_S = 0.5  # as Replicate's own clients
WAIT_S = 60  # asked for by `Prefer: wait`, as theirs do
PAUSE_S = 0.5  # before another try
CONNECT_S = 5.0
GIVE_UP_S = 240.0
BUSY = {429, 500, 502, 503, 504}  # tried again, as their clients do


@dataclass
class Asked:
    """One prediction that a client wants, from its first try to its end."""

    input: dict[str, object]
    id: str = ""  # once it was answered
    prediction: dict[str, Any] = field(default_factory=dict)  # as it was seen last
    waited_s: float = 0.0  # until its end was seen
    failures: int = 0  # requests that got no answer, or one that says to try again


@dataclass
class Clients:
    """Some clients that create at the same time, each one prediction after the other."""

    gateways: list[str]
    token: str
    webhook: str
    count: int
    stopping: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin. Every other client waits with its create, the others ask every half second."""
        for number in range(self.count):
            self._run(threading.Thread(target=self._live, args=(random.Random(number), number)))

    def stop(self) -> None:
        """Create no more, and return when each client has seen the end that it waits for."""
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def ask(self, *, wait: bool = False, gateway: int = 0, **given: object) -> Asked:
        """Let one more client ask for a prediction, first of this gateway, and return once it was answered."""
        asked = Asked(given)
        self._run(threading.Thread(target=self._ask, args=(asked, wait, gateway)))
        give_up = time.monotonic() + GIVE_UP_S
        while not asked.id and not wait and time.monotonic() < give_up:
            time.sleep(0.02)
        return asked

    @property
    def answered(self) -> list[Asked]:
        """Return what was answered with an id."""
        return [one for one in self.asked if one.id]

    @property
    def longest_s(self) -> float:
        """Return the longest that a client waited for an end beyond the time that its run takes."""
        return max((one.waited_s - float(str(one.input.get("seconds", 0))) for one in self.answered), default=0.0)

    def _run(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _live(self, chance: random.Random, number: int) -> None:
        while not self.stopping.is_set():
            given = {"seconds": round(chance.uniform(0.1, 0.6), 2), "files": 1, "bytes": 1000}
            self._ask(Asked(dict(given)), number % 2 == 0, number // 2)

    def _ask(self, asked: Asked, wait: bool, gateway: int) -> None:
        self.asked.append(asked)
        began = time.monotonic()
        gateways = itertools.cycle(self.gateways[gateway % 2 :] + self.gateways[: gateway % 2])
        headers = {"Authorization": f"Bearer {self.token}"}
        timeout = httpx.Timeout(WAIT_S + 5, connect=CONNECT_S)
        with httpx.Client(headers=headers, timeout=timeout, trust_env=False) as client:
            url = next(gateways)
            while asked.prediction.get("status") not in ENDED:
                if time.monotonic() > began + GIVE_UP_S:
                    return
                if not self._step(client, url, asked, wait):
                    asked.failures += 1
                    url = next(gateways)
                    time.sleep(PAUSE_S)
                elif asked.prediction["status"] not in ENDED:
                    time.sleep(POLL_S)
        asked.waited_s = time.monotonic() - began

    def _step(self, client: httpx.Client, url: str, asked: Asked, wait: bool) -> bool:
        """Create, or look how it is. False: there was no answer, or one that says to try again."""
        body = {"input": asked.input, "webhook": self.webhook, "webhook_events_filter": ["completed"]}
        prefer = {"Prefer": f"wait={WAIT_S}"} if wait else {}
        try:
            if asked.id:
                answer = client.get(f"{url}/v1/predictions/{asked.id}")
            else:
                answer = client.post(f"{url}/v1/models/{FAKE}/predictions", json=body, headers=prefer)
        except httpx.TransportError:
            return False
        if answer.status_code in BUSY:
            return False
        answer.raise_for_status()
        asked.prediction = answer.json()
        asked.id = asked.prediction["id"]
        return True
