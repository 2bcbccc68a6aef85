"""Routes for those who run the gateway: health, and figures for Prometheus."""

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.api import errors
from gateway.api.services import Services, Serving, answer, caller
from gateway.record.numbers import DeliveryNumbers, Ends, Queue, Server

router = APIRouter(include_in_schema=False)


@router.get("/health/live")
async def live() -> Response:
    """Say that the process answers."""
    return answer({"status": "live"})


@router.get("/health")
@router.get("/health/ready")
async def ready(services: Serving) -> Response:
    """Say that the database answers too."""
    if services.stopping.is_set():
        raise errors.unavailable("The gateway is ending.")
    if not await services.record.ready():
        raise errors.unavailable("The database can't be reached.")
    return answer({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request, services: Serving) -> Response:
    """Return the figures: this process's own, and those of the record, which all gateways share."""
    if not services.settings.metrics_public:
        await caller(request)
    shared = CollectorRegistry()
    shared.register(await _figures(services))
    text = generate_latest(services.measures.registry) + generate_latest(shared)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@dataclass(frozen=True, eq=False)  # Prometheus's registry keeps collectors by their hash
class Figures(Collector):
    """What the record says at one moment."""

    queues: list[Queue]
    ends: list[Ends]
    servers: list[Server]
    deliveries: DeliveryNumbers

    def collect(self) -> Iterable[Metric]:
        """Return the figures in Prometheus's terms."""
        yield from self._queues()
        yield from self._ends()
        health = GaugeMetricFamily(
            "gateway_server_health", "1 for a Cog server's health as last seen.", labels=["server", "queue", "health"]
        )
        for server in self.servers:
            health.add_metric([server.name, server.queue, server.health], 1)
        yield health
        webhooks = GaugeMetricFamily(
            "gateway_completed_webhooks", "The `completed` webhooks that are kept, by state.", labels=["state"]
        )
        webhooks.add_metric(["owed"], self.deliveries.owed)
        webhooks.add_metric(["delivered"], self.deliveries.delivered)
        webhooks.add_metric(["given_up"], self.deliveries.given_up)
        yield webhooks

    def _queues(self) -> Iterable[Metric]:
        labels = ["model", "version"]
        queued = GaugeMetricFamily("gateway_queued_predictions", "Predictions that wait.", labels=labels)
        running = GaugeMetricFamily("gateway_running_predictions", "Predictions that run.", labels=labels)
        oldest = GaugeMetricFamily("gateway_queue_age_seconds", "How long the oldest has waited.", labels=labels)
        for queue in self.queues:
            queued.add_metric([queue.model, queue.version], queue.queued)
            running.add_metric([queue.model, queue.version], queue.running)
            oldest.add_metric([queue.model, queue.version], queue.oldest_s)
        return [queued, running, oldest]

    def _ends(self) -> Iterable[Metric]:
        labels = ["model", "version", "status"]
        count = CounterMetricFamily("gateway_ended_predictions", "Predictions that ended.", labels=labels)
        queue_s = CounterMetricFamily("gateway_queue_seconds", "Sum of times from create to start.", labels=labels)
        run_s = CounterMetricFamily("gateway_run_seconds", "Sum of times from start to end.", labels=labels)
        for ends in self.ends:
            values = [ends.model, ends.version, ends.status]
            count.add_metric(values, ends.count)
            queue_s.add_metric(values, ends.queue_s)
            run_s.add_metric(values, ends.run_s)
        return [count, queue_s, run_s]


async def _figures(services: Services) -> Figures:
    numbers = services.record.numbers
    found = await numbers.queues()
    busy = {queue.version for queue in found}
    idle = [Queue(v.model, v.id, 0, 0, 0) for v in services.catalog.versions() if v.id not in busy]
    return Figures([*found, *idle], await numbers.ends(), await numbers.servers(), await numbers.deliveries())
