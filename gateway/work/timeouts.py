"""How long a worker waits for what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """How long a worker waits for what."""

    beat_s: float = 3.0  # between heartbeats
    poll_s: float = 1.0  # between looks at a server's health
    lost_s: float = 10.0  # idle for so long without a terminal webhook: the attempt is lost
    gone_s: float = 3.0  # nothing listens for so long: the server is gone
    silent_s: float = 60.0  # no answer for so long: it hangs
    cancel_s: float = 30.0  # a cancel unheeded for so long: the server is shut down
    busy_s: float = 15.0  # a server stays busy for so long after an end at most
    stuck_s: float = 600.0  # busy for so long with nothing of ours: its slot is taken for ever
    setup_failed_s: float = 60.0  # what waits for a server that can't start fails after so long
    store_tries: int = 4  # of an output's files, a second more between them each time
