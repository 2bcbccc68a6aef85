"""The folder of a run's output files."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Outputs:
    """Give each run a fresh folder.

    The server never deletes what a run returned, and a run can't delete it before returning, so the next one does.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Path | None = None

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Delete the last run's folder and make this run's; a run that fails or is cancelled leaves nothing."""
        self.clear()
        self._last = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
        try:
            yield self._last
        except BaseException:  # cancellation is one
            self.clear()
            raise

    def clear(self) -> None:
        """Delete the last run's folder, if there is one."""
        if self._last:
            shutil.rmtree(self._last, ignore_errors=True)
            self._last = None
