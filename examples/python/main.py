"""Run a model with Replicate's Python client and save its files: main.py [MODEL] [INPUT]."""

import json
import mimetypes
import sys
from collections.abc import Iterator
from pathlib import Path

import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput


def main() -> None:
    """Run the model named on the command line."""
    model = sys.argv[1] if len(sys.argv) > 1 else "riffusion/riffusion"
    inputs = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {"prompt_a": "church bells"}
    try:
        output = replicate.run(model, input=inputs)
    except ModelError as error:
        sys.exit(f"{error.prediction.status}: {error.prediction.error}")
    except ReplicateError as error:
        sys.exit(error.detail or str(error))
    for name, file in files("output", output):
        data = file.read()
        path = Path(name).with_suffix(suffix(file))
        path.write_bytes(data)
        print(f"Wrote {path}: {len(data)} bytes")


def files(name: str, output: object) -> Iterator[tuple[str, FileOutput]]:
    """Yield name and file of each file in an output, which is a file, or a list or dict of files."""
    if isinstance(output, FileOutput):
        yield name, output
    elif isinstance(output, dict):
        for key, value in output.items():
            yield from files(key, value)
    elif isinstance(output, list):
        for number, value in enumerate(output):
            yield from files(f"{name}-{number}", value)


def suffix(file: FileOutput) -> str:
    """Return the file's suffix. Over plain HTTP the output is a data URL, which has a media type but no name."""
    if file.url.startswith("data:"):
        media_type = file.url.removeprefix("data:").partition(";")[0]
        return {"audio/x-wav": ".wav"}.get(media_type) or mimetypes.guess_extension(media_type) or ""
    return Path(file.url).suffix


if __name__ == "__main__":
    main()
