"""The calls of UNet and VAE within a run: the time that a run would take without overhead."""

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lib.device import synchronize
from lib.diffusion.models import Models


class Recorder:
    """Models that record every call of their UNet and VAE, with its arguments and its seconds."""

    def __init__(self, models: Models) -> None:
        self.models = replace(models, unet=_Part(models.unet, self), vae=_Part(models.vae, self))
        self.clear()

    def clear(self) -> None:
        """Forget the calls so far."""
        self.calls: list[functools.partial[Any]] = []
        self.seconds = 0.0

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function and record the call."""
        self.calls.append(functools.partial(function, *args, **kwargs))
        start_s = time.perf_counter()
        result = function(*args, **kwargs)
        self.seconds += time.perf_counter() - start_s
        return result

    @torch.inference_mode()
    def floor_s(self) -> float:
        """Return the seconds of the calls: on a CPU as measured, on CUDA by repeating all of them at once.

        Timing a single call on CUDA would make the host wait for it, which the loop never does.
        """
        device = self.models.device
        if device.type == "cpu":
            return self.seconds
        start_s = time.perf_counter()
        for call in self.calls:
            call()
        synchronize(device)
        return time.perf_counter() - start_s


class _Part:
    """A UNet or a VAE whose calls are recorded."""

    def __init__(self, part: Any, recorder: Recorder) -> None:
        self._part, self._recorder = part, recorder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part, *args, **kwargs)

    def encode(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part.encode, *args, **kwargs)

    def decode(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call(self._part.decode, *args, **kwargs)


@dataclass(frozen=True)
class Measured:
    """The seconds of some whole runs, and of the model's calls within each."""

    evaluations: int
    runs: Sequence[tuple[float, float]]

    @property
    def seconds(self) -> float:
        """The median of the whole runs."""
        return statistics.median(whole for whole, _ in self.runs)

    @property
    def floor_s(self) -> float:
        """The median of the calls."""
        return statistics.median(floor for _, floor in self.runs)

    @property
    def over_floor(self) -> float:
        """The median of the ratio of a run to its calls."""
        return statistics.median(whole / floor for whole, floor in self.runs)
