"""The models and the whole system on one machine, without Docker."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
