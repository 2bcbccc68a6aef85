"""Output files: each is written completely or not at all, in a folder for each run."""

import errno
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import UserError

NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Provide a temporary name next to `path`, which is renamed to `path` at the end of the block.

    If the block raises anything, a cancellation included, the new file is deleted and an earlier one at `path` stays.
    The temporary name has the suffix of `path`, because libraries derive the format from it.

    Raises:
        OSError: The folder doesn't exist, or can't hold a file of that name.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.unfinished{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Outputs:
    """A fresh folder for each run.

    Cog's server never deletes what a run returned, and a run can't delete it before it returns, so the next run does.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Path | None = None

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Delete the last run's folder and create this run's. A run that fails or is cancelled leaves no files.

        Raises:
            UserError: The files can't be written because the disk is full or permission is missing.
        """
        self.clear()
        try:
            self._last = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
            yield self._last
        except OSError as error:
            self.clear()
            if error.errno not in NOT_WRITABLE:
                raise
            raise UserError(
                f"Can't write files to {tempfile.gettempdir()}: {error.strerror}. "
                "Free up space there, or set TMPDIR to another folder."
            ) from error
        except BaseException:  # a cancellation is no Exception
            self.clear()
            raise

    def clear(self) -> None:
        """Delete the last run's folder, if there is one."""
        if self._last:
            shutil.rmtree(self._last, ignore_errors=True)
            self._last = None
