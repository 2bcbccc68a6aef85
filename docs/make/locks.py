"""Pin every package of the gateway's image and wheel, also those that its requirements require.

Run by script/make locks. Pins that still fit stay; to renew them, delete the file first.
"""

import subprocess
from pathlib import Path

from local import ROOT

UV = ROOT / ".venv" / "bin" / "uv"
LOCKS = {
    # pip checks the hashes. A wheel's metadata can't have any.
    "deploy/gateway.lock.txt": ("--generate-hashes", "requirements-gateway.txt"),
    "deploy/wheel.lock.txt": ("requirements-gateway.txt", "requirements-postgres.txt"),
}
OLDEST_PYTHON = "3.11"


def lock(name: str, into: Path) -> None:
    """Write a lock of LOCKS, valid on every supported Python; pins that are already in `into` stay if they fit."""
    fixed = ["--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:"]
    command = [str(UV), "pip", "compile", *fixed, "--universal", "--python-version", OLDEST_PYTHON, *LOCKS[name]]
    subprocess.run([*command, "--output-file", str(into)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    for lock_name in LOCKS:
        lock(lock_name, ROOT / lock_name)
