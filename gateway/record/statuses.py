"""The statuses of a prediction, and which may follow which."""

from enum import StrEnum


class Status(StrEnum):
    """Name where a prediction stands, in the API's own words."""

    STARTING = "starting"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        """Say whether nothing follows."""
        return not _NEXT[self]


# A prediction whose attempt was lost stays `processing` while it waits for its next attempt: clients that have
# seen it run take a step back to `starting` as an error.
_NEXT: dict[Status, frozenset[Status]] = {
    Status.STARTING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELED}),
    Status.PROCESSING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}


def may_follow(status: Status, following: Status) -> bool:
    """Say whether a prediction may go from `status` to `following`."""
    return following in _NEXT[status]


def before(status: Status) -> list[str]:
    """Return the statuses that `status` may follow, as the database's text."""
    return [str(earlier) for earlier in Status if may_follow(earlier, status)]


LIVE = [str(status) for status in Status if not status.ended]
