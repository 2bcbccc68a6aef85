"""The application: its routes and middleware, and the background tasks of its lifespan."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import httpx
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException

from gateway import version
from gateway.api import errors, files, health, models, page, predictions, stream, uploads
from gateway.api.access_log import AccessLog
from gateway.api.connections import CheckHead
from gateway.api.dependencies import Services, caller
from gateway.api.limits import CloseUnread, CreateRate
from gateway.api.openapi import DOCUMENT, remove_unused_errors
from gateway.catalog_files import CatalogFiles, LiveCatalog
from gateway.metrics import Metrics
from gateway.record import Record, open_record
from gateway.record.database import UNAVAILABLE
from gateway.record.jobs import GATEWAY_QUEUE, WEBHOOK_QUEUE
from gateway.settings import Settings
from gateway.thumbnails import Thumbnails
from gateway.webhooks import delivery
from gateway.webhooks.sending import Sender

logger = logging.getLogger(__name__)

# Documented paths have no prefix. The Python 1.x client adds /v1 itself; the Python 2.x and JavaScript clients expect
# it in the base URL: docs/clients.md#base-urls
PREFIXES = ("", "/v1", "/v1/v1")
GATEWAY_JOBS = 4  # jobs of each queue that run concurrently
WEBHOOK_JOBS = 32
CONNECTIONS = 12  # to the database; two of them listen for jobs
POLL_S = 0.5  # retried and scheduled jobs come without a notice
DRAIN_S = 3.0  # for running deliveries at shutdown; another gateway retries those that are cut off
RESTART_S = 1.0


def make(settings: Settings) -> FastAPI:
    """Return the application, which opens the record when it starts.

    Raises:
        CatalogError: The catalog is invalid.
    """
    catalog = LiveCatalog(CatalogFiles.of(settings))
    app = FastAPI(
        title="Gateway",
        version=version(),
        description="Replicate's documented HTTP API in front of Cog containers.",
        lifespan=_lifespan(settings, catalog),
        openapi_url=None,  # served below, to clients with a token
        docs_url=None,  # it would load scripts from another origin
        redoc_url=None,
        redirect_slashes=False,
    )
    for prefix in PREFIXES:
        for part in (predictions, models, uploads, stream, page):
            app.include_router(part.router, prefix=prefix, include_in_schema=prefix == "")
    app.include_router(files.router)
    app.include_router(health.router)
    page.mount(app, settings.web)

    @app.get("/openapi.json", dependencies=[Depends(caller)], **DOCUMENT)
    async def document() -> JSONResponse:
        return JSONResponse(app.openapi())

    _answer_head(app)
    remove_unused_errors(app.openapi())  # FastAPI caches the document, until another route is added
    app.add_exception_handler(errors.Refusal, errors.refused)
    app.add_exception_handler(HTTPException, errors.http_error)
    app.add_exception_handler(Exception, errors.unexpected)
    for error in UNAVAILABLE:
        app.add_exception_handler(error, errors.database_unreachable)
    app.add_middleware(CloseUnread, linger_s=settings.body_s)
    app.add_middleware(CheckHead, header_bytes=settings.header_bytes)
    app.add_middleware(AccessLog)
    return app


def _answer_head(app: FastAPI) -> None:
    """Answer HEAD wherever there is GET (RFC 9110 9.3.2). FastAPI's routes don't; uvicorn leaves the body out."""
    for route in list(iter_route_contexts(app.routes)):
        methods = route.methods or set()
        if route.path and route.endpoint and "GET" in methods and "HEAD" not in methods:
            app.add_api_route(
                route.path,
                route.endpoint,
                methods=["HEAD"],
                dependencies=route.dependencies,
                include_in_schema=False,
            )


def _lifespan(settings: Settings, catalog: LiveCatalog) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Return the lifespan: it opens the record and runs the background tasks."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            record = await stack.enter_async_context(
                open_record(
                    settings.database_url,
                    settings.files_url,
                    file_url_s=settings.file_url_s,
                    stalled_s=settings.stalled_s,
                    delivery_s=settings.delivery_s,
                    max_connections=CONNECTIONS,
                )
            )
            metrics = Metrics()
            sender = Sender(
                try_s=settings.webhook_try_s,
                http=settings.webhook_http,
                private=settings.webhook_private,
                now=record.clock.now,
            )
            stack.push_async_callback(sender.close)
            delivery.register(record, sender, metrics, settings)
            record.register_tasks(settings.retention_s)
            app.state.services = Services(
                settings,
                catalog,
                record,
                CreateRate(settings.creates_per_s, settings.create_burst),
                metrics,
                Thumbnails(record.files.read),
                await stack.enter_async_context(httpx.AsyncClient(trust_env=False)),
                await record.files.origin() if settings.file_redirects else None,
            )
            for name, run in (
                ("jobs", partial(_run_jobs, record, GATEWAY_QUEUE, GATEWAY_JOBS)),
                ("webhooks", partial(_run_jobs, record, WEBHOOK_QUEUE, WEBHOOK_JOBS)),
                ("sweep", record.sweep.run_forever),
                ("catalog", catalog.refresh_forever),
            ):
                await stack.enter_async_context(_running(name, run))
            yield

    return lifespan


async def _run_jobs(record: Record, queue: str, concurrency: int) -> None:
    """Run the jobs of one queue. Each queue has its own worker, so that slow webhooks don't delay deadlines."""
    await record.procrastinate.run_worker_async(
        queues=[queue],
        name=queue,
        concurrency=concurrency,
        fetch_job_polling_interval=POLL_S,
        install_signal_handlers=False,
        shutdown_graceful_timeout=DRAIN_S,
        delete_jobs="successful",  # keeps the table small; failed jobs stay for inspection until retention
    )


@asynccontextmanager
async def _running(name: str, run: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a task for the block, and restart it when it fails, as it does while the database can't be reached."""

    async def supervised() -> None:
        while True:
            try:
                await run()
            except Exception:  # whatever it is: logged, and the task restarts
                logger.exception("a task failed and restarts", extra={"task": name})
            if (
                task.cancelling()
            ):  # without the database, procrastinate's own shutdown fails, which hides our cancellation
                return
            await asyncio.sleep(RESTART_S)

    task = asyncio.create_task(supervised(), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
