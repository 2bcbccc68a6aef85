"""What is put on procrastinate's queues, and the tasks that are the record's own."""

from datetime import datetime
from typing import cast

import procrastinate
from procrastinate.exceptions import AlreadyEnqueued

from gateway.record.database import Connection
from gateway.record.rows import Prediction

GATEWAY_QUEUE = "gateway"
WEBHOOK_QUEUE = "webhooks"
ATTEMPT_TASK = "attempt"
EXPIRE_TASK = "expire"
WEBHOOK_TASK = "webhook"
RETAIN_TASK = "retain"

AHEAD = 1  # priority of an attempt after a lost one: its client has waited already


async def defer_attempt(
    engine: procrastinate.App, connection: Connection, queue: str, prediction_id: str, priority: int = 0
) -> int:
    """Queue an attempt, in the connection's transaction, and return its job's id."""
    task = engine.configure_task(ATTEMPT_TASK, queue=queue, priority=priority, connection=connection)
    return await task.defer_async(id=prediction_id)


async def defer_expiry(
    engine: procrastinate.App, connection: Connection, prediction_id: str, deadline: datetime
) -> None:
    """Queue the cancel at the deadline, in the connection's transaction."""
    task = engine.configure_task(EXPIRE_TASK, queue=GATEWAY_QUEUE, schedule_at=deadline, connection=connection)
    await task.defer_async(id=prediction_id)


async def forget_expiry(connection: Connection, prediction_id: str) -> None:
    """Delete the cancel at a deadline, in the connection's transaction: thousands would slow down every fetch."""
    await connection.execute(
        "delete from procrastinate_jobs where task_name = 'expire' and status = 'todo' and args->>'id' = %s",
        (prediction_id,),
    )


async def defer_webhook(
    engine: procrastinate.App, connection: Connection, row: Prediction, event: str, body: bytes | None = None
) -> None:
    """Queue the delivery of an event, in the connection's transaction, if the prediction's webhook wants it.

    The deliveries of one prediction run one at a time and in order: they share a lock. Of `logs` at most one waits.
    """
    if row.webhook is None or event not in row.webhook_events:
        return
    task = engine.configure_task(
        WEBHOOK_TASK,
        queue=WEBHOOK_QUEUE,
        lock=row.id,
        queueing_lock=f"logs {row.id}" if event == "logs" else None,
        connection=connection,
    )
    try:
        async with connection.transaction():  # a savepoint: a refused insert would spoil the whole otherwise
            await task.defer_async(id=row.id, event=event, body=body.decode() if body is not None else None)
    except AlreadyEnqueued:
        pass  # the one that waits will send these logs too


def prediction_id_of(job: procrastinate.jobs.Job) -> str:
    """Return the prediction that a job is about."""
    return cast(str, job.task_kwargs["id"])
