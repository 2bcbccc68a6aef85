"""Cancel asyncio tasks reliably.

A cancellation can be lost: before Python 3.12, asyncio.wait_for drops one that arrives together with its result
(CPython issue 86296). psycopg's pool uses wait_for, so a task that is cancelled just when the database comes back would
keep running.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RETRY_S = 1.0


async def first(*calls: Coroutine[Any, Any, T]) -> T:
    """Run coroutines concurrently, return the result of the first that finishes, and cancel the others."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        await end(*tasks)


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, repeatedly if need be, and return when all have ended."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=RETRY_S)
    await asyncio.gather(*tasks, return_exceptions=True)  # otherwise asyncio logs exceptions that nobody retrieves
