"""Wait for the process at the other end of stdin to die; then kill what it had started and delete its folder.

Run as a program, on its own, by local/scratch.py: guard.py FOLDER. Each line of stdin is a process group to kill;
0 says that nothing needs to be done any more. The end of stdin without it is the other's death.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress

GONE_S = 5  # killed processes take a moment; one that a container without init never buries is not waited for
POLL_S = 0.02


def main() -> None:
    """Read, and act when there is nothing more to read."""
    folder, groups = sys.argv[1], [int(line) for line in sys.stdin]
    if 0 in groups:
        return
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    until_s = time.monotonic() + GONE_S
    while time.monotonic() < until_s and any(_lives(group) for group in groups):
        time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
