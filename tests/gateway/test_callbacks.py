"""How the worker answers a Cog server's webhooks."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.prediction import Status
from gateway.work.callbacks import Callbacks, CallbackSocket, serving
from tests.gateway.processes import NO_TLS, TIMEOUT_S

pytestmark = pytest.mark.anyio

ENDED = {"id": "x", "status": "succeeded", "logs": "", "metrics": {}, "output": "done"}
RUNNING = {"id": "x", "status": "processing", "logs": "one\n", "metrics": {}}


@pytest.fixture
def auth_token() -> str | None:
    """Return the Cog server's token; a test overrides it with parametrize."""
    return None


@pytest.fixture
async def callbacks(auth_token: str | None) -> AsyncIterator[Callbacks]:
    bound = CallbackSocket.bind("127.0.0.1", 0, None)
    callbacks = Callbacks("127.0.0.1", bound.socket, 1 << 20, auth_token)
    async with serving(callbacks, bound.socket):
        yield callbacks


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS, timeout=TIMEOUT_S) as client:
        yield client


async def test_a_terminal_webhook_is_answered_after_the_commit(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
    url = callbacks.new_url()
    with callbacks.receiving(url) as webhooks:
        assert (await client.post(url, json=RUNNING)).status_code == 200
        assert (await webhooks.reports.get()).logs == "one\n"
        posted = asyncio.create_task(client.post(url, json=ENDED))
        assert (await webhooks.reports.get()).status is Status.SUCCEEDED
        again = asyncio.create_task(client.post(url, json=ENDED))  # coglet repeats it until it is answered
        await asyncio.wait([posted, again], timeout=0.3)
        assert not posted.done()
        assert not again.done()
        webhooks.settle(True)
        assert ((await posted).status_code, (await again).status_code) == (200, 200)
        assert webhooks.reports.empty()
    assert (await client.post(url, json=ENDED)).status_code == 410  # the attempt is over


@pytest.mark.parametrize(
    ("settled", "status"),
    [
        (False, 410),  # the attempt was taken over; coglet gives up at a 4xx
        (None, 503),  # the worker stops; coglet retries
    ],
)
async def test_a_terminal_webhook_that_is_not_stored_is_retried_only_if_another_worker_can_store_it(
    callbacks: Callbacks, client: httpx.AsyncClient, settled: bool | None, status: int
) -> None:
    url = callbacks.new_url()
    with callbacks.receiving(url) as webhooks:
        posted = asyncio.create_task(client.post(url, json=ENDED))
        await webhooks.reports.get()
        if settled is not None:
            webhooks.settle(settled)
    assert (await posted).status_code == status


async def test_an_unreadable_webhook_gets_400(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
    url = callbacks.new_url()
    with callbacks.receiving(url) as webhooks:
        for body in (b"", b"[]", b"{", b'{"status": "aborted"}', b'{"status": "succeeded", "metrics": {"x": NaN}}'):
            assert (await client.post(url, content=body)).status_code == 400
        assert webhooks.reports.empty()
    assert (await client.get(url)).status_code == 405
    assert (await client.post(url + "x", json=ENDED)).status_code == 410


def test_a_worker_takes_over_the_port_of_a_dead_worker_only() -> None:
    first = CallbackSocket.bind("127.0.0.1", 0, None)
    url = Callbacks("127.0.0.1", first.socket, 1).new_url()
    second = CallbackSocket.bind("127.0.0.1", 0, url)
    assert not second.adopts
    first.socket.close()
    third = CallbackSocket.bind("127.0.0.1", 0, url)
    assert third.adopts
    assert f":{third.socket.getsockname()[1]}/" in url
    for bound in (second, third):
        bound.socket.close()


@pytest.mark.parametrize("auth_token", ["sesame"])
async def test_a_webhook_without_the_cog_servers_token_is_rejected(
    callbacks: Callbacks, client: httpx.AsyncClient
) -> None:
    """Other users of the host can reach the port, and a log may show the URL."""
    url = callbacks.new_url()
    with callbacks.receiving(url) as webhooks:
        for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "sesame"}):
            assert (await client.post(url, json=ENDED, headers=headers)).status_code == 401
        assert webhooks.terminal is None
        assert (await client.post(url, json=RUNNING, headers={"Authorization": "Bearer sesame"})).status_code == 200
        assert (await webhooks.reports.get()).logs == "one\n"
