"""The timeouts and intervals of a worker."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """The timeouts and intervals of a worker."""

    beat_s: float = 3.0  # between two heartbeats
    poll_s: float = 1.0  # between two health checks of the Cog server
    lost_s: float = 10.0  # a server that is idle this long without a terminal webhook has lost the attempt
    gone_s: float = 3.0  # a server whose port is closed this long is gone
    silent_s: float = 60.0  # a server that doesn't answer for this long hangs
    cancel_s: float = 30.0  # a server that ignores a cancel this long is shut down
    busy_s: float = 15.0  # how long a server may stay busy after a prediction's end
    stuck_s: float = 600.0  # a server that is busy this long with nothing of ours is shut down
    abandon_s: float = 5.0  # a stopping worker whose server and database have both gone for this long exits
    setup_failed_s: float = 60.0  # predictions queued this long for a server that can't start fail
    store_tries: int = 4  # of an output's files, with pauses of 1, 2 and 3 s
