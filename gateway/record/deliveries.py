"""The terminal webhooks that are owed."""

from dataclasses import dataclass

from gateway.record.database import Database


@dataclass(frozen=True)
class Delivery:
    """A terminal webhook: where it goes, and its bytes, the same at each try."""

    id: str  # the prediction's
    url: str
    body: bytes


class Deliveries:
    """Read and settle what is owed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, prediction_id: str) -> Delivery | None:
        """Return the delivery that is owed for a prediction, or None when there is none (any more)."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute(
                """select p.id, p.webhook, d.body from deliveries d join predictions p using (id)
                   where d.id = %s and d.done_at is null""",
                (prediction_id,),
            )
            row = await found.fetchone()
        return Delivery(row[0], row[1], bytes(row[2])) if row else None

    async def tried(self, prediction_id: str) -> None:
        """Count a try that failed."""
        async with self._database.transaction() as connection:
            await connection.execute("update deliveries set tries = tries + 1 where id = %s", (prediction_id,))

    async def done(self, prediction_id: str, delivered: bool) -> None:
        """Settle a delivery: it was delivered, or the last try failed."""
        async with self._database.transaction() as connection:
            await connection.execute(
                """update deliveries set done_at = now(), delivered = %s, tries = tries + 1
                   where id = %s and done_at is null""",
                (delivered, prediction_id),
            )
