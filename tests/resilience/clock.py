"""A wrong clock for some processes: Linux gives no namespace its own time of day, so a small library shows it."""

import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def wrong_by(ahead_s: int, folder: Path) -> dict[str, str]:
    """Return the environment in which a process sees a clock that is so far ahead; the library goes into `folder`."""
    library = folder / f"clock{ahead_s:+d}.so"
    command = ["cc", "-shared", "-fPIC", f"-DAHEAD_S={ahead_s}", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library)}
