"""Prometheus metrics of this process. Counts that all processes share come from the record's statistics."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Metrics:
    """The metrics of one gateway process, in their own registry."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    request_s: Histogram = field(init=False)
    webhook_tries: Counter = field(init=False)
    waiting: Gauge = field(init=False)
    streams: Gauge = field(init=False)

    def __post_init__(self) -> None:
        made = {
            "requests": Counter(
                "gateway_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
            ),
            "request_s": Histogram(
                "gateway_request_seconds",
                "Duration of a request, including waits and streams.",
                ["route"],
                buckets=DURATIONS_S,
                registry=self.registry,
            ),
            "webhook_tries": Counter(
                "gateway_webhook_tries",
                "Attempts to deliver a webhook, by outcome.",
                ["event", "outcome"],
                registry=self.registry,
            ),
            "waiting": Gauge(
                "gateway_waiting_requests", "Create requests that are waiting for an output.", registry=self.registry
            ),
            "streams": Gauge("gateway_open_streams", "Open event streams.", registry=self.registry),
        }
        for name, metric in made.items():
            object.__setattr__(self, name, metric)
