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
    device = values.pop("device")
    assert device in ("cpu", "cuda")
    ratios = {name: float(value) for name, value in values.items()}
    loop = {"riffusion_over_floor", "deforum_over_floor", "riffusion_vs_diffusers", "deforum_vs_diffusers"}
    peers = {"vs_openvino", "vs_diffusers_bf16", "vs_plain", "error", "error_plain"}
    assert ratios.keys() == (loop | peers if device == "cpu" else loop)
    for name in ("riffusion_over_floor", "deforum_over_floor"):
        assert 1 <= ratios[name] < 10
    for name in ("riffusion_vs_diffusers", "deforum_vs_diffusers"):
        assert math.isfinite(ratios[name])
        assert ratios[name] > 0
    if device == "cpu":
        assert ratios["vs_plain"] > 0
        assert ratios["error"] < 0.5  # of the small model in bfloat16, a few hundredths
        # A peer that this machine can't be asked is not a number.
        assert all(math.isnan(ratios[name]) or ratios[name] > 0 for name in ("vs_openvino", "vs_diffusers_bf16"))
