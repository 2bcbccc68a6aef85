"""Tasks end, whatever becomes of their cancellation."""

import asyncio

import pytest

from gateway.tasks import end, first

pytestmark = pytest.mark.anyio

TIMEOUT_S = 120.0


async def ignore_cancellations(count: int, ended: asyncio.Event) -> str:
    """Wait forever and lose `count` cancellations, as code that waits in Python 3.11's `wait_for` may."""
    try:
        for _ in range(count):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()
    finally:
        ended.set()
    return "never"


async def succeed() -> str:
    return "first"


async def fail() -> str:
    raise ValueError("failed")


@pytest.mark.parametrize("cancellations", [0, 1, 2])
async def test_first_returns_the_first_result_and_ends_the_other_tasks(cancellations: int) -> None:
    ended = asyncio.Event()
    result = await asyncio.wait_for(first(succeed(), ignore_cancellations(cancellations, ended)), TIMEOUT_S)
    assert result == "first"
    assert ended.is_set()


async def test_first_raises_what_the_first_task_raises() -> None:
    with pytest.raises(ValueError, match="failed"):
        await first(fail(), asyncio.sleep(TIMEOUT_S))


async def test_end_waits_for_all_tasks_whatever_their_results() -> None:
    ended = asyncio.Event()
    tasks = [asyncio.create_task(call) for call in (ignore_cancellations(1, ended), fail(), succeed())]
    await asyncio.sleep(0)
    await asyncio.wait_for(end(*tasks), TIMEOUT_S)
    assert ended.is_set()
    assert all(task.done() for task in tasks)
