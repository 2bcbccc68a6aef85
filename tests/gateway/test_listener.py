"""Whose process listens at a Cog server's address."""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from gateway.prediction import Status
from gateway.work.coglet import Coglet, State
from gateway.work.listener import ListenerCheck, is_loopback, users_listening
from tests.gateway.processes import NO_TLS
from tests.gateway.recording import reload
from tests.gateway.staging import Harness

STRANGER = 12345

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's socket")


@contextmanager
def listening(user: int, address: str = "127.0.0.1", port: int = 0) -> Iterator[socket.socket]:
    own = os.geteuid()
    os.seteuid(user)
    try:
        made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    finally:
        os.seteuid(own)
    with made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen()
        made.setblocking(False)
        yield made


def checking(check: ListenerCheck) -> httpx.AsyncClient:
    """Return a client that checks the listener before each request."""
    return httpx.AsyncClient(trust_env=False, verify=NO_TLS, event_hooks={"request": [check]})


def was_called(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"])  # noqa: S104
def test_the_user_of_a_listener_is_known(bound: str) -> None:
    with listening(os.geteuid(), bound) as listener:
        port = listener.getsockname()[1]
        assert users_listening("127.0.0.1", port) == {os.geteuid()}
        assert users_listening("localhost", port) == {os.geteuid()}
    assert users_listening("127.0.0.1", port) == set()


def test_only_a_loopback_address_is_checked_and_of_others_no_listener_counts() -> None:
    with listening(os.geteuid(), "127.0.0.2") as listener:
        assert users_listening("127.0.0.1", listener.getsockname()[1]) == set()
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_loopback(host) for host in ("10.0.0.1", "riffusion-small", "::2"))


@pytest.mark.anyio
@as_root
async def test_another_users_process_gets_no_request(caplog: pytest.LogCaptureFixture) -> None:
    with listening(STRANGER) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with checking(ListenerCheck()) as client:
            coglet = Coglet(client, url)
            assert [(await coglet.health()).state for _ in range(2)] == [State.GONE, State.GONE]
            assert [chunk async for chunk in coglet.chunks("x")] == []
        assert not was_called(listener)
        async with checking(ListenerCheck([STRANGER])) as client:
            health = asyncio.create_task(Coglet(client, url).health())
            while not was_called(listener):
                await asyncio.sleep(0.02)
            assert (await health).state is State.SILENT
    assert [record.getMessage() for record in caplog.records if record.name == "gateway.work.listener"] == [
        "another user's process listens at the Cog server's address; sending it nothing"
    ]


@pytest.mark.anyio
@as_root
async def test_nothing_is_dispatched_while_another_user_has_the_port(harness: Harness) -> None:
    with listening(STRANGER) as listener:
        async with checking(ListenerCheck()) as client:
            coglet = Coglet(client, f"http://127.0.0.1:{listener.getsockname()[1]}")
            async with harness.worker(coglet=coglet):
                row = await harness.create(text="secret")
                await asyncio.sleep(1)
                now = await reload(harness.record, row)
                assert (now.status, now.attempts) == (Status.STARTING, 0)
                assert not was_called(listener)
