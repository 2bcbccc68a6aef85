"""Check whose process listens at a Cog server's address on this host.

A Cog server has no login: any user of the host can shut it down and then listen on its port. The next prompt would go
to that user.
"""

import ipaddress
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import httpx

logger = logging.getLogger(__name__)

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
LISTEN = "0A"
ROOT = 0

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class ListenerCheck:
    """A hook for an httpx client: no request goes to another user's process on a loopback address.

    Only Linux says who listens, and only root and the users of `allowed`, besides our own, are trusted.
    """

    def __init__(self, allowed: Iterable[int] = ()) -> None:
        self._allowed = {ROOT, os.geteuid(), *allowed}
        self._reported: set[int] = set()

    async def __call__(self, request: httpx.Request) -> None:
        """Check before a request.

        Raises:
            httpx.ConnectError: Another user's process listens.
        """
        host, port = request.url.host, request.url.port or 80
        foreign = users_listening(host, port) - self._allowed if is_loopback(host) else set()
        if foreign and foreign != self._reported:
            logger.error(
                "another user's process listens at the Cog server's address; sending it nothing",
                extra={"cog_url": f"{host}:{port}", "users": sorted(foreign)},
            )
        self._reported = foreign
        if foreign:
            raise httpx.ConnectError(f"a process of user {min(foreign)} listens on port {port}", request=request)


def is_loopback(host: str) -> bool:
    """Return whether a URL's host is this one's loopback interface."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def users_listening(host: str, port: int) -> set[int]:
    """Return the ids of the users whose processes accept connections to this address; empty if unknown."""
    wanted = [ipaddress.ip_address(name) for name in (("127.0.0.1", "::1") if host == "localhost" else (host,))]
    return {
        user for address, bound, user in _listeners() if bound == port and (address.is_unspecified or address in wanted)
    }


def _listeners() -> Iterator[tuple[Address, int, int]]:
    """Yield the address, port and user of each listening TCP socket."""
    for table in TABLES:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no Linux
            continue
        for line in lines:
            _, local, _, state, _, _, _, user = line.split()[:8]
            if state == LISTEN:
                address, _, port = local.partition(":")
                yield _address(address), int(port, 16), int(user)


def _address(text: str) -> Address:
    """Parse an address: hexadecimal words of 32 bits, each in the byte order of this machine."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
