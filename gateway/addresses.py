"""The addresses that the gateway connects to for its clients: webhooks go there, and files of inputs come from there.

A client must not reach the gateway's own network through them. So an address is checked when the connection is made,
after the name was resolved.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

import httpcore
import httpx

MAX_URL_CHARS = 2000

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all that is allocated; the rest is special or unused
# Networks whose last 32 bits are an IPv4 address. 64:ff9b:1::/48 isn't among them: it is for a local NAT64.
CARRIES_IPV4 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))


class AddressError(Exception):
    """A host has no address that may be connected to; str() says so."""


def check_url(url: str, *, http: bool, private: bool, max_chars: int = MAX_URL_CHARS) -> None:
    """Check that `url` is an absolute https URL, or http if allowed, whose host isn't a private address.

    A host name is resolved only at the connection, because its addresses can change.

    Raises:
        ValueError: It isn't; the message says why.
    """
    schemes = ("https", "http") if http else ("https",)
    parts = urlsplit(url)  # raises ValueError for an unclosed bracket
    if len(url) > max_chars or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError(f"Must be an ASCII URL of at most {max_chars} characters without spaces")
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"Must be an absolute {' or '.join(schemes)} URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Must not contain a user name or password")
    if not _has_valid_port(parts):
        raise ValueError("Must have a port from 1 to 65535, or none")
    if not private and parts.hostname.rstrip(".") == "localhost":
        raise ValueError("Must not be a private address")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not private and not is_public(address):
        raise ValueError("Must not be a private address")


def _has_valid_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:  # beyond 65535, or no number
        return False


def normalized(url: str) -> str:
    """Return a URL as it is sent: in ASCII, and without its fragment.

    Raises:
        ValueError: It isn't a URL.
    """
    try:
        return str(httpx.URL(url).copy_with(fragment=None))
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"Must be a valid URL ({error})") from error


def is_public(address: Address) -> bool:
    """Return whether an address is public. An IPv6 address that contains an IPv4 address is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in CARRIES_IPV4):
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if carried:
            return is_public(carried)
        return address in GLOBAL_UNICAST and address.is_global
    return address.is_global and not address.is_multicast


async def resolved(host: str, port: int) -> list[str]:
    """Resolve a host name.

    Raises:
        AddressError: It has no address.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"{host} has no address: {error}") from error
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
        failure: Exception = AddressError(f"{host} has no public address")
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
        raise AddressError(f"{path} is a file")

    async def sleep(self, seconds: float) -> None:
        """Wait between the pool's own retries."""
        await self.backend.sleep(seconds)


def guarded_pool(*, private: bool, max_connections: int) -> httpcore.AsyncConnectionPool:
    """Return a pool of connections to public addresses, or to any if `private`. It follows no redirects."""
    return httpcore.AsyncConnectionPool(
        max_connections=max_connections,
        keepalive_expiry=5,
        retries=0,
        network_backend=PublicOnly(private, httpcore.AnyIOBackend()),
    )


def host_header(url: httpcore.URL) -> str:
    """Return the Host header for a URL."""
    host = url.host.decode()
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed if url.port is None else f"{bracketed}:{url.port}"
