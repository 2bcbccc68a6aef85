import io
import re
import time

import pytest
import torch

from lib.progress import LINE_INTERVAL_S, Progress, Stages

CLIENTS_PATTERN = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)")  # Replicate's client libraries


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def counted(text: str) -> tuple[int, ...]:
    """Return the numbers that a client reads from a line of progress: percent, done, total."""
    match = CLIENTS_PATTERN.match(text)
    assert match, text
    return tuple(map(int, match.groups()))


def run(progress: Progress) -> None:
    for _ in range(progress.total):
        progress.advance()


def test_clients_can_parse_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    run(Progress(8, interval_s=0))
    output = capsys.readouterr().out
    assert output.endswith("\n")
    assert "\r" not in output
    assert [counted(line) for line in output.splitlines()] == [(round(100 * n / 8), n, 8) for n in range(9)]


def test_at_most_two_lines_a_second_and_always_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    started_s = time.monotonic()
    run(Progress(1000))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 2 + (time.monotonic() - started_s) / LINE_INTERVAL_S
    assert [counted(line)[1] for line in (lines[0], lines[-1])] == [0, 1000]


def test_a_terminal_shows_one_line_that_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    terminal = Terminal()
    run(Progress(8, terminal, interval_s=0))
    screen = terminal.getvalue()
    assert screen.count("\n") == 1
    assert screen.endswith("\n")
    empty, *drawn = screen.rstrip("\n").split("\r")
    assert empty == ""
    assert [counted(line)[1] for line in drawn] == list(range(9))
    assert {len(line) for line in drawn} == {49}  # each covers the previous one, and none wraps


def test_the_times_of_a_stage_are_added_up() -> None:
    stages = Stages(torch.device("cpu"))
    for _ in range(2):
        with stages.measure("warp"):
            time.sleep(0.01)
    assert list(stages.seconds) == ["warp"]
    assert stages.seconds["warp"] >= 0.02
