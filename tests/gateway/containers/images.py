"""An image tool: reads files, and returns them inverted."""

import tempfile

from cog import BaseRunner, Input, Path


class Predictor(BaseRunner):
    def run(
        self,
        image: Path = Input(description="The file to invert."),
        others: list[Path] | None = Input(description="More files.", default=None),
    ) -> list[Path]:
        inverted = []
        folder = Path(tempfile.mkdtemp())  # the working folder of a container may be read-only
        for number, path in enumerate([image, *(others or [])]):
            output = folder / f"inverted-{number}.bin"
            output.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
            inverted.append(output)
        return inverted
