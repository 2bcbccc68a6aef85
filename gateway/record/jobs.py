"""The jobs on procrastinate's queues: attempts, deadlines, webhooks and retention."""

from datetime import datetime
from typing import cast

import procrastinate
from procrastinate.exceptions import AlreadyEnqueued

from gateway.prediction import Prediction
from gateway.record.database import Connection

GATEWAY_QUEUE = "gateway"
WEBHOOK_QUEUE = "webhooks"
ATTEMPT_TASK = "attempt"
EXPIRE_TASK = "expire"
WEBHOOK_TASK = "webhook"
RETAIN_TASK = "retain"

AHEAD = 1  # the priority of a retry after a lost attempt: its client has waited already


async def defer_attempt(
    app: procrastinate.App, connection: Connection, queue: str, prediction_id: str, priority: int = 0
) -> int:
    """Queue an attempt in the connection's transaction and return its job id."""
    task = app.configure_task(ATTEMPT_TASK, queue=queue, priority=priority, connection=connection)
    return await task.defer_async(id=prediction_id)


async def defer_expiry(app: procrastinate.App, connection: Connection, prediction_id: str, deadline: datetime) -> None:
    """Queue the cancel at the deadline, in the connection's transaction."""
    task = app.configure_task(EXPIRE_TASK, queue=GATEWAY_QUEUE, schedule_at=deadline, connection=connection)
    await task.defer_async(id=prediction_id)


async def delete_expiry(connection: Connection, prediction_id: str) -> None:
    """Delete the cancel at the deadline, in the connection's transaction: thousands would slow down every fetch."""
    await connection.execute(
        "delete from procrastinate_jobs where task_name = 'expire' and status = 'todo' and args->>'id' = %s",
        (prediction_id,),
    )


def wants(row: Prediction, event: str) -> bool:
    """Return whether a prediction has a webhook for an event."""
    return row.webhook is not None and event in row.webhook_events


async def defer_webhook(
    app: procrastinate.App, connection: Connection, row: Prediction, event: str, body: bytes | None = None
) -> None:
    """Queue the delivery of an event that the prediction's webhook wants, in the connection's transaction.

    A prediction's deliveries share a lock, so they run one at a time and in order. Without a body, which the delivery
    then makes of the prediction as it is by then, at most one of the event is queued.
    """
    task = app.configure_task(
        WEBHOOK_TASK,
        queue=WEBHOOK_QUEUE,
        lock=row.id,
        queueing_lock=f"{event} {row.id}" if body is None and event in ("logs", "output") else None,
        connection=connection,
    )
    try:
        async with connection.transaction():  # a savepoint: a refused insert would abort the whole transaction
            await task.defer_async(id=row.id, event=event, body=body.decode() if body is not None else None)
    except AlreadyEnqueued:
        pass  # the queued one will send this too


def prediction_id_of(job: procrastinate.jobs.Job) -> str:
    """Return the id of the prediction that a job is about."""
    return cast(str, job.task_kwargs["id"])
