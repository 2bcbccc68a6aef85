"""Send one webhook: signed, without redirects, to an address that is checked at the connection."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import httpcore
from standardwebhooks import Webhook

from gateway.clock import Now, own_time
from gateway.webhooks.rules import check_url, is_public


class NotDeliveredError(Exception):
    """A webhook was not delivered; str() says why."""


@dataclass(frozen=True)
class Message:
    """A webhook to send."""

    id: str  # the same at each try
    url: str
    body: bytes
    secret: str


async def resolved(host: str, port: int) -> list[str]:
    """Resolve a host name.

    Raises:
        NotDeliveredError: It has no address.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotDeliveredError(f"{host} has no address: {error}") from error
    return [str(entry[4][0]).partition("%")[0] for entry in found]


@dataclass(frozen=True)
class PublicOnly(httpcore.AsyncNetworkBackend):
    """A network backend that connects only to public addresses.

    A name is resolved once, and the connection goes to the address that was checked. So a name server that answers
    differently the next time (DNS rebinding) gains nothing.
    """

    private: bool  # allow private addresses too
    backend: httpcore.AsyncNetworkBackend
    resolve: Callable[[str, int], Awaitable[list[str]]] = resolved

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of `host` that is allowed and answers."""
        failure: Exception = NotDeliveredError(f"{host} has no public address")
        for address in await self.resolve(host, port):
            if not (self.private or is_public(ipaddress.ip_address(address))):
                continue
            try:
                return await self.backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Refuse, because no URL names a socket file."""
        raise NotDeliveredError(f"{path} is a file")

    async def sleep(self, seconds: float) -> None:
        """Wait between the pool's own retries."""
        await self.backend.sleep(seconds)


class Sender:
    """Sends webhooks over a pool of connections."""

    def __init__(self, *, try_s: float, http: bool, private: bool, now: Now = own_time) -> None:
        self._try_s = try_s
        self._now = now
        self._http = http
        self._private = private
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=64,
            keepalive_expiry=5,
            retries=0,
            network_backend=PublicOnly(private, httpcore.AnyIOBackend()),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._pool.aclose()

    async def send(self, message: Message) -> None:
        """POST a message once.

        Raises:
            NotDeliveredError: The answer is not 200 to 299, or doesn't arrive in time.
        """
        try:
            # The setting may have changed since the prediction was created.
            check_url(message.url, http=self._http, private=self._private)
            async with asyncio.timeout(self._try_s):
                status = await self._post(message)
        except TimeoutError as error:
            raise NotDeliveredError(f"no answer within {self._try_s:g} s") from error
        except ValueError as error:
            raise NotDeliveredError(f"the address is refused: {error}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            raise NotDeliveredError(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:  # redirects among them: httpcore follows none
            raise NotDeliveredError(f"the answer was {status}")

    async def _post(self, message: Message) -> int:
        now = self._now()  # in UTC: sign() ignores the time zone
        text = message.body.decode()
        headers = {
            "content-type": "application/json",
            "user-agent": "gateway-webhooks",
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(message.secret).sign(message.id, now, text),
            "content-length": str(len(message.body)),
        }
        host = httpcore.URL(message.url)
        headers["host"] = _host_header(host)
        async with self._pool.stream(
            "POST", message.url, headers=list(headers.items()), content=message.body
        ) as answer:
            return answer.status  # the response's body is never read


def _host_header(url: httpcore.URL) -> str:
    """Return the Host header for a URL."""
    host = url.host.decode()
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if url.port is None else f"{bracketed}:{url.port}"
