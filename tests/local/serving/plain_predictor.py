"""A predictor without a model: what is tested with it is how its server is started and ended."""

import tempfile

from cog import BaseRunner, Input, Path


class Predictor(BaseRunner):
    def run(self, fps: int = Input(default=15)) -> Path:
        path = Path(tempfile.mkdtemp()) / "animation.mp4"
        path.write_bytes(bytes([fps]))
        return path
