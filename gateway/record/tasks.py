"""The engine's tasks that need nothing but the record: deadlines and retention. The gateway runs their queue."""

from gateway.record.engine import EXPIRE_TASK, GATEWAY_QUEUE, RETAIN_TASK
from gateway.record.facade import Record


def register(record: Record, keep_s: float) -> None:
    """Register the tasks of the queue `gateway` on the record's engine.

    keep_s: the data of a prediction is removed so long after its end; 0 keeps it for ever.
    """
    engine = record.engine

    @engine.task(name=EXPIRE_TASK, queue=GATEWAY_QUEUE)
    async def expire(id: str) -> None:  # noqa: A002 - the job's own word
        await record.predictions.cancel(id)

    # A job of each is deferred once for all gateways, and only while no earlier one waits.
    @engine.periodic(cron="* * * * *")
    @engine.task(name=RETAIN_TASK, queue=GATEWAY_QUEUE, queueing_lock=RETAIN_TASK)
    async def retain(timestamp: int) -> None:
        if keep_s:
            await record.retention.remove(keep_s)
        await record.retention.sweep_files()
        if timestamp // 60 % 10 == 0:
            await record.retention.delete_old_rows()
