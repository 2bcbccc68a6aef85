"""The options of the bench, and what it prints while it measures."""

import argparse
import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from bench import full_size, report
from bench.diffusion import cuda
from lib import deforum
from lib.device import pick_device, pick_dtype
from lib.diffusion.models import Models, load
from lib.diffusion.samplers import SAMPLERS
from lib.weights import SMALL

STEPS, TRIAL_STEPS = deforum.Recipe().steps, 10
MODELS = ("riffusion", "deforum")


@dataclass(frozen=True)
class Options:
    """The command line, and the device and type that the models use on this machine."""

    small: bool
    write: bool
    only: str | None  # runs or peers
    samplers: Sequence[str]
    repeats: int
    device: torch.device
    dtype: torch.dtype

    @property
    def steps(self) -> int:
        """The number of steps of the whole schedule."""
        return TRIAL_STEPS if self.small else STEPS

    def models(self, packed: bool | None = None) -> dict[str, Models]:
        """Return both models, by default as the predictors load them; at full size they are the same."""
        if self.small:
            return {name: load(SMALL / name, self.device, self.dtype, packed=packed) for name in MODELS}
        return dict.fromkeys(MODELS, full_size.build(self.device, self.dtype, packed=packed))

    def facts(self) -> str:
        """Describe what is measured, and the machine."""
        size = f"The small models, {TRIAL_STEPS} steps" if self.small else "Full size with random weights"
        gpu = cuda.name() if self.device.type == "cuda" else ""
        return f"{size}, {name_of(self.dtype)}, {torch.get_num_threads()} threads; {gpu}{report.machine()}"


def parsed(description: str | None) -> Options:
    """Parse the command line. plms is always the first of `samplers`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="use the small models and 10 steps, to try the bench")
    size.add_argument("--write", action="store_true", help="replace this device's sections of RESULTS.md")
    parser.add_argument("--only", choices=["runs", "peers"], help="only the runs, or only single evaluations")
    parser.add_argument("--samplers", default=",".join(SAMPLERS), help="of deforum, plms in any case (default: all)")
    parser.add_argument("--repeats", type=int, help="runs of each kind (default: 1 at full size on a CPU, else 3)")
    given = parser.parse_args()
    samplers = list(dict.fromkeys(["plms", *given.samplers.split(",")]))
    if unknown := [name for name in samplers if name not in SAMPLERS]:
        parser.error(f"--samplers: {unknown[0]} is not one of {', '.join(SAMPLERS)}")
    device = pick_device()
    repeats = given.repeats or (3 if given.small or device.type == "cuda" else 1)
    return Options(given.small, given.write, given.only, samplers, repeats, device, pick_dtype(device))


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Print what is being measured and how long it took, and hide the models' progress."""
    print(f"{name} ...", end=" ", flush=True)
    start_s = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    print(f"{time.perf_counter() - start_s:.1f} s", flush=True)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a type without "torch."."""
    return str(dtype).rpartition(".")[2]
