"""Clients of the site. They create predictions, wait or poll, and switch to the other gateway when one is down."""

import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway.processes import ENDED, FAKE
from tests.waiting import HANG_S, eventually

POLL_S = 0.5  # as Replicate's own clients
WAIT_S = 60  # of `Prefer: wait`, as theirs
PAUSE_S = 0.5  # before a retry
CONNECT_S = 5.0
RETRIED = {429, 500, 502, 503, 504}  # as their clients retry


@dataclass
class Asked:
    input: dict[str, object]
    id: str = ""  # once it is created
    prediction: dict[str, Any] = field(default_factory=dict)  # as the client last saw it

    @property
    def ended(self) -> bool:
        return self.prediction.get("status") in ENDED


@dataclass
class Clients:
    """Some clients at work at the same time; each makes one prediction after the other."""

    gateways: list[str]
    token: str
    webhook: str
    choose: Callable[[random.Random], dict[str, object]] = lambda chance: {
        "seconds": round(chance.uniform(0.1, 0.6), 2),
        "files": 1,
        "bytes": 1000,
    }
    stopping: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, count: int) -> None:
        """Start the clients: the even ones wait with `Prefer: wait`, the odd ones poll."""
        for number in range(count):
            self._run(threading.Thread(target=self._live, args=(random.Random(number), number)))

    def stop(self) -> None:
        """Create no more predictions, and return once each client has seen the end of its last one."""
        self.stopping.set()
        for thread in self._threads:
            thread.join()

    def ask(self, *, wait: bool = False, gateway: int = 0, **given: object) -> Asked:
        """Create a prediction as one more client, first at this gateway; return once it is created, unless it waits."""
        asked = Asked(given)
        self._run(threading.Thread(target=self._ask, args=(asked, wait, gateway)))
        eventually(lambda: asked.id or wait)
        return asked

    def _run(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _live(self, chance: random.Random, number: int) -> None:
        while not self.stopping.is_set():
            self._ask(Asked(self.choose(chance)), number % 2 == 0, number // 2)

    def _ask(self, asked: Asked, wait: bool, gateway: int) -> None:
        self.asked.append(asked)
        give_up = time.monotonic() + HANG_S
        gateways = itertools.cycle(self.gateways[gateway % 2 :] + self.gateways[: gateway % 2])
        headers = {"Authorization": f"Bearer {self.token}"}
        timeout = httpx.Timeout(WAIT_S + 5, connect=CONNECT_S)
        with httpx.Client(headers=headers, timeout=timeout, trust_env=False) as client:
            url = next(gateways)
            while not asked.ended and time.monotonic() < give_up:
                if not self._step(client, url, asked, wait):
                    url = next(gateways)
                    time.sleep(PAUSE_S)
                elif not asked.ended:
                    time.sleep(POLL_S)

    def _step(self, client: httpx.Client, url: str, asked: Asked, wait: bool) -> bool:
        """Create or get the prediction; False means that the request has to be retried."""
        body = {"input": asked.input, "webhook": self.webhook, "webhook_events_filter": ["completed"]}
        prefer = {"Prefer": f"wait={WAIT_S}"} if wait else {}
        try:
            if asked.id:
                answer = client.get(f"{url}/v1/predictions/{asked.id}")
            else:
                answer = client.post(f"{url}/v1/models/{FAKE}/predictions", json=body, headers=prefer)
        except httpx.TransportError:
            return False
        if answer.status_code in RETRIED:
            return False
        answer.raise_for_status()
        asked.prediction = answer.json()
        asked.id = asked.prediction["id"]
        return True
