"""Health checks, and metrics for Prometheus."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.api import errors
from gateway.api.dependencies import Services, ServicesDependency, json_response, token_of
from gateway.record.statistics import EndedCount, QueueLength, ServerHealth, WebhookCounts

router = APIRouter(include_in_schema=False)


@router.get("/health/live")
async def live() -> Response:
    """Return 200 while the process answers."""
    return json_response({"status": "live"})


@router.get("/health")
@router.get("/health/ready")
async def ready(services: ServicesDependency) -> Response:
    """Return 200 while the database answers too."""
    if services.stopping.is_set():
        raise errors.unavailable("The gateway is shutting down.")
    if not await services.record.ready():
        raise errors.unavailable("The database can't be reached.")
    return json_response({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request, services: ServicesDependency) -> Response:
    """Return the metrics of this process, and those of the database, which all gateways share.

    They tell how much everybody uses each model, so they are the operator's, and a client's token doesn't open them.
    """
    if not services.settings.metrics_public and not _is_operator(request, services):
        raise errors.unauthenticated("Metrics need the operator's token, GATEWAY_METRICS_TOKEN")
    shared = CollectorRegistry()
    shared.register(await _read_statistics(services))
    text = generate_latest(services.metrics.registry) + generate_latest(shared)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _is_operator(request: Request, services: Services) -> bool:
    """Return whether a request carries the operator's token."""
    token, sent = services.settings.metrics_token, token_of(request)
    if token is None or sent is None:
        return False
    return hmac.compare_digest(token.get_secret_value().encode(), sent.encode())


@dataclass(frozen=True, eq=False)  # Prometheus's registry hashes its collectors
class SharedMetrics(Collector):
    """The record's statistics at one moment."""

    queues: list[QueueLength]
    ended: list[EndedCount]
    servers: list[ServerHealth]
    webhooks: WebhookCounts

    def collect(self) -> Iterable[Metric]:
        """Return the statistics as Prometheus metrics."""
        yield from self._queues()
        yield from self._ended()
        health = GaugeMetricFamily(
            "gateway_server_health",
            "1 for the last known health of a Cog server.",
            labels=["server", "queue", "health"],
        )
        for server in self.servers:
            health.add_metric([server.name, server.queue, server.health], 1)
        yield health
        by_state = GaugeMetricFamily(
            "gateway_completed_webhooks", "`completed` webhooks in the database, by state.", labels=["state"]
        )
        by_state.add_metric(["owed"], self.webhooks.owed)
        by_state.add_metric(["delivered"], self.webhooks.delivered)
        by_state.add_metric(["given_up"], self.webhooks.given_up)
        yield by_state

    def _queues(self) -> Iterable[Metric]:
        labels = ["model", "version"]
        queued = GaugeMetricFamily("gateway_queued_predictions", "Queued predictions.", labels=labels)
        running = GaugeMetricFamily("gateway_running_predictions", "Running predictions.", labels=labels)
        oldest = GaugeMetricFamily("gateway_queue_age_seconds", "Age of the oldest queued prediction.", labels=labels)
        for queue in self.queues:
            queued.add_metric([queue.model, queue.version], queue.queued)
            running.add_metric([queue.model, queue.version], queue.running)
            oldest.add_metric([queue.model, queue.version], queue.oldest_s)
        return [queued, running, oldest]

    def _ended(self) -> Iterable[Metric]:
        labels = ["model", "version", "status"]
        count = CounterMetricFamily("gateway_ended_predictions", "Ended predictions.", labels=labels)
        queue_s = CounterMetricFamily("gateway_queue_seconds", "Sum of the times from create to start.", labels=labels)
        run_s = CounterMetricFamily("gateway_run_seconds", "Sum of the times from start to end.", labels=labels)
        for ended in self.ended:
            values = [ended.model, ended.version, ended.status]
            count.add_metric(values, ended.count)
            queue_s.add_metric(values, ended.queue_s)
            run_s.add_metric(values, ended.run_s)
        return [count, queue_s, run_s]


async def _read_statistics(services: Services) -> SharedMetrics:
    statistics = services.record.statistics
    queues = await statistics.queues()
    busy = {queue.version for queue in queues}
    idle = [QueueLength(v.model, v.id, 0, 0, 0) for v in services.catalog.versions() if v.id not in busy]
    return SharedMetrics(
        [*queues, *idle], await statistics.ended(), await statistics.servers(), await statistics.webhooks()
    )
