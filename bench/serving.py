"""Measure what the server adds to a prediction: the time over HTTP, less the time that the model takes in run().

Run: script/bench serving [--write]. It takes half a minute and uses the small model.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from typing import Any

from bench import report
from local.serve import Server, started

WARM_UP, PREDICTIONS = 3, 20
TRIES, PAUSE_S = 100, 0.02  # the server may answer 409 for some milliseconds after a response
INPUTS = {"num_inference_steps": 10}


def predict(server: Server) -> tuple[float, dict[str, Any]]:
    """Return the seconds from sending a request to having its whole answer, and the answer."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    start_s = time.perf_counter()
    connection.request("POST", "/predictions", json.dumps({"input": INPUTS}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    seconds = time.perf_counter() - start_s
    connection.close()
    return seconds, {"http_status": response.status, **json.loads(content)}


def is_expected(answer: dict[str, Any]) -> bool:
    """Tell whether an answer is a finished prediction."""
    return (answer["http_status"], answer["status"]) == (200, "succeeded")


def predict_when_free(server: Server) -> tuple[int, float, dict[str, Any]]:
    """Return how often the server was still busy, and what predict() returns for the request it then took."""
    busy = 0
    while (timed := predict(server))[1]["http_status"] == 409 and busy < TRIES:
        busy += 1
        time.sleep(PAUSE_S)
    return busy, *timed


def main() -> None:
    """Measure, print, and on request write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace this bench's section of RESULTS.md")
    write = parser.parse_args().write

    with tempfile.TemporaryFile() as log, started("riffusion", environment={"WEIGHTS": "small"}, log=log) as server:
        server.wait_until_ready()
        answers = [predict_when_free(server) for _ in range(WARM_UP + PREDICTIONS)][WARM_UP:]

    timed = [(seconds, answer["metrics"]) for _, seconds, answer in answers if is_expected(answer)]
    busy = sum(some for some, _, _ in answers)
    totals = [seconds for seconds, _ in timed]
    stages = [sum(metrics["seconds"].values()) for _, metrics in timed]
    overheads = {
        "beyond run(), by the server's own `predict_time`": [
            total - metrics["predict_time"] for total, metrics in timed
        ],
        "beyond the stages that the model times": [total - stage for total, stage in zip(totals, stages, strict=True)],
    }
    rows = [
        [name, f"{1000 * statistics.median(values):.0f} ms", f"{1000 * max(values):.0f} ms"]
        for name, values in {"over HTTP": totals, "in the model's stages": stages, **overheads}.items()
    ]
    text = f"""## Serving

{PREDICTIONS} predictions of riffusion with the small model and {INPUTS["num_inference_steps"]} steps, one after the
other, WAV and PNG in the answer as data URLs; {report.machine()}.
{busy} times the server was not done with the one before (409) and was asked again; these waits are not counted.

{report.markdown_table(["", "median", "longest"], rows)}
"""
    print(text)
    if write:
        report.write_section("serving", text)
    overhead_ms = 1000 * statistics.median(overheads["beyond the stages that the model times"])
    unexpected = PREDICTIONS - len(timed)
    print(report.key_values({"overhead_ms": overhead_ms, "predictions": PREDICTIONS, "unexpected": unexpected}))


if __name__ == "__main__":
    main()
