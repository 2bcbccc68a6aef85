"""How webhooks are sent: to which addresses, with which signatures, and when they are retried."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from procrastinate.jobs import Job

from gateway.clock import own_time
from gateway.metrics import Metrics
from gateway.record import Record
from gateway.settings import Settings
from gateway.webhooks.delivery import Deliverer, Retries, TryAgainError
from gateway.webhooks.rules import secret_of
from gateway.webhooks.sending import Message, NotDeliveredError, Sender
from tests.gateway.receiver import Receiver, receiving
from tests.gateway.recording import fail_and_fetch_delivery, new

SECRET = secret_of(b"k" * 32, 1)


def send(url: str, *, private: bool = True, try_s: float = 20, body: bytes = b'{"status":"succeeded"}') -> None:
    async def once() -> None:
        sender = Sender(try_s=try_s, http=True, private=private)
        try:
            await sender.send(Message("msg_1", url, body, SECRET))
        finally:
            await sender.close()

    asyncio.run(once())


def refusal(url: str, *, private: bool = True, try_s: float = 20) -> str:
    with pytest.raises(NotDeliveredError) as caught:
        send(url, private=private, try_s=try_s)
    return str(caught.value)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 500, 503])
def test_only_a_status_from_200_to_299_counts_as_delivered(receiver: Receiver, status: int) -> None:
    before = len(receiver.deliveries)
    assert refusal(f"{receiver.url}/status/{status}/") == f"the answer was {status}"
    assert [delivery.path for delivery in receiver.deliveries[before:]] == [f"/status/{status}/"], (
        "a redirect is not followed"
    )


def test_a_timeout_a_refused_connection_and_an_unknown_host_are_not_delivered(receiver: Receiver) -> None:
    assert refusal(f"{receiver.url}/status/0/", try_s=0.3)
    with receiving() as gone:
        url = gone.url
    assert refusal(url)
    assert "no address" in refusal("http://no-such-host.invalid/")


# Python doesn't parse these as addresses, so they count as names. The resolver turns each into 127.0.0.1.
@pytest.mark.parametrize("name", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "ip6-localhost"])
def test_a_name_that_resolves_to_a_private_address_is_rejected(receiver: Receiver, name: str) -> None:
    before = len(receiver.deliveries)
    said = refusal(receiver.url.replace("127.0.0.1", name) + "/private", private=False)
    assert "no public address" in said or "no address" in said or "private address" in said
    assert len(receiver.deliveries) == before


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://169.254.169.254/latest", "http://[::1]/", "ftp://1.1.1.1/"]
)
def test_the_address_is_checked_again_at_the_delivery(url: str) -> None:
    assert refusal(url, private=False).startswith("the address is refused")


def pause_after(error: BaseException, event: str, queueing_lock: str | None = None) -> float | None:
    """Return the seconds until the job of a delivery runs again, by the database's clock."""
    now = own_time() + timedelta(hours=1)
    job = Job(
        id=1,
        queue="webhooks",
        lock="x",
        queueing_lock=queueing_lock,
        task_name="webhook",
        task_kwargs={"id": "x", "event": event, "body": None},
        attempts=0,
    )
    decision = Retries(lambda: now).get_retry_decision(exception=error, job=job)
    return (decision.retry_at - now).total_seconds() if decision and decision.retry_at else None


def test_a_delivery_runs_again_after_a_failed_try_a_lost_database_and_a_shutdown() -> None:
    assert pause_after(TryAgainError(16), "completed") == 16
    lost = psycopg.errors.AdminShutdown("terminating connection due to administrator command")
    assert pause_after(lost, "completed") == pause_after(lost, "start") == 1  # nothing was sent
    assert pause_after(asyncio.CancelledError(), "completed") == 0
    assert pause_after(asyncio.CancelledError(), "start") is None  # it may have been sent, and is sent once
    assert pause_after(lost, "logs", "logs x") is None  # the next one is queued, perhaps
    assert pause_after(ValueError("a bug"), "completed") is None


@pytest.mark.anyio
async def test_completed_is_tried_by_default_0_1_2_4_8_16_and_32_seconds_after_the_end(
    receiver: Receiver, record: Record, owner: int
) -> None:
    row = await record.predictions.create(
        new(owner, webhook=f"{receiver.url}/fail/owed", webhook_events=("completed",))
    )
    job = await fail_and_fetch_delivery(record, row)
    sender = Sender(try_s=20, http=True, private=True)
    deliverer = Deliverer(record, sender, Metrics(), Settings.model_fields["webhook_pauses_s"].default, 0)
    after_s = [0.0]
    try:
        while await record.deliveries.get(row.id):  # until it is given up
            try:
                await deliverer.deliver(job, row.id, "completed", None)
            except TryAgainError as again:
                after_s.append(after_s[-1] + again.pause_s)
    finally:
        await sender.close()
    assert len(receiver.at("/fail/owed")) == 7
    assert after_s == [0, 1, 2, 4, 8, 16, 32]
