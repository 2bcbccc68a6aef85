"""Replicate's HTTP API, self-hosted, in front of any Cog container."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

if sys.platform == "win32":
    sys.exit("The gateway doesn't run on Windows. Use its container, see docs/deploy/system.md, or WSL.")

_PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"  # in a checkout and in the image


def version() -> str:
    """Return the version, such as 0.2.0, which pyproject.toml contains."""
    if _PROJECT.is_file():
        return str(tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("cog-gateway")
