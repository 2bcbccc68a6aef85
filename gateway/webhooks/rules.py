"""The rules for webhooks that both the API and the delivery follow: events, addresses and secrets."""

import base64
import hashlib
import hmac
import ipaddress
from typing import TypeAlias
from urllib.parse import urlsplit

EVENTS = ("start", "output", "logs", "completed")
MAX_URL_CHARS = 2000
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_url(url: str, *, http: bool, private: bool) -> None:
    """Check that `url` is an absolute https URL, or http if allowed, whose host isn't a private address.

    A host name is resolved only at the delivery, because its addresses can change.

    Raises:
        ValueError: It isn't; the message says why.
    """
    schemes = ("https", "http") if http else ("https",)
    parts = urlsplit(url)  # raises ValueError for an unclosed bracket
    if len(url) > MAX_URL_CHARS or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError(f"Must be an ASCII URL of at most {MAX_URL_CHARS} characters without spaces")
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"Must be an absolute {' or '.join(schemes)} URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Must not contain a user name or password")
    if parts.port == 0:  # raises ValueError beyond 65535
        raise ValueError("Must have a port from 1 to 65535, or none")
    if not private and parts.hostname.rstrip(".") == "localhost":
        raise ValueError("Must not be a private address")
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if not private and not is_public(address):
        raise ValueError("Must not be a private address")


def is_public(address: Address) -> bool:
    """Return whether an address is public. An IPv6 address that contains an IPv4 address is judged by that."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if carried:
            return is_public(carried)
    return address.is_global and not address.is_multicast


def secret_of(key: bytes, owner: int) -> str:
    """Return the signing secret of an owner's webhooks, derived from the gateway's key.

    The form that clients expect is `whsec_` and 32 bytes in standard base64. The Python 1.x client splits it at its one
    underscore (docs/clients.md#webhook-secret); standard base64 has none.
    """
    derived = hmac.new(key, f"webhooks of {owner}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(derived).decode()}"
