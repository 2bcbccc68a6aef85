"""Run the gateway: python -m gateway. Its settings come from the environment (gateway/settings.py)."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway import app as application
from gateway import logs
from gateway.api.connections import RESERVE, Connections, protocol
from gateway.catalog_files import CatalogError
from gateway.record.database import DatabaseError
from gateway.record.migrations import wait_until_migrated
from gateway.settings import Settings, SettingsError, settings, unknown

logger = logging.getLogger(__name__)

BACKLOG = 2048
SPARE_FILES = 200  # file descriptors for the database, webhooks and outputs


class Server(uvicorn.Server):
    """A uvicorn server that makes waiting requests answer at shutdown, instead of cutting them off."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, url: str) -> None:
        super().__init__(config)
        self._app = app
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and print the address once it answers."""
        await super().startup(sockets)
        if self.started:
            sys.stdout.write(f"the gateway listens on {self._url}\n")
            sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to shut down."""
        with contextlib.suppress(AttributeError, RuntimeError):  # not started yet
            services = self._app.state.services
            asyncio.get_running_loop().call_soon_threadsafe(services.stopping.set)
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until a signal arrives."""
    try:
        current = settings()
        listener = _listen(current)
        # With port 0 the port is known only now, and the URLs in webhooks need it.
        bound = current.model_copy(update={"port": listener.getsockname()[1]})
        logs.configure(bound.log_level, bound.log_format)
        if others := unknown(os.environ):
            logger.warning("unknown settings are ignored", extra={"variables": others})
        app = application.make(bound)
    except (SettingsError, CatalogError) as error:
        sys.exit(f"gateway: {error}")
    _allow_files(bound.connections)
    # Before uvicorn handles signals: until its application has started, it ignores them.
    try:
        asyncio.run(wait_until_migrated(bound.database_url))
    except KeyboardInterrupt:
        sys.exit(130)
    except DatabaseError as error:
        sys.exit(f"gateway: {error}")
    Server(_config(app, bound), app, bound.own_url).run(sockets=[listener])


def _allow_files(connections: int) -> None:
    """Raise the limit on open files, which is 1024 on many systems, to fit the connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + RESERVE + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _listen(current: Settings) -> socket.socket:
    """Return a listening socket."""
    family = socket.AF_INET6 if ":" in current.host else socket.AF_INET
    # With the protocol named, asyncio turns off Nagle's algorithm, which would delay a body by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((current.host, current.port))
    except OSError as error:
        sys.exit(f"gateway: can't listen on {current.host}:{current.port}: {error.strerror}")
    listener.listen(BACKLOG)
    return listener


def _config(app: FastAPI, current: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    connections = Connections(current.connections, current.connections_per_address, current.trusted_proxies)
    return uvicorn.Config(
        app,
        http=protocol(current.body_s, connections),
        ws="none",
        loop="asyncio",
        log_config=None,  # keeps our own configuration
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(current.keep_alive_s),
        timeout_graceful_shutdown=int(current.drain_s),
        h11_max_incomplete_event_size=current.header_bytes,
        proxy_headers=current.trusted_proxies != "",
        forwarded_allow_ips=current.trusted_proxies or None,
    )


if __name__ == "__main__":
    main()
