"""The user that PostgreSQL runs as: it refuses root."""

import os
import pwd
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED = "nobody"  # there on every Linux; the folders made for it are its own


@dataclass(frozen=True)
class Account:
    """The user that runs the server, as Popen's arguments have it; None is one's own."""

    user: int | None = None
    group: int | None = None

    def run(self, command: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end as this user."""
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            user=self.user,
            group=self.group,
            extra_groups=self.extra_groups,
        )

    @property
    def extra_groups(self) -> list[int] | None:
        """Return no further groups for another user."""
        return None if self.user is None else []

    def owns(self, folder: Path) -> None:
        """Make a folder that this user alone can enter."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.user is not None and self.group is not None:
            os.chown(folder, self.user, self.group)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this user gets into `folder` from the root of the file system."""
        return self.user is None or all(part.stat().st_mode & stat.S_IXOTH for part in (folder, *folder.parents))


def server_account() -> Account:
    """Return the user for a server: one without rights for root, else one's own."""
    if os.geteuid() != 0:
        return Account()
    entry = pwd.getpwnam(UNPRIVILEGED)
    return Account(entry.pw_uid, entry.pw_gid)
