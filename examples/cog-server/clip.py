"""Request a clip and wait for it: `python3 clip.py URL PROMPT`."""

import json
import sys
import time
import urllib.error
import urllib.request

from unpack import unpack

BUSY = 409
WRONG_INPUT = 422


def predict(url: str, inputs: dict[str, object]) -> dict[str, object]:
    """Return a finished prediction. Retry while the server is busy with another one."""
    body = json.dumps({"input": inputs}).encode()
    while True:
        request = urllib.request.Request(f"{url}/predictions", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code == WRONG_INPUT:
                problems = json.load(error)["detail"]
                raise SystemExit("\n".join(f"{one['loc'][-1]}: {one['msg']}" for one in problems)) from None
            if error.code != BUSY:
                raise
        time.sleep(1)


if __name__ == "__main__":
    for path in unpack(predict(sys.argv[1], {"prompt_a": sys.argv[2]})):
        print(f"Wrote {path}")
