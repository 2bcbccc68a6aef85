"""How many predictions a second a token may create."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from gateway.api import errors


@dataclass
class Bucket:
    """What a token has left, and since when."""

    left: float
    at_s: float


@dataclass
class CreateRate:
    """Count each token's creates in this process: `per_s` on average, `burst` at once after a rest.

    Several gateways count apart, so that together they let through as many times that.
    """

    per_s: float  # 0: no limit
    burst: int
    clock: Callable[[], float] = time.monotonic
    buckets: dict[int, Bucket] = field(default_factory=dict)  # one a token, of which there are few

    def take(self, token_id: int) -> None:
        """Count one create. Raises Refusal when there are too many."""
        if not self.per_s:
            return
        now_s = self.clock()
        bucket = self.buckets.setdefault(token_id, Bucket(self.burst, now_s))
        bucket.left = min(self.burst, bucket.left + (now_s - bucket.at_s) * self.per_s)
        bucket.at_s = now_s
        if bucket.left < 1:
            # Trap 14: JS tries a 429 six times at once, so the burst is wide and waiting work is queued, not refused.
            raise errors.too_many(
                f"Your token creates more than {self.per_s:g} predictions a second.",
                max(1, ceil((1 - bucket.left) / self.per_s)),
            )
        bucket.left -= 1
