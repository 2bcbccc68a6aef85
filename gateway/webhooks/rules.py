"""What a webhook may be: its events, address and secret, on which where one comes in and where it goes out agree."""

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
    """Raise ValueError unless `url` is an absolute https URL (http where allowed) whose host is no private address.

    A host that is a name is looked up only when it is connected to, by the delivery: what it resolves to can change.
    """
    schemes = ("https", "http") if http else ("https",)
    parts = urlsplit(url)  # raises ValueError itself for a bracket that isn't closed
    if len(url) > MAX_URL_CHARS or not url.isascii() or any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError(f"Must be an ASCII URL of at most {MAX_URL_CHARS} characters without blanks")
    if parts.scheme not in schemes or not parts.hostname:
        raise ValueError(f"Must be an absolute {' or '.join(schemes)} URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("Must not hold a user name or password")
    if parts.port == 0:  # raises ValueError itself beyond 65535
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
    """Tell whether an address is one of the open internet, also where an IPv6 address carries an IPv4 one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        carried = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if carried:
            return is_public(carried)
    return address.is_global and not address.is_multicast


def secret_of(key: bytes, owner: int) -> str:
    """Return the secret that an owner's webhooks are signed with, derived from the gateway's own key.

    Of the form that clients take: whsec_ and the standard base64 of 32 bytes. PY1 splits it at its one underscore,
    and standard base64 has none.
    """
    derived = hmac.new(key, f"webhooks of {owner}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(derived).decode()}"
