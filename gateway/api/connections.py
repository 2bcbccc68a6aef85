"""Connections: how many there may be, from where, how long a request's head may take, and what it must look like."""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.api import errors

RESERVE = 100  # connections beyond the limit, for health checks and for answering 503
HEALTH = ("/health", "/health/live", "/health/ready")
IPV6_PREFIX = 64  # a host of IPv6 may use any address with its prefix

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class CheckHead:
    """Middleware that refuses a request whose head is too large, or whose body has an ambiguous length.

    The parser applies its own limit only to a head that arrives in pieces. And it accepts Content-Length together with
    Transfer-Encoding. A proxy in front may go by the other one, so that one request there is two here, the second one
    forged (RFC 9112, section 6.3).
    """

    app: ASGIApp
    header_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer 400 and close the connection."""
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self.app(scope, receive, send)
        else:
            refusal = errors.Refusal(400, "Bad request", problem, headers={"Connection": "close"})
            await refusal.response()(scope, receive, send)

    def _problem(self, scope: Scope) -> str | None:
        names = [name for name, _ in scope["headers"]]
        if b"transfer-encoding" in names and (b"content-length" in names or scope["http_version"] == "1.0"):
            return "Transfer-Encoding is not allowed together with Content-Length, or in HTTP/1.0."
        size = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"]) + len(" ? HTTP/1.1\r\n\r\n")
        size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
        if size > self.header_bytes:
            return f"The request line and the headers must have at most {self.header_bytes} bytes."
        return None


@dataclass
class Peer:
    """The connections from one address."""

    open: int = 0
    idle: dict["BoundedProtocol", None] = field(default_factory=dict)  # ordered; the first has been idle for longest


class Connections:
    """The open connections of this process, with a limit for each address and one for all.

    Beyond a limit, a new connection takes the place of the one that has been idle for longest, so idle connections,
    which cost their owner nothing, keep nobody out. If none is idle, the new one can only check the health.
    """

    def __init__(self, limit: int, per_address: int, trusted_proxies: str = "") -> None:
        """Take the limits, and the proxies, which connect for many clients: `per_address` doesn't apply to them."""
        self._limit = limit
        self._per_address = per_address
        self._proxies = list(_networks(trusted_proxies))
        self._open: dict[BoundedProtocol, str] = {}  # with the key of their peer
        self._idle: dict[BoundedProtocol, None] = {}  # as Peer.idle
        self._peers: defaultdict[str, Peer] = defaultdict(Peer)

    def add(self, connection: "BoundedProtocol", host: str) -> bool:
        """Add a new connection. Return False if there is no place for it.

        Args:
            connection: The connection. Its `only_health` is set if it is beyond a limit.
            host: The client's address; anything else, such as of a Unix socket, counts as a proxy.
        """
        address = _parse(host)
        key = _key(address)
        peer = self._peers[key]
        over_address = peer.open >= self._per_address and not self._is_proxy(address)
        over = over_address or len(self._open) >= self._limit
        if over and (longest := next(iter(peer.idle if over_address else self._idle), None)):
            self.remove(longest)
            longest.transport.close()
            over = False
        if over and len(self._open) >= self._limit + RESERVE:
            return False
        connection.only_health = over
        self._open[connection] = key
        self._peers[key].open += 1
        self.set_idle(connection, True)
        return True

    def set_idle(self, connection: "BoundedProtocol", idle: bool) -> None:
        """Note whether a connection waits for a request."""
        if connection not in self._open:
            return
        for known in (self._idle, self._peers[self._open[connection]].idle):
            if idle:
                known.setdefault(connection)  # keeps its place
            else:
                known.pop(connection, None)

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that is closed."""
        self.set_idle(connection, False)
        key = self._open.pop(connection, None)
        if key is not None:
            self._peers[key].open -= 1
            if not self._peers[key].open:
                del self._peers[key]

    def _is_proxy(self, address: Address | None) -> bool:
        return address is None or any(address in network for network in self._proxies)


def _networks(text: str) -> Iterator[Network]:
    """Parse the setting GATEWAY_TRUSTED_PROXIES."""
    for part in ["0.0.0.0/0", "::/0"] if text.strip() == "*" else text.split(","):
        with suppress(ValueError):  # uvicorn takes other texts literally
            yield ipaddress.ip_network(part.strip(), strict=False)


def _parse(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _key(address: Address | None) -> str:
    """Return the key of the peer that an address belongs to."""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False))
    return str(address)


def protocol(header_s: float, connections: Connections) -> type[H11Protocol]:
    """Return the protocol class that uvicorn instantiates for each connection."""
    return type("Protocol", (BoundedProtocol,), {"header_s": header_s, "limits": connections})


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with limits: on connections, and on the time for the request line and the headers.

    uvicorn's own limit on connections counts idle ones and stops health checks. And it has a timeout only for the pause
    between requests, so a client that sends a byte now and then could stay forever.
    """

    header_s: float  # set by protocol()
    limits: Connections
    only_health = False
    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the connection, and start the timer for the first request."""
        super().connection_made(transport)
        if not self.limits.add(self, self.client[0] if self.client else ""):
            transport.close()
        elif self.only_health:
            self.app = self._check_health
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Receive data. The timer runs from the first byte of a request to the end of its headers."""
        if self._header_timer is None and self.conn.their_state is h11.IDLE:
            self._start_timer()
        super().data_received(data)
        self._note_state()

    def on_response_complete(self) -> None:
        """Wait for the next request, unless it has arrived already."""
        super().on_response_complete()
        self._note_state()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        self.limits.remove(self)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer a request that can't be parsed, and close the connection."""
        response = errors.Refusal(400, "Bad request", msg).response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    async def _check_health(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application for a health check, or answer 503."""
        if scope["type"] == "http" and scope["path"] in HEALTH:
            await self.config.loaded_app(scope, receive, send)
            return
        refusal = errors.unavailable("The gateway has too many connections.")
        refusal.headers = {"Connection": "close"}
        await refusal.response()(scope, receive, send)

    def _note_state(self) -> None:
        """Stop the timer once a request's headers are there, and note whether the connection is idle."""
        idle = self.conn.their_state is h11.IDLE
        if not idle:
            self._stop_timer()
        self.limits.set_idle(self, idle and (self.cycle is None or self.cycle.response_complete))

    def _start_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_s, self._give_up)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._header_timer = None
        # The response to a short request may be under way: its headers came, and their_state is IDLE again.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
