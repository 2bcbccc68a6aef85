"""Where a Cog server's webhooks come in: what they are answered, and when."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from gateway.record import Status
from gateway.work.callbacks import Callbacks, serving
from gateway.work.listening import Listening

ENDED = {"id": "x", "status": "succeeded", "logs": "", "metrics": {}, "output": "done"}
RUNNING = {"id": "x", "status": "processing", "logs": "one\n", "metrics": {}}


def with_callbacks(test: Callable[[Callbacks, httpx.AsyncClient], Awaitable[None]]) -> None:
    async def run() -> None:
        listening = Listening.beside("127.0.0.1", 0, None)
        callbacks = Callbacks("127.0.0.1", listening.socket, 1 << 20)
        client = httpx.AsyncClient(trust_env=False, timeout=60)
        async with asyncio.timeout(60), serving(callbacks, listening.socket), client:
            await test(callbacks, client)

    asyncio.run(run())


def test_a_terminal_one_is_answered_when_its_end_is_committed() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.inbox(url) as inbox:
            assert (await client.post(url, json=RUNNING)).status_code == 200
            assert (await inbox.reports.get()).logs == "one\n"
            posted = asyncio.create_task(client.post(url, json=ENDED))
            assert (await inbox.reports.get()).status is Status.SUCCEEDED
            again = asyncio.create_task(client.post(url, json=ENDED))  # it is repeated until it is answered
            await asyncio.wait([posted, again], timeout=0.3)
            assert not posted.done()
            assert not again.done()
            inbox.settle(True)
            assert ((await posted).status_code, (await again).status_code) == (200, 200)
            assert inbox.reports.empty()
        assert (await client.post(url, json=ENDED)).status_code == 410  # nobody waits for it any more

    with_callbacks(test)


def test_a_terminal_one_of_an_attempt_that_was_taken_over_is_not_sent_again() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.inbox(url) as inbox:
            posted = asyncio.create_task(client.post(url, json=ENDED))
            await inbox.reports.get()
            inbox.settle(False)
            assert (await posted).status_code == 410  # coglet gives up at a 4xx

    with_callbacks(test)


def test_a_terminal_one_that_a_worker_leaves_behind_comes_again() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.inbox(url) as inbox:
            posted = asyncio.create_task(client.post(url, json=ENDED))
            await inbox.reports.get()
        assert (await posted).status_code == 503

    with_callbacks(test)


def test_what_is_not_a_webhook_is_refused() -> None:
    async def test(callbacks: Callbacks, client: httpx.AsyncClient) -> None:
        url = callbacks.new_url()
        with callbacks.inbox(url) as inbox:
            for body in (b"", b"[]", b"{", b'{"status": "aborted"}', b'{"status": "succeeded", "metrics": {"x": NaN}}'):
                assert (await client.post(url, content=body)).status_code == 400
            assert inbox.reports.empty()
        assert (await client.get(url)).status_code == 405
        assert (await client.post(url + "x", json=ENDED)).status_code == 410

    with_callbacks(test)


def test_a_port_is_taken_over_from_a_dead_worker_only() -> None:
    first = Listening.beside("127.0.0.1", 0, None)
    url = Callbacks("127.0.0.1", first.socket, 1).new_url()
    beside = Listening.beside("127.0.0.1", 0, url)
    assert not beside.adopts
    first.socket.close()
    after = Listening.beside("127.0.0.1", 0, url)
    assert after.adopts
    assert f":{after.socket.getsockname()[1]}/" in url
    for one in (beside, after):
        one.socket.close()
