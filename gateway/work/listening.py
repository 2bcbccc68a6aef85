"""The port that a Cog server's webhooks come to, kept over a worker's restart."""

import logging
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listening:
    """A bound socket."""

    socket: socket.socket
    adopts: bool  # it is the port of the worker before: that one is dead, and what it began can be adopted

    @classmethod
    def beside(cls, host: str, port: int, earlier_url: str | None) -> "Listening":
        """Bind the port of an earlier worker's URL if there is one, else `port`, 0 for a free one.

        Where the earlier worker is alive, and drains, its port is taken: then what it began stays its own.
        """
        earlier_port = urlsplit(earlier_url).port if earlier_url else None
        if earlier_port:
            try:
                return cls(_bound(host, earlier_port), adopts=True)
            except OSError as error:
                logger.warning("an earlier worker still listens", extra={"port": earlier_port, "error": str(error)})
                if port == earlier_port:
                    port = 0
        return cls(_bound(host, port), adopts=False)


def _bound(host: str, port: int) -> socket.socket:
    # The protocol is named: only then does asyncio turn off Nagle's algorithm, which holds a body back for 40 ms.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        # Listening, not only bound: two sockets may be bound to one port with SO_REUSEADDR while neither listens.
        bound.listen(128)
    except OSError:
        bound.close()
        raise
    return bound
