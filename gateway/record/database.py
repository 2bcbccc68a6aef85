"""The connection pool, the secrets, and how rows of the table `predictions` become data."""

import asyncio
import base64
import json
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeAlias, TypeVar, cast

import procrastinate
import psycopg
import psycopg.conninfo
from cryptography.fernet import Fernet
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncCursor
from psycopg.rows import RowMaker, TupleRow, kwargs_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from gateway import prediction
from gateway.prediction import File, InputFile, JsonObject, Prediction, Status

logger = logging.getLogger(__name__)

T = TypeVar("T")
Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]
Pool: TypeAlias = AsyncConnectionPool[Connection]

POOL_WAIT_S = 5.0
# psycopg_pool retries a failed connection after 1, 2, 4, 8 s and so on, so a long outage would be followed by an
# equally long one. With this timeout it gives up early, starts over, and so retries about every second.
RECONNECT_S = 2.0
SECRET_BYTES = 32

# A host that vanishes in the middle of a transaction leaves locks behind: the sweep's and those of rows. PostgreSQL
# would hold them for two hours; these limits end the session within seconds.
SESSION = {
    "timezone": "UTC",  # the API shows times in UTC
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # ms
    "idle_in_transaction_session_timeout": 20_000,  # ms; our transactions take milliseconds
}
# The database can't be reached, or has closed the session. procrastinate wraps what psycopg raises.
UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,
    PoolTimeout,
    ConnectorException,
)


def _status_in(statuses: tuple[Status, ...]) -> str:
    return f"status in ({', '.join(repr(str(status)) for status in statuses)})"


# As in the partial indexes of the migrations: PostgreSQL uses those for this very condition.
IS_LIVE = _status_in(prediction.LIVE)
HAS_ENDED = _status_in(prediction.ENDED)

# Named one by one: a newer version of this program may have added columns that this one doesn't know.
NAMES = [column.name for column in fields(Prediction)]
COLUMNS = ", ".join(NAMES)


class DatabaseError(RuntimeError):
    """The database can't be used as it is."""


@dataclass(frozen=True)
class Secrets:
    """The keys that all gateways and workers sign with."""

    files: bytes = field(repr=False)  # for the URLs of files and streams
    webhooks: bytes = field(repr=False)  # for webhooks; clients read it to verify them
    inputs: bytes = field(repr=False)  # encrypts secret inputs


@dataclass(frozen=True)
class Database:
    """What every query needs."""

    url: str
    pool: Pool
    procrastinate: procrastinate.App

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Lend a connection with a transaction that commits at the end of the block."""
        async with self.pool.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def predictions(self) -> AsyncIterator[AsyncCursor[Prediction]]:
        """Lend a cursor whose queries select COLUMNS and return predictions."""
        async with self.pool.connection() as connection, connection.cursor(row_factory=prediction_row) as cursor:
            yield cursor

    async def time(self) -> float:
        """Return the database's time, in seconds since 1970."""
        async with self.pool.connection() as connection:
            return await time_of(connection)


def conninfo(url: str) -> str:
    """Return libpq's form of a database's URL, with the options that every connection of ours needs."""
    return psycopg.conninfo.make_conninfo(
        url,
        options=" ".join(f"-c {name}={value}" for name, value in SESSION.items()),
        connect_timeout=5,
        # Without these, the kernel takes two hours to notice a host that has vanished.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=20_000,
    )


@asynccontextmanager
async def open_database(url: str, max_connections: int = 8) -> AsyncIterator[Database]:
    """Open a connection pool and procrastinate's app for the block."""
    pool: Pool = AsyncConnectionPool(
        conninfo(url),
        min_size=1,
        max_size=max_connections,
        timeout=POOL_WAIT_S,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=AsyncConnectionPool.check,  # starts to reconnect again
        open=False,
        check=AsyncConnectionPool.check_connection,  # after a restart of PostgreSQL all idle connections are dead
    )
    app = procrastinate.App(connector=procrastinate.PsycopgConnector())
    async with pool, app.open_async(pool):
        yield Database(url, pool, app)


async def time_of(connection: Connection) -> float:
    """Return the database's time, in seconds since 1970."""
    found = await connection.execute("select extract(epoch from clock_timestamp())::float8")
    row = await found.fetchone()
    assert row is not None  # noqa: S101 - a select without `from` has one row
    return float(row[0])


async def read_secrets(database: Database) -> Secrets:
    """Return the secrets. The first process that asks creates them."""
    return Secrets(
        files=await _secret(database, "files"),
        webhooks=await _secret(database, "webhooks"),
        inputs=await _secret(database, "inputs"),
    )


async def _secret(database: Database, name: str) -> bytes:
    async with database.transaction() as connection:
        await connection.execute(
            "insert into secrets (name, value) values (%s, %s) on conflict do nothing",
            (name, secrets.token_bytes(SECRET_BYTES)),
        )
        found = await connection.execute("select value from secrets where name = %s", (name,))
        row = await found.fetchone()
    assert row is not None  # noqa: S101 - inserted above, and never deleted
    return bytes(row[0])


def _prediction(**columns: Any) -> Prediction:  # psycopg gives each column as its SQL type's Python type
    return Prediction(
        **{
            **columns,
            "status": Status(columns["status"]),
            "files": tuple(file_from(entry) for entry in columns["files"]),
            "webhook_events": tuple(columns["webhook_events"]),
            "input_files": tuple(_input_file(entry) for entry in columns["input_files"]),
        }
    )


def prediction_row(cursor: AsyncCursor[Prediction]) -> RowMaker[Prediction]:
    """Make predictions of the rows of a query that selects COLUMNS."""
    return kwargs_row(_prediction)(cursor)


def file_from(entry: JsonObject) -> File:
    """Read an entry of the column `files`."""
    return File(**cast(dict[str, Any], entry))


def file_entry(file: File) -> JsonObject:
    """Return a file as an entry of the column `files`."""
    return asdict(file)


async def until_stored(call: Callable[[], Awaitable[T]], pause_s: float = 0.5) -> T:
    """Call until the database answers. The call must be idempotent: a commit may succeed and its answer be lost."""
    while True:
        try:
            return await call()
        except UNAVAILABLE as error:
            logger.warning("waiting for the database", extra={"error": str(error).strip()})
            await asyncio.sleep(pause_s)


def _input_file(entry: dict[str, Any]) -> InputFile:
    return InputFile(tuple(entry["at"]), file_from(entry["file"]) if entry["file"] else None)


def input_file_entry(named: InputFile) -> JsonObject:
    """Return an input's file as an entry of the column `input_files`."""
    return {"at": list(named.at), "file": file_entry(named.file) if named.file else None}


def random_id() -> str:
    """Return a new id that can't be guessed: 26 characters of a to z and 2 to 7."""
    return base64.b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


class SecretInputs:
    """Encrypts and reads the values of secret inputs, which are stored apart, and only until their predictions end.

    Everything else that is stored of a prediction is shown somewhere. The encryption keeps the values out of
    PostgreSQL's log, its write-ahead log and the space of deleted rows.
    """

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._fernet = Fernet(base64.urlsafe_b64encode(key))

    def encrypt(self, values: JsonObject) -> bytes:
        """Return the secret inputs of a new prediction as they are stored."""
        return self._fernet.encrypt(json.dumps(values).encode())

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
