"""The benches start, and their last line can be parsed."""

import importlib
import re
import subprocess
import sys

import pytest

from local import ROOT

NAMES = re.findall(r"^case .* in (.*)\) ;;", (ROOT / "script" / "bench").read_text(encoding="utf-8"), re.MULTILINE)
BENCHES = NAMES[0].split(" | ")


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_describes_its_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"bench.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "--write" in capsys.readouterr().out


@pytest.mark.slow
def test_the_diffusion_loop_takes_little_more_than_its_model() -> None:
    command = [str(ROOT / "script" / "bench"), "diffusion", "--small", "--samplers", "plms", "--repeats", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    figures = dict(item.split("=") for item in ended.stdout.splitlines()[-1].split())
    for name in ("riffusion_over_floor", "deforum_over_floor"):
        assert 1 <= float(figures[name]) < 10
