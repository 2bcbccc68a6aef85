"""Save the files of an answer in the current folder: `python3 unpack.py answer.json`.

The answer may come from a Cog server or from `cog run --json ... -o answer.json`.
"""

import base64
import json
import sys
from pathlib import Path

NAMES = {"audio": "audio.wav", "spectrogram": "spectrogram.png", "video": "animation.mp4"}


def unpack(prediction: dict[str, object]) -> list[Path]:
    """Save the files of a finished prediction and return their paths: one for deforum, two for riffusion."""
    if prediction.get("status") != "succeeded":
        raise SystemExit(f"{prediction.get('status')}: {prediction.get('error')}")
    output = prediction["output"]
    written = []
    for name, url in (output if isinstance(output, dict) else {"video": output}).items():
        path = Path(NAMES[name])
        path.write_bytes(base64.b64decode(str(url).partition(",")[2]))  # data:audio/x-wav;base64,...
        written.append(path)
    return written


if __name__ == "__main__":
    for path in unpack(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))):
        print(f"Wrote {path}")
