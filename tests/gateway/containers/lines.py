"""An iterator without @streaming: coglet sends its output so far in webhooks. Every other item is a file."""

import time
from collections.abc import Iterator

from cog import BaseRunner, Input, Path


class Predictor(BaseRunner):
    def run(
        self,
        count: int = Input(description="How many files.", default=3),
        interval_s: float = Input(description="The pause before each file, in seconds.", default=0.3),
    ) -> Iterator[Path]:
        for number in range(count):
            time.sleep(interval_s)
            path = Path(f"frame-{number}.txt")
            path.write_text(f"frame {number}")
            print(f"frame {number}")
            yield path
