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
from gateway.record.jobs import WEBHOOK_QUEUE, WEBHOOK_TASK
from gateway.settings import Settings
from gateway.webhooks.rules import secret_of
from gateway.webhooks.sending import Message, NotDeliveredError, Sender

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetryPauses(BaseRetryStrategy):
    """Retry a `completed` webhook after each of the pauses. Other events are not retried."""

    pauses_s: tuple[float, ...]
    now: Now = own_time  # procrastinate compares with the database's time

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return the time of the next try, or None after the last."""
        if not isinstance(exception, NotDeliveredError) or is_last(self, job):
            return None
        return RetryDecision(retry_at=self.now() + timedelta(seconds=self.pauses_s[job.attempts]))


def is_last(retries: RetryPauses, job: Job) -> bool:
    """Return whether the running try is the last: `attempts` counts those before it."""
    return job.task_kwargs["event"] != "completed" or job.attempts >= len(retries.pauses_s)


@dataclass(frozen=True)
class Deliverer:
    """Deliver queued webhooks."""

    record: Record
    sender: Sender
    metrics: Metrics
    retries: RetryPauses
    interval_s: float  # between two `logs`, or two `output`, of a running prediction

    async def deliver(self, job: Job, prediction_id: str, event: str, body: str | None) -> None:
        """Try one delivery.

        Raises:
            NotDeliveredError: It failed, and another try follows.
        """
        row = await self.record.predictions.get(prediction_id)
        sent = body.encode() if body is not None else await self._body(row, event)
        if row is None or row.webhook is None or sent is None:
            return  # settled already, or the prediction has ended since
        # A message has the same id in all its tries. There is one `start` and one `completed` per prediction.
        suffix = event if event in ("start", "completed") else f"{event}_{job.id}"
        secret = secret_of(self.record.secrets.webhooks, row.owner)
        message = Message(f"msg_{prediction_id}_{suffix}", row.webhook, sent, secret)
        await self._send(job, event, message, prediction_id)

    async def _body(self, row: Prediction | None, event: str) -> bytes | None:
        """Return a body that the job doesn't hold: the frozen one of the end, or the prediction as it is now."""
        if row is None:
            return None
        if event == "completed":
            owed = await self.record.deliveries.get(row.id)
            return owed.body if owed else None
        if row.status.ended:
            return None  # nothing may follow `completed`
        return self.record.links.body(await self.record.predictions.with_output(row))

    async def _send(self, job: Job, event: str, message: Message, prediction_id: str) -> None:
        about = {"prediction": prediction_id, "webhook": event, "attempt": job.attempts}
        try:
            await self.sender.send(message)
        except NotDeliveredError as error:
            last = is_last(self.retries, job)
            self.metrics.webhook_tries.labels(event, "given_up" if last else "failed").inc()
            logger.warning("webhook not delivered", extra={**about, "error": str(error), "last": last})
            if event != "completed":
                return
            if last:
                await self.record.deliveries.settle(prediction_id, delivered=False)
                return
            raise  # procrastinate asks RetryPauses for the next try
        self.metrics.webhook_tries.labels(event, "delivered").inc()
        logger.info("webhook delivered", extra=about)
        if event == "completed":
            await self.record.deliveries.settle(prediction_id, delivered=True)
        elif event in ("logs", "output") and job.task_kwargs["body"] is None:
            # The deliveries of a prediction share a lock, so this pause delays the next one.
            await asyncio.sleep(self.interval_s)


def register(record: Record, sender: Sender, metrics: Metrics, settings: Settings) -> None:
    """Register the task on the record's procrastinate app."""
    retries = RetryPauses(settings.webhook_pauses_s, record.clock.now)
    deliverer = Deliverer(record, sender, metrics, retries, settings.webhook_interval_s)

    @record.procrastinate.task(name=WEBHOOK_TASK, queue=WEBHOOK_QUEUE, pass_context=True, retry=retries)
    async def webhook(context: JobContext, id: str, event: str, body: str | None) -> None:  # noqa: A002
        await deliverer.deliver(context.job, id, event, body)
