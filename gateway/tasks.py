"""End asyncio's tasks for certain.

A cancellation can be lost: asyncio.wait_for drops one that comes together with its result (CPython issue 86296, mended
in 3.12), and psycopg's pool waits by it, so that a task cancelled in the moment when the database is back goes on.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

AGAIN_S = 1.0


async def first(*calls: Coroutine[Any, Any, T]) -> T:
    """Return what the first to finish returns, and end the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        await end(*tasks)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, again and again, and return when all have ended, however they did."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)  # nobody else asks for their exceptions
