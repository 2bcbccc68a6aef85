"""Tasks end, whatever becomes of a cancellation."""

import asyncio

import pytest

from gateway.tasks import end, first

SOON_S = 30.0


async def deaf(cancellations: int, ended: asyncio.Event) -> str:
    """Wait for ever, losing so many cancellations, as what waits by Python 3.11's wait_for may."""
    try:
        for _ in range(cancellations):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue
        await asyncio.Event().wait()
    finally:
        ended.set()
    return "never"


async def at_once() -> str:
    return "first"


async def failing() -> str:
    raise ValueError("a fault")


@pytest.mark.parametrize("cancellations", [0, 1, 2])
def test_the_first_is_returned_and_the_others_have_ended(cancellations: int) -> None:
    async def run() -> None:
        ended = asyncio.Event()
        assert await asyncio.wait_for(first(at_once(), deaf(cancellations, ended)), SOON_S) == "first"
        assert ended.is_set()

    asyncio.run(run())


def test_what_the_first_raises_is_raised() -> None:
    async def run() -> None:
        ended = asyncio.Event()
        with pytest.raises(ValueError, match="a fault"):
            await first(failing(), deaf(1, ended))
        assert ended.is_set()

    asyncio.run(run())


def test_the_end_of_a_task_is_its_end_however_it_ended() -> None:
    async def run() -> None:
        ended = asyncio.Event()
        tasks = [asyncio.create_task(call) for call in (deaf(1, ended), failing(), at_once())]
        await asyncio.sleep(0)
        await asyncio.wait_for(end(*tasks), SOON_S)
        assert ended.is_set()
        assert all(task.done() for task in tasks)

    asyncio.run(run())
