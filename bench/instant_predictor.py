"""A predictor without a model: behind it, only the queue takes time."""

from cog import BaseRunner


class Predictor(BaseRunner):
    """Return at once."""

    def run(self) -> str:
        """Return a constant."""
        return "done"
