"""What this process counts for /metrics; what all processes share is counted by the record."""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DURATIONS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True)
class Measures:
    """The counters of one gateway, in a registry of their own."""

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
                "From a request to the end of its answer, waits and streams included.",
                ["route"],
                buckets=DURATIONS_S,
                registry=self.registry,
            ),
            "webhook_tries": Counter(
                "gateway_webhook_tries",
                "Tries to deliver a webhook, by what came of them.",
                ["event", "outcome"],
                registry=self.registry,
            ),
            "waiting": Gauge("gateway_waiting_requests", "Creates that wait for an output.", registry=self.registry),
            "streams": Gauge("gateway_open_streams", "Event streams that are open.", registry=self.registry),
        }
        for name, measure in made.items():
            object.__setattr__(self, name, measure)
