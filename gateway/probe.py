"""Health check for containers: python -m gateway.probe [live | worker].

Exits with 0 if the gateway or worker in this container is healthy, else with 1 and a message. With `live`, a gateway
that has lost its database is healthy too: a restart wouldn't help. It loads only the standard library, because it runs
every few seconds. A worker has no port, so it touches the file GATEWAY_ALIVE_FILE while its event loop runs.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 5
MAX_AGE_S = 60  # a worker touches its file every few seconds


def main() -> None:
    """Check, and exit."""
    arguments = sys.argv[1:]
    problem = worker(os.environ) if arguments == ["worker"] else gateway(os.environ, live=arguments == ["live"])
    if problem:
        sys.exit(problem)


def gateway(environment: Mapping[str, str], *, live: bool = False) -> str | None:
    """Return the gateway's problem, or None if it is ready, or with `live` if it answers."""
    url = f"http://127.0.0.1:{environment.get('GATEWAY_PORT', '5000')}/health/{'live' if live else 'ready'}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        return f"the gateway answers {error.code}"
    except OSError as error:
        return f"the gateway doesn't answer: {error}"


def worker(environment: Mapping[str, str]) -> str | None:
    """Return the worker's problem, or None if it is alive."""
    path = environment.get("GATEWAY_ALIVE_FILE")
    if not path:
        return "GATEWAY_ALIVE_FILE is not set"
    try:
        silent_s = time.time() - Path(path).stat().st_mtime
    except OSError as error:
        return f"the worker has no alive file: {error}"
    return f"the worker has not touched its alive file for {silent_s:.0f} s" if silent_s > MAX_AGE_S else None


if __name__ == "__main__":
    main()
