"""The benches that decide something, at a small size: do they start, and can their last line be read?"""

import math
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def last_line(name: str, *arguments: str) -> dict[str, str]:
    command = [str(ROOT / "script" / "bench"), name, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    return dict(item.split("=") for item in ended.stdout.splitlines()[-1].split())


def test_the_diffusion_loop_takes_little_more_than_its_model() -> None:
    values = last_line("diffusion", "--small", "--samplers", "plms", "--repeats", "1")
    assert values.pop("device") in ("cpu", "cuda")
    ratios = {name: float(value) for name, value in values.items()}
    assert ratios.keys() == {
        "riffusion_over_floor",
        "deforum_over_floor",
        "riffusion_vs_diffusers",
        "deforum_vs_diffusers",
    }
    for name in ("riffusion_over_floor", "deforum_over_floor"):
        assert 1 <= ratios[name] < 10
    for name in ("riffusion_vs_diffusers", "deforum_vs_diffusers"):
        assert math.isfinite(ratios[name])
        assert ratios[name] > 0
