"""An async predictor with four slots."""

import asyncio

from cog import BaseRunner, Input, concurrent


class Predictor(BaseRunner):
    @concurrent(max=4)
    async def run(
        self,
        seconds: float = Input(description="How long it runs.", default=2.0),
        text: str = Input(description="What it returns.", default="done"),
    ) -> str:
        print(f"sleeping for {seconds} s")
        await asyncio.sleep(seconds)
        return text
