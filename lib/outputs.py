"""Files that are there whole or not at all, and the folder of a run's output files."""

import errno
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.errors import UserError

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Lend a name beside `path` to write a file under; it becomes `path` when the block ends, and not before.

    Whatever is raised in the block, a cancellation included, leaves no file, and an earlier one at `path` as it was.
    The name has the ending of `path`, since libraries read the format from it.

    Raises:
        OSError: there is no such folder, or it takes no file of that name.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.unfinished{path.suffix}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


class Outputs:
    """Give each run a fresh folder.

    The server never deletes what a run returned, and a run can't delete it before returning, so the next one does.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Path | None = None

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """Delete the last run's folder and make this run's; a run that fails or is cancelled leaves nothing.

        Raises:
            UserError: there is no room for the files, or no permission to write them.
        """
        self.clear()
        try:
            self._last = Path(tempfile.mkdtemp(prefix=f"{self._name}-"))
            yield self._last
        except OSError as error:
            self.clear()
            if error.errno not in NO_ROOM:
                raise
            raise UserError(
                f"No file can be written in {tempfile.gettempdir()}: {error.strerror}. "
                "Make room there, or choose another folder with TMPDIR."
            ) from error
        except BaseException:  # cancellation is one
            self.clear()
            raise

    def clear(self) -> None:
        """Delete the last run's folder, if there is one."""
        if self._last:
            shutil.rmtree(self._last, ignore_errors=True)
            self._last = None
