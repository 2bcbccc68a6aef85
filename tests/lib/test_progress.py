import re
import time

import pytest
import torch

from lib import progress
from lib.progress import Progress, Stages

CLIENTS_PATTERN = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)")  # Replicate's client libraries


def test_lines_are_what_clients_parse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_S", 0)
    bar = Progress(8)
    for _ in range(8):
        bar.advance()
    output = capsys.readouterr().out
    assert output.endswith("\n")
    assert "\r" not in output
    matches = [CLIENTS_PATTERN.match(line) for line in output.splitlines()]
    assert [tuple(map(int, match.groups())) for match in matches if match] == [
        (round(100 * n / 8), n, 8) for n in range(9)
    ]


def test_at_most_two_lines_a_second_and_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(1000)
    started_s = time.monotonic()
    for _ in range(1000):
        bar.advance()
        time.sleep(0.001)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 2 + (time.monotonic() - started_s) / 0.5
    assert lines[0].lstrip().startswith("0%")
    assert lines[-1].startswith("100%")


def test_stages_add_up() -> None:
    stages = Stages(torch.device("cpu"))
    for _ in range(2):
        with stages.measure("warp"):
            time.sleep(0.01)
    assert 0.02 <= stages.seconds["warp"] < 1
