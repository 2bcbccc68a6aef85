"""The gateway's limits on clients that send too much, too often or too slowly."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.gateway.conftest import BODY_S
from tests.gateway.processes import NO_TLS, ROOT, TIMEOUT_S, System, Token

MEMORY_BYTES = 40 << 20


@pytest.fixture
def tight(bounded: System) -> Token:
    return bounded.token()


def memory(system: System) -> int:
    status = Path(f"/proc/{system.supervisor.process('gateway').pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


def connected(system: System) -> socket.socket:
    return socket.create_connection(("127.0.0.1", system.port), timeout=TIMEOUT_S)


def received(connection: socket.socket) -> bytes:
    """Return everything that arrives until the other side closes."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionError:
        pass  # it closed while we were still sending
    return answer


def flood(system: System, head: bytes, chunk: bytes, times: int) -> bytes:
    """Send a head and many chunks, as many as are accepted, and return the answer."""
    with connected(system) as connection:
        connection.sendall(head)
        try:
            for _ in range(times):
                connection.sendall(chunk)
        except (ConnectionError, TimeoutError):
            pass
        return received(connection)


def head_of(token: Token, *lines: str) -> bytes:
    start = ["POST /predictions HTTP/1.1", "Host: x", f"Authorization: Bearer {token.text}", *lines]
    return ("\r\n".join(start) + "\r\n\r\n").encode()


def test_a_content_length_of_100_mb_is_rejected_unread(bounded: System, tight: Token) -> None:
    with connected(bounded) as connection:
        connection.sendall(head_of(tight, "Content-Length: 100000000"))
        answer = received(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert b'"detail":"The body must have at most 152000 bytes."' in answer


def test_slow_headers_and_bodies_end_their_connections(bounded: System, tight: Token) -> None:
    """All at once, since each takes as long as the gateway waits."""
    with ExitStack() as stack:
        body, silent, partial, second = [stack.enter_context(connected(bounded)) for _ in range(4)]
        second.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"live"}'):
            part = second.recv(65536)
            assert part, answer
            answer += part
        began_s = time.monotonic()
        second.sendall(b"GET /hea")
        partial.sendall(b"GET /predic")
        body.sendall(head_of(tight, "Content-Length: 20") + b'{"in')
        assert received(second) == b""
        assert time.monotonic() - began_s >= BODY_S * 0.9
        assert received(partial) == received(silent) == b""
        assert received(body).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("known", [True, False], ids=["token", "no-token"])
def test_a_body_of_100_mb_is_rejected_in_bounded_memory(bounded: System, tight: Token, known: bool) -> None:
    before = memory(bounded)
    head = head_of(tight, "Transfer-Encoding: chunked")
    if not known:
        head = head.replace(b"Bearer", b"Basic")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = flood(bounded, head, chunk, 100_000_000 // 0x10000)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 413 " if known else b"HTTP/1.1 401 ")
    assert memory(bounded) - before < MEMORY_BYTES
    assert bounded.answers()


def test_100_000_headers_are_rejected_in_bounded_memory(bounded: System, tight: Token) -> None:
    before = memory(bounded)
    head = b"GET /predictions HTTP/1.1\r\nHost: x\r\n"
    answer = flood(bounded, head, b"".join(b"X-%d: y\r\n" % n for n in range(1000)), 100)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert memory(bounded) - before < MEMORY_BYTES
    assert bounded.answers()


def test_too_many_unfinished_predictions_and_too_many_creates_get_429(tight: Token) -> None:
    for _ in range(3):
        tight.create()
    for reason in ("unfinished predictions", "predictions a second"):
        answer = tight.http.post("/models/test/fake/predictions", json={"input": {}})
        assert answer.status_code == 429
        assert reason in answer.json()["detail"]
        assert answer.json()["retry_after"] == int(answer.headers["retry-after"]) > 0
    assert len(tight.http.get("/predictions").json()["results"]) == 3


def test_urls_are_https_behind_a_trusted_proxy(tight: Token) -> None:
    headers = {"X-Forwarded-Proto": "https", "Host": "music.example"}
    urls = tight.create(headers=headers)["urls"]
    assert all(url.startswith("https://music.example/") for url in urls.values())


def test_a_webhook_to_a_private_or_insecure_address_is_rejected(tight: Token) -> None:
    for webhook in (
        {"webhook": "https://169.254.169.254/latest/meta-data"},
        {"webhook_completed": "http://example.com/"},
    ):
        answer = tight.http.post("/models/test/fake/predictions", json={"input": {}, **webhook})
        assert (answer.status_code, answer.json()["invalid_fields"][0]["field"]) == (422, "webhook")


def test_waiting_requests_are_answered_when_the_gateway_stops(bounded: System, tight: Token) -> None:
    """If the connection dropped, the client would retry and create another prediction."""
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(tight.create, headers={"Prefer": "wait=50"})
        bounded.until(lambda: tight.http.get("/predictions").json()["results"])
        bounded.supervisor.process("gateway").terminate()
        assert waiting.result(TIMEOUT_S)["status"] == "starting"
    bounded.until(bounded.answers)


def test_a_gateway_that_waits_for_its_database_stops_on_sigterm(tmp_path: Path) -> None:
    url = f"postgresql://gateway@/postgres?host={tmp_path}"
    environment = {**os.environ, "GATEWAY_DATABASE_URL": url, "GATEWAY_PORT": "0", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway"], env=environment, stderr=subprocess.PIPE, text=True
    ) as gateway:
        assert gateway.stderr
        assert "waiting for the database" in gateway.stderr.readline()
        gateway.terminate()
        assert gateway.wait(TIMEOUT_S) == -signal.SIGTERM


def test_script_token_creates_lists_and_revokes_tokens(bounded: System, tmp_path: Path) -> None:
    settings = "".join(f"{name}={value}\n" for name, value in bounded.environment.items())
    (tmp_path / "environment").write_text(settings)

    def token(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "script" / "token"), *arguments, "--data", str(tmp_path)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        return subprocess.run(command, env=clean, capture_output=True, text=True)

    made = token("create", "ann")
    assert made.returncode == 0, made.stderr
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    account = httpx.get(f"{bounded.url}/account", headers=headers, trust_env=False, verify=NO_TLS)
    assert account.json()["username"] == "ann"
    assert token("revoke", "ann").stdout == "ann is revoked\n"
    assert re.search(r"^ann  created 2\S+Z  revoked 2\S+Z$", token("list").stdout, re.MULTILINE)
    assert httpx.get(f"{bounded.url}/account", headers=headers, trust_env=False, verify=NO_TLS).status_code == 401
