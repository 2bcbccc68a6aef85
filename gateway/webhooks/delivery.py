"""Deliver webhooks: the task of the queue `webhooks`, and its retries."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.jobs import Job

from gateway.clock import Now, own_time
from gateway.metrics import Metrics
from gateway.prediction import Prediction
from gateway.record import Record
from gateway.record.database import UNAVAILABLE, until_stored
from gateway.record.end import Delivery
from gateway.record.jobs import WEBHOOK_QUEUE, WEBHOOK_TASK
from gateway.settings import Settings
from gateway.webhooks.rules import secret_of
from gateway.webhooks.sending import Message, NotDeliveredError, Sender

logger = logging.getLogger(__name__)

UNAVAILABLE_PAUSE_S = 1.0


class TryAgainError(Exception):
    """A `completed` webhook was not delivered and is to be tried again."""

    def __init__(self, pause_s: float) -> None:
        super().__init__(f"not delivered; next try in {pause_s:g} s")
        self.pause_s = pause_s


@dataclass(frozen=True)
class Retries(BaseRetryStrategy):
    """Decide whether the job of a delivery runs again.

    Whatever it decides, the sweep queues a `completed` webhook that is owed and has no job: the decision, too, may be
    lost with the database.
    """

    now: Now = own_time  # procrastinate compares with the database's time

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the time of the next run, or None for no other run."""
        if isinstance(exception, TryAgainError):
            pause_s = exception.pause_s
        elif isinstance(exception, UNAVAILABLE) and job.queueing_lock is None:  # if it has one, another job may wait
            pause_s = UNAVAILABLE_PAUSE_S
        elif isinstance(exception, asyncio.CancelledError) and job.task_kwargs["event"] == "completed":
            pause_s = 0.0  # the gateway shuts down: the next one delivers it
        else:
            return None
        return RetryDecision(retry_at=self.now() + timedelta(seconds=pause_s))


@dataclass(frozen=True)
class Deliverer:
    """Deliver queued webhooks."""

    record: Record
    sender: Sender
    metrics: Metrics
    pauses_s: tuple[float, ...]  # before the retries of a `completed` webhook
    interval_s: float  # between two `logs`, or two `output`, of a running prediction

    async def deliver(self, job: Job, prediction_id: str, event: str, body: str | None) -> None:
        """Deliver the webhook of a job.

        Raises:
            TryAgainError: It failed, and another try follows.
        """
        if event == "completed":
            owed = await self.record.deliveries.get(prediction_id)
            if owed is not None:  # else an earlier job has settled it
                await self._deliver_owed(owed)
        else:
            await self._deliver_once(job, prediction_id, event, body)

    async def _deliver_owed(self, owed: Delivery) -> None:
        """Try to deliver a `completed` webhook, and record how that went.

        The number of failures is the record's, not the job's, because jobs also run again for other reasons.
        """
        try:
            await self._send("completed", owed)
        except NotDeliveredError as error:
            problem = str(error)
        except Exception as error:  # a bug of ours: it counts as a failure, or it would be retried forever
            logger.exception("a webhook can't be sent", extra={"prediction": owed.id})
            problem = repr(error)
        else:
            self._note("completed", "delivered", owed)
            await until_stored(lambda: self.record.deliveries.settle(owed.id, delivered=True))
            return
        last = owed.failures >= len(self.pauses_s)
        self._note("completed", "given_up" if last else "failed", owed, problem)
        if last:
            await until_stored(lambda: self.record.deliveries.settle(owed.id, delivered=False))
            return
        await until_stored(lambda: self.record.deliveries.count_failures(owed.id, owed.failures + 1))
        raise TryAgainError(self.pauses_s[owed.failures])

    async def _deliver_once(self, job: Job, prediction_id: str, event: str, body: str | None) -> None:
        """Try once to deliver another event, with the body of the job or the prediction as it is now."""
        row = await self.record.predictions.get(prediction_id)
        if row is None or row.webhook is None:
            return
        if body is None and row.status.ended:
            return  # nothing may follow `completed`
        sent = body.encode() if body is not None else await self._current(row)
        delivery = Delivery(row.id, row.owner, row.webhook, sent)
        try:
            await self._send(event if event == "start" else f"{event}_{job.id}", delivery)
        except NotDeliveredError as error:
            self._note(event, "given_up", delivery, str(error))
            return
        self._note(event, "delivered", delivery)
        if body is None:
            # The deliveries of a prediction share a lock, so this pause delays the next one.
            await asyncio.sleep(self.interval_s)

    async def _current(self, row: Prediction) -> bytes:
        return self.record.links.body(await self.record.predictions.with_output(row))

    async def _send(self, suffix: str, delivery: Delivery) -> None:
        # A message has the same id in all its tries. There is one `start` and one `completed` per prediction.
        message_id = f"msg_{delivery.id}_{suffix}"
        secret = secret_of(self.record.secrets.webhooks, delivery.owner)
        await self.sender.send(Message(message_id, delivery.url, delivery.body, secret))

    def _note(self, event: str, outcome: str, delivery: Delivery, problem: str | None = None) -> None:
        """Count a try, and log it."""
        self.metrics.webhook_tries.labels(event, outcome).inc()
        about = {"prediction": delivery.id, "webhook": event, "failures": delivery.failures}
        if problem is None:
            logger.info("webhook delivered", extra=about)
        else:
            logger.warning("webhook not delivered", extra={**about, "error": problem, "last": outcome == "given_up"})


def register(record: Record, sender: Sender, metrics: Metrics, settings: Settings) -> None:
    """Register the task on the record's procrastinate app."""
    deliverer = Deliverer(record, sender, metrics, settings.webhook_pauses_s, settings.webhook_interval_s)
    retries = Retries(record.clock.now)

    @record.procrastinate.task(name=WEBHOOK_TASK, queue=WEBHOOK_QUEUE, pass_context=True, retry=retries)
    async def webhook(context: JobContext, id: str, event: str, body: str | None) -> None:  # noqa: A002
        await deliverer.deliver(context.job, id, event, body)
