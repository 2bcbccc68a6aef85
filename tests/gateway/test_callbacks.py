"""How the worker answers a Cog server's webhooks."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from gateway.prediction import Status
from gateway.work.callbacks import Callbacks, CallbackSocket, serving

ENDED = {"id": "x", "status": "succeeded", "logs": "", "metrics": {}, "output": "done"}
RUNNING = {"id": "x", "status": "processing", "logs": "one\n", "metrics": {}}


def with_callbacks(test: Callable[[Callbacks, httpx.AsyncClient], Awaitable[None]], token: str | None = None) -> None:
    async def run() -> None:
        bound = CallbackSocket.bind("127.0.0.1", 0, None)
        callbacks = Callbacks("127.0.0.1", bound.socket, 1 << 20, token)
        client = httpx.AsyncClient(trust_env=False, timeout=60)
        async with asyncio.timeout(60), serving(callbacks, bound.socket), client:
            await test(callbacks, client)

    asyncio.run(run())


def test_a_terminal_webhook_is_answered_after_the_commit() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
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
        assert (await client.post(url, json=ENDED)).status_code == 410  # its attempt is over

    with_callbacks(test)


def test_the_terminal_webhook_of_an_attempt_that_was_taken_over_is_not_retried() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.receiving(url) as webhooks:
            posted = asyncio.create_task(client.post(url, json=ENDED))
            await webhooks.reports.get()
            webhooks.settle(False)
            assert (await posted).status_code == 410  # coglet gives up at a 4xx

    with_callbacks(test)


def test_a_terminal_webhook_is_retried_after_a_worker_has_stopped() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.receiving(url) as webhooks:
            posted = asyncio.create_task(client.post(url, json=ENDED))
            await webhooks.reports.get()
        assert (await posted).status_code == 503

    with_callbacks(test)


def test_an_unreadable_webhook_gets_400() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.receiving(url) as webhooks:
            for body in (b"", b"[]", b"{", b'{"status": "aborted"}', b'{"status": "succeeded", "metrics": {"x": NaN}}'):
                assert (await client.post(url, content=body)).status_code == 400
            assert webhooks.reports.empty()
        assert (await client.get(url)).status_code == 405
        assert (await client.post(url + "x", json=ENDED)).status_code == 410

    with_callbacks(test)


def test_a_worker_takes_over_the_port_of_a_dead_worker_only() -> None:
    first = CallbackSocket.bind("127.0.0.1", 0, None)
    url = Callbacks("127.0.0.1", first.socket, 1).new_url()
    second = CallbackSocket.bind("127.0.0.1", 0, url)
    assert not second.adopts
    first.socket.close()
    third = CallbackSocket.bind("127.0.0.1", 0, url)
    assert third.adopts
    assert f":{third.socket.getsockname()[1]}/" in url
    for one in (second, third):
        one.socket.close()


def test_a_webhook_without_the_cog_servers_token_is_refused() -> None:
    """Another user of the host can reach the port, and a log may show the URL."""

    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.receiving(url) as webhooks:
            for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "sesame"}):
                assert (await client.post(url, json=ENDED, headers=headers)).status_code == 401
            assert webhooks.terminal is None
            assert (await client.post(url, json=RUNNING, headers={"Authorization": "Bearer sesame"})).status_code == 200
            assert (await webhooks.reports.get()).logs == "one\n"

    with_callbacks(test, token="sesame")  # noqa: S106
