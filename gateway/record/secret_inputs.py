"""The values of secret inputs: encrypted, apart from the predictions, and only until these end.

Everything else that is stored of a prediction is shown somewhere. The encryption keeps the values out of the database's
own log, its write-ahead log and the space of deleted rows.
"""

import base64
import json

from cryptography.fernet import Fernet

from gateway.prediction import JsonObject
from gateway.record.database import HAS_ENDED, Connection, Database


class SecretInputs:
    """Store and read secret inputs."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    async def insert(self, connection: Connection, prediction_id: str, values: JsonObject) -> None:
        """Store a new prediction's secret inputs, in the connection's transaction."""
        await connection.execute(
            "insert into secret_inputs (id, value) values (%s, %s)",
            (prediction_id, self._fernet.encrypt(json.dumps(values).encode())),
        )

    async def get(self, prediction_id: str) -> JsonObject:
        """Return the secret inputs of a prediction that has not ended."""
        async with self._database.pool.connection() as connection:
            found = await connection.execute("select value from secret_inputs where id = %s", (prediction_id,))
            row = await found.fetchone()
        values: JsonObject = json.loads(self._fernet.decrypt(bytes(row[0]))) if row else {}
        return values

    async def sweep(self) -> None:
        """Delete those of predictions that have ended: a gateway of an earlier version leaves them behind."""
        async with self._database.transaction() as connection:
            await connection.execute(
                f"delete from secret_inputs s using predictions p where p.id = s.id and p.{HAS_ENDED}"
            )


async def delete_secret_inputs(connection: Connection, prediction_id: str) -> None:
    """Delete a prediction's secret inputs, in the connection's transaction."""
    await connection.execute("delete from secret_inputs where id = %s", (prediction_id,))
