"""Say whether the gateway or the worker in this container is well: python -m gateway.probe [worker].

It exits with 0 if it is, else with 1 and a sentence. It loads nothing but the standard library, since it runs every
few seconds. A worker has no port to ask; it touches the file of GATEWAY_ALIVE_FILE while its event loop turns.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

TIMEOUT_S = 5
PATIENCE_S = 60  # a worker touches its file every few seconds


def main() -> None:
    """Look, and exit."""
    trouble = worker(os.environ) if sys.argv[1:] == ["worker"] else gateway(os.environ)
    if trouble:
        sys.exit(trouble)


def gateway(environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the gateway, None if it is ready."""
    url = f"http://127.0.0.1:{environment.get('GATEWAY_PORT', '5000')}/health"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        return f"the gateway answers {error.code}"
    except OSError as error:
        return f"the gateway does not answer: {error}"


def worker(environment: Mapping[str, str]) -> str | None:
    """Return what is wrong with the worker, None if it is alive."""
    path = environment.get("GATEWAY_ALIVE_FILE")
    if not path:
        return "GATEWAY_ALIVE_FILE is not set"
    try:
        silent_s = time.time() - Path(path).stat().st_mtime
    except OSError as error:
        return f"the worker shows no life: {error}"
    return f"the worker has shown no life for {silent_s:.0f} s" if silent_s > PATIENCE_S else None


if __name__ == "__main__":
    main()
