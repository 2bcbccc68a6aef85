"""A predictor without a model, for tests of how its server is started and stopped."""

import tempfile

from cog import BaseRunner, Input, Path


class Predictor(BaseRunner):
    def run(self, fps: int = Input(default=15)) -> Path:
        path = Path(tempfile.mkdtemp()) / "animation.mp4"
        path.write_bytes(bytes([fps]))
        return path
