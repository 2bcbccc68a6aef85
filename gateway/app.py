"""The application: its routes, and what lives and ends with it."""

import asyncio
import logging
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway import catalog, record
from gateway.api import beside, errors, models, operations, outputs, page, predictions, stream
from gateway.api.bounds import CloseUnread
from gateway.api.described import DOCUMENT
from gateway.api.limits import CreateRate
from gateway.api.requests import Logged
from gateway.api.services import Services, caller
from gateway.hooks import delivery
from gateway.hooks.sending import Sender
from gateway.measures import Measures
from gateway.prediction import Links
from gateway.record import Body, Clock, Record, Secrets
from gateway.settings import Settings
from gateway.work import sweep
from gateway.work.previews import Previews

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
VERSION = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
# The documented paths have no prefix; PY2 and JS add /v1 to the address they are given, PY1 brings its own.
PREFIXES = ("", "/v1", "/v1/v1")
WEBHOOKS_AT_ONCE = 32
CONNECTIONS = 12  # to the database, of which two listen for jobs
POLL_S = 0.5  # retried and scheduled jobs come without a notice
DRAIN_S = 3.0  # for deliveries under way at the end; cut short, they are tried again by another gateway
RESTART_S = 1.0


def make(settings: Settings) -> FastAPI:
    """Return the application. It opens the record when it starts. Raises CatalogError."""
    offered = catalog.load(settings.catalog, settings.models)
    app = FastAPI(
        title="Gateway",
        version=VERSION,
        description="Replicate's documented HTTP API in front of Cog containers.",
        lifespan=_lifespan(settings, offered),
        openapi_url=None,  # served below, to those with a token
        docs_url=None,  # it would load its scripts from another place
        redoc_url=None,
        redirect_slashes=False,
    )
    for prefix in PREFIXES:
        for part in (predictions, models, stream, beside):
            app.include_router(part.router, prefix=prefix, include_in_schema=prefix == "")
    app.include_router(outputs.router)
    app.include_router(operations.router)
    page.mount(app, settings.web)

    @app.get("/openapi.json", dependencies=[Depends(caller)], **DOCUMENT)
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    app.add_exception_handler(errors.Refusal, errors.refused)
    app.add_exception_handler(HTTPException, errors.http_error)
    app.add_exception_handler(Exception, errors.unexpected)
    for error in record.UNAVAILABLE:
        app.add_exception_handler(error, errors.database_away)
    app.add_middleware(CloseUnread, linger_s=settings.body_s)
    app.add_middleware(Logged)
    return app


def _lifespan(settings: Settings, offered: catalog.Catalog) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return what opens the record when the application starts, and closes it when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(
                record.opened(
                    settings.database_url, settings.files_url, _make_body(settings), CONNECTIONS, settings.stalled_s
                )
            )
            measures = Measures()
            links = Links(opened.secrets.files, settings.file_url_s, opened.clock.now)
            sender = Sender(
                try_s=settings.webhook_try_s,
                http=settings.webhook_http,
                private=settings.webhook_private,
                now=opened.clock.now,
            )
            stack.push_async_callback(sender.close)
            delivery.register(opened, links, sender, measures, settings)
            record.register(opened, settings.retention_s)
            rate = CreateRate(settings.creates_per_s, settings.create_burst)
            previews = Previews()
            stack.push_async_callback(previews.close)
            origin = await opened.files.origin() if settings.file_redirects else None
            app.state.services = Services(settings, offered, opened, links, rate, measures, previews, origin)
            await stack.enter_async_context(_running("jobs", lambda: _run_jobs(opened, record.GATEWAY_QUEUE, 4)))
            await stack.enter_async_context(
                _running("webhooks", lambda: _run_jobs(opened, record.WEBHOOK_QUEUE, WEBHOOKS_AT_ONCE))
            )
            await stack.enter_async_context(_running("sweep", lambda: sweep.run_forever(opened)))
            yield

    return lifespan


def _make_body(settings: Settings) -> Callable[[Secrets, Clock], Body]:
    """Return what the record makes its serialiser with, once it has its secrets and its clock."""
    return lambda secrets, clock: Links(secrets.files, settings.file_url_s, clock.now).body


async def _run_jobs(opened: Record, queue: str, at_once: int) -> None:
    """Run one of the gateway's queues, each by itself: webhooks to slow servers must not hold up deadlines."""
    await opened.engine.run_worker_async(
        queues=[queue],
        name=queue,
        concurrency=at_once,
        fetch_job_polling_interval=POLL_S,
        install_signal_handlers=False,
        shutdown_graceful_timeout=DRAIN_S,
        delete_jobs="successful",  # the table stays small; failed ones stay to be looked at, until retention
    )


@asynccontextmanager
async def _running(name: str, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task for the block, again and again: it ends when the database goes, and that comes back."""

    async def supervised() -> None:
        while True:
            try:
                await run()
            except Exception:  # whatever it is: logged, and the task goes on
                logger.exception("a task ended and starts again", extra={"task": name})
            if task.cancelling():  # without the database the engine's own end fails, and that hides our cancelling it
                return
            await asyncio.sleep(RESTART_S)

    task = asyncio.create_task(supervised(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
