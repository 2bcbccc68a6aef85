"""Limits on connections, and ambiguous or malformed requests."""

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.gateway.conftest import Databases
from tests.gateway.processes import TIMEOUT_S, System, Token, running

LIMIT, PER_ADDRESS = 12, 5
HEADER_BYTES = 32 << 10  # the default
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
ALIVE = b'{"status":"live"}'


@pytest.fixture(scope="module")
def limited(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    settings = {"GATEWAY_CONNECTIONS": str(LIMIT), "GATEWAY_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS)}
    with running(tmp_path_factory.mktemp("limited"), databases.make(), settings, model=False) as system:
        yield system


@pytest.fixture
def limited_token(limited: System) -> Token:
    return limited.token()


def connect(port: int, address: str = "127.0.0.1") -> socket.socket:
    """Connect from an address of the loopback network."""
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_S, source_address=(address, 0))


def ask(port: int, request: bytes, address: str = "127.0.0.1") -> bytes:
    """Send a request and return everything until the connection closes or a health check is answered."""
    with connect(port, address) as connection:
        connection.sendall(request)
        answer = b""
        while not answer.endswith(ALIVE) and (part := connection.recv(65536)):
            answer += part
        return answer


def stream(system: System, token: Token, address: str) -> socket.socket:
    """Open an event stream, which keeps its connection busy."""
    path = token.create()["urls"]["stream"].removeprefix(system.url)
    connection = connect(system.port, address)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_idle_connections_do_not_keep_others_out(limited: System, limited_token: Token) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(5000, hard), hard))
    try:
        with limited.another_process({"GATEWAY_CONNECTIONS": "2000", "GATEWAY_CONNECTIONS_PER_ADDRESS": "1000"}) as url:
            port = int(url.rpartition(":")[2])
            with ExitStack() as stack:
                for number in range(3000):
                    stack.enter_context(connect(port, f"127.0.1.{1 + number % 3}"))
                    if number % 500 == 499:
                        assert ask(port, LIVE, "127.0.1.1").endswith(ALIVE)
                assert ask(port, LIVE).endswith(ALIVE)
                with Token(url, limited_token.text, limited) as token:
                    assert token.create()["status"] == "starting"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_connections_from_one_address_do_not_keep_others_out(limited: System, limited_token: Token) -> None:
    with ExitStack() as stack:
        busy = [stack.enter_context(stream(limited, limited_token, "127.0.0.2")) for _ in range(PER_ADDRESS)]
        rejected = ask(limited.port, b"GET /account HTTP/1.1\r\nHost: x\r\n\r\n", "127.0.0.2")
        assert rejected.startswith(b"HTTP/1.1 503 ")
        assert json.loads(rejected.rpartition(b"\r\n")[2])["detail"] == "The gateway has too many connections."
        assert ask(limited.port, LIVE, "127.0.0.2").startswith(b"HTTP/1.1 200 ")
        assert limited_token.http.get("/account").status_code == 200  # from another address
        busy[0].close()
        limited.until(lambda: _account(limited, limited_token, "127.0.0.2") == 200)


def test_health_is_answered_when_all_connections_are_busy(limited: System, limited_token: Token) -> None:
    limited_token.http.close()  # its connection is idle, so another one would take its place
    token = limited.token()
    with ExitStack() as stack:
        for number in range(LIMIT - 1):  # the token's connection is the last
            stack.enter_context(stream(limited, token, f"127.0.0.{10 + number % 4}"))
        stack.enter_context(stream(limited, token, "127.0.0.20"))  # takes the place of the token's idle one
        assert _account(limited, token, "127.0.0.21") == 503
        for address in ("127.0.0.10", "127.0.0.22"):
            assert ask(limited.port, LIVE, address).startswith(b"HTTP/1.1 200 ")


def _account(system: System, token: Token, address: str) -> int:
    head = f"GET /account HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token.text}\r\nConnection: close\r\n\r\n"
    return int(ask(system.port, head.encode(), address).split()[1])


@pytest.mark.parametrize(
    ("version", "length"),
    [
        *(("1.1", "Content-Length: 4\r\n"), ("1.1", "Content-Length: 35\r\n")),
        *(("1.0", "Content-Length: 4\r\n"), ("1.0", "Content-Length: 35\r\n"), ("1.0", "")),
    ],
)
def test_a_smuggled_request_gets_no_response(limited: System, limited_token: Token, version: str, length: str) -> None:
    """By Content-Length, or by HTTP 1.0, this is one request, by Transfer-Encoding two. A proxy may see only one."""
    head = f"POST /predictions HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer {limited_token.text}\r\n{length}"
    answer = ask(limited.port, head.encode() + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + LIVE)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("beyond", [-100, 1])
def test_headers_that_arrive_at_once_are_limited_too(limited: System, beyond: int) -> None:
    head, tail = b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: ", b"\r\nConnection: close\r\n\r\n"
    request = head + b"y" * (HEADER_BYTES + beyond - len(head) - len(tail)) + tail
    answer = ask(limited.port, request)
    assert answer.startswith(b"HTTP/1.1 200 " if beyond < 0 else b"HTTP/1.1 400 ")


def test_bytes_that_are_not_http_get_an_error_as_json(limited: System) -> None:
    answer = ask(limited.port, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.rpartition(b"\r\n")[2])["status"] == 400
