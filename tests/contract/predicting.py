"""What the tests of both predictors share: a run's files, metrics and log, a cancelled run, and a full disk."""

import contextlib
import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


class KeepsMetrics:
    """A base of predictors that keep the metrics which the server would record."""

    def record_metric(self, name: str, value: str | float) -> None:
        self.metrics[name] = value

    @property
    def metrics(self) -> dict[str, str | float]:
        metrics: dict[str, str | float] = self.__dict__.setdefault("_metrics", {})
        return metrics


@dataclass(frozen=True)
class Clip:
    files: list[bytes]
    metrics: dict[str, str | float]
    log: str


def make_clip(predictor: Any, folder: Path, inputs: dict[str, Any]) -> Clip:
    """Run a predictor that writes to a folder."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as log:
        patch.setattr("tempfile.tempdir", str(folder))
        predictor.metrics.clear()
        return Clip(files_of(predictor.run(**inputs)), dict(predictor.metrics), log.getvalue())


def files_of(output: Any) -> list[bytes]:
    paths = [output] if isinstance(output, Path) else [getattr(output, name) for name in type(output).__annotations__]
    return [Path(path).read_bytes() for path in paths]


class CancelledError(BaseException):
    """What a server raises in the middle of a run; it is not an Exception."""


@contextmanager
def cancelled(predictor: Any, after: int) -> Iterator[None]:
    """Cancel the run in the block in this evaluation of the UNet."""
    evaluations: list[int] = []

    def cancel(*_: object) -> None:
        evaluations.append(1)
        if len(evaluations) == after:
            raise CancelledError

    hook = predictor.models.unet.register_forward_hook(cancel)
    try:
        with pytest.raises(CancelledError):
            yield
    finally:
        hook.remove()
    assert len(evaluations) == after


@contextmanager
def full_disk(file_bytes: int = 2000) -> Iterator[None]:
    """Let no file of this process and of those that it starts grow further, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
