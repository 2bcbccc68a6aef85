"""Deliver webhooks: the task that the queue `webhooks` runs, and when it tries again."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta

from procrastinate import BaseRetryStrategy, JobContext, RetryDecision
from procrastinate.jobs import Job

from gateway.hooks.sending import Message, NotDeliveredError, Sender
from gateway.measures import Measures
from gateway.prediction import Links
from gateway.record import WEBHOOK_QUEUE, WEBHOOK_TASK, Now, Prediction, Record, own_time
from gateway.settings import Settings
from gateway.webhooks import secret_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pauses(BaseRetryStrategy):
    """Try again after each of the pauses, in seconds; only `completed` is worth it."""

    seconds: tuple[float, ...]
    now: Now = own_time  # the engine compares with the database's time

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """Return when the next try is, or None after the last."""
        if not isinstance(exception, NotDeliveredError) or is_last(self, job):
            return None
        return RetryDecision(retry_at=self.now() + timedelta(seconds=self.seconds[job.attempts]))


def is_last(pauses: Pauses, job: Job) -> bool:
    """Tell whether no try follows the one that runs: `attempts` counts those before it."""
    return job.task_kwargs["event"] != "completed" or job.attempts >= len(pauses.seconds)


@dataclass(frozen=True)
class Deliverer:
    """Deliver the record's events with a sender."""

    record: Record
    links: Links
    sender: Sender
    measures: Measures
    pauses: Pauses
    interval_s: float  # between two `logs` of a prediction; there is one `output`, at its end

    async def deliver(self, job: Job, prediction_id: str, event: str, body: str | None) -> None:
        """Try one delivery. Raises NotDeliveredError where another try shall follow."""
        row = await self.record.predictions.get(prediction_id)
        sent = body.encode() if body is not None else await self._body(row, event)
        if row is None or row.webhook is None or sent is None:
            return  # settled before, or overtaken by the end
        # Each message has an id that is the same in all its tries: `completed` and `start` are one each.
        suffix = event if event in ("start", "completed") else f"{event}_{job.id}"
        secret = secret_of(self.record.secrets.webhooks, row.owner)
        message = Message(f"msg_{prediction_id}_{suffix}", row.webhook, sent, secret)
        await self._send(job, event, message, prediction_id)

    async def _body(self, row: Prediction | None, event: str) -> bytes | None:
        """Return what is sent where the job doesn't hold it: the end's frozen bytes, or the logs as they are now."""
        if row is None:
            return None
        if event == "completed":
            owed = await self.record.deliveries.get(row.id)
            return owed.body if owed else None
        return None if row.status.ended else self.links.body(row)  # nothing follows the terminal one

    async def _send(self, job: Job, event: str, message: Message, prediction_id: str) -> None:
        about = {"prediction": prediction_id, "event": event, "attempt": job.attempts}
        try:
            await self.sender.send(message)
        except NotDeliveredError as error:
            last = is_last(self.pauses, job)
            self.measures.webhook_tries.labels(event, "given_up" if last else "failed").inc()
            logger.warning("a webhook was not delivered", extra={**about, "error": str(error), "last": last})
            if event != "completed":
                return
            if last:
                await self.record.deliveries.done(prediction_id, delivered=False)
                return
            await self.record.deliveries.tried(prediction_id)
            raise  # so that the engine asks Pauses for the next try
        self.measures.webhook_tries.labels(event, "delivered").inc()
        logger.info("a webhook was delivered", extra=about)
        if event == "completed":
            await self.record.deliveries.done(prediction_id, delivered=True)
        elif event == "logs":
            # Deliveries of a prediction hold its lock, so this pause is what keeps the next one waiting.
            await asyncio.sleep(self.interval_s)


def register(record: Record, links: Links, sender: Sender, measures: Measures, settings: Settings) -> None:
    """Register the task on the record's engine."""
    pauses = Pauses(settings.webhook_pauses_s, record.clock.now)
    deliverer = Deliverer(record, links, sender, measures, pauses, settings.webhook_interval_s)

    @record.engine.task(name=WEBHOOK_TASK, queue=WEBHOOK_QUEUE, pass_context=True, retry=pauses)
    async def webhook(context: JobContext, id: str, event: str, body: str | None) -> None:  # noqa: A002
        await deliverer.deliver(context.job, id, event, body)
