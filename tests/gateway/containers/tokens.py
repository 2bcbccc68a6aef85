"""A language model's stand-in: yields tokens one by one, over server-sent events of coglet's own."""

import time

from cog import BaseRunner, ConcatenateIterator, Input, streaming


class Predictor(BaseRunner):
    @streaming
    def run(
        self,
        prompt: str = Input(description="The text to continue."),
        count: int = Input(description="How many tokens.", default=5, ge=0, le=20000),
        interval_s: float = Input(description="The pause before each token, in seconds.", default=0.05),
        fail_at: int = Input(description="Fail before this token; -1: never.", default=-1),
    ) -> ConcatenateIterator[str]:
        for number in range(count):
            time.sleep(interval_s)
            if number == fail_at:
                raise ValueError("out of words")
            yield str(time.time()) if prompt == "time" else f"{prompt}{number} "
