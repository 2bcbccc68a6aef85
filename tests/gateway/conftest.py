import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from gateway.record import Record, open_record
from gateway.record.migrations import migrate
from gateway.serve import postgres
from tests.gateway import recording, staging
from tests.gateway.processes import NO_TLS, TIMEOUT_S, System, Token, running
from tests.gateway.receiver import Receiver, receiving

OPERATOR = "the operator's"
BODY_S, FILE_BYTES, QUOTA_BYTES = 2, 99_000, 250_000
BOUNDS = {
    "GATEWAY_BODY_S": str(BODY_S),
    "GATEWAY_BODY_BYTES": "20000",
    "GATEWAY_FILE_BYTES": str(FILE_BYTES),  # 132,000 in base64
    "GATEWAY_FILE_QUOTA_BYTES": str(QUOTA_BYTES),
    "GATEWAY_FILE_RETENTION_S": "1",
    "GATEWAY_CREATES_PER_S": "0.01",
    "GATEWAY_CREATE_BURST": "4",
    "GATEWAY_QUEUED": "3",
    "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """Run PostgreSQL. Without fsync, because no test needs its data to survive a crash of the machine."""
    with (
        postgres.temporary_folder() as folder,
        (folder / "log").open("wb") as log,
        postgres.started(folder / "postgres", log, fsync="off") as cluster,
    ):
        yield cluster


class Databases:
    def __init__(self, cluster: postgres.Cluster) -> None:
        self._cluster = cluster
        asyncio.run(migrate(self.create("migrated")))
        self._reused = self.make()

    def create(self, name: str, template: str = "template1") -> str:
        """Create a database, without our schema if the template has none, and return its URL."""
        with psycopg.connect(self._cluster.url, autocommit=True) as connection:
            connection.execute(f'create database "{name}" template "{template}" strategy file_copy')
        return self._cluster.url_of(name)

    def make(self) -> str:
        return self.create(f"t{secrets.token_hex(6)}", "migrated")

    def emptied(self) -> str:
        """Empty the database that tests use one after the other: that takes 1 ms, and a new one 100 ms."""
        with psycopg.connect(self._reused, autocommit=True) as connection:
            recording.empty_database(connection)
        return self._reused


@pytest.fixture(scope="session")
def databases(cluster: postgres.Cluster) -> Databases:
    return Databases(cluster)


@pytest.fixture
def database_url(databases: Databases) -> str:
    """Return the URL of a migrated database with nothing in it. Tests that change its schema make their own."""
    return databases.emptied()


@pytest.fixture
def record_options() -> dict[str, Any]:
    """Return arguments for `open_record`; tests override them with parametrize."""
    return {"stalled_s": 3600, "delivery_s": 3600}


@pytest.fixture
async def record(database_url: str, tmp_path: Path, record_options: dict[str, Any]) -> AsyncIterator[Record]:
    async with open_record(database_url, (tmp_path / "files").as_uri(), **record_options) as record:
        yield record


@pytest.fixture
async def owner(record: Record) -> int:
    return await recording.create_owner(record)


@pytest.fixture
def cog_arguments() -> tuple[str, ...]:
    """Return command-line arguments for the fake Cog server; tests override them with parametrize."""
    return ()


@pytest.fixture
async def harness(
    record: Record, owner: int, tmp_path: Path, cog_arguments: tuple[str, ...]
) -> AsyncIterator[staging.Harness]:
    """Run a fake Cog server and the sweep; tests run workers between them."""
    async with staging.running(record, owner, tmp_path / "journal.jsonl", cog_arguments) as harness:
        yield harness


@pytest.fixture(scope="session")
def system(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run the system that most tests share. Tests have tokens of their own, and kill none of its processes."""
    settings = {
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
        "GATEWAY_METRICS_TOKEN": OPERATOR,
        "GATEWAY_WEBHOOK_PAUSES_S": "0.1,0.1,0.1,0.1,0.1,0.1",
    }
    with running(tmp_path_factory.mktemp("system"), databases.make(), settings) as system:
        yield system


@pytest.fixture(scope="session")
def bounded(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Run a gateway with tight limits and without a worker."""
    with running(tmp_path_factory.mktemp("bounded"), databases.make(), BOUNDS, model=False) as system:
        yield system


@pytest.fixture
def token(system: System) -> Token:
    return system.token()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=TIMEOUT_S) as client:
        yield client
