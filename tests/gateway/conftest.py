import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.serve import postgres
from gateway.serve.supervisor import python
from tests.gateway.processes import ROOT, System, Token, running

OPERATOR = "the operator's"


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """Run a database server of our own; what is lost with the machine is no test's business, so it never syncs."""
    folder = Path(tempfile.mkdtemp(prefix="gw-"))  # short: a socket's path is
    folder.chmod(0o711)  # the server's user passes through it
    try:
        with (folder / "log").open("wb") as log, postgres.started(folder / "pg", log, fsync="off") as cluster:
            yield cluster
    finally:
        if (folder / "pg").exists():
            postgres.remove(folder / "pg")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(cluster: postgres.Cluster) -> str:
    """Return the name of a database with our schema, which the others are copies of."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("create database migrated")
    environment = {**os.environ, "GATEWAY_DATABASE_URL": cluster.url_of("migrated"), "PYTHONPATH": str(ROOT)}
    made = subprocess.run(python("-m", "gateway.record", "migrate"), env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return "migrated"


@pytest.fixture(scope="session")
def databases(cluster: postgres.Cluster, template: str) -> Iterator["Databases"]:
    yield Databases(cluster, template)


class Databases:
    """Makes databases, each a copy of the migrated one."""

    def __init__(self, cluster: postgres.Cluster, template: str) -> None:
        self._cluster = cluster
        self._template = template

    def make(self) -> str:
        """Return the URL of a new one."""
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self._cluster.url, autocommit=True) as connection:
            connection.execute(f'create database "{name}" template "{self._template}"')
        return self._cluster.url_of(name)


@pytest.fixture
def database_url(databases: Databases) -> str:
    """Return the URL of a database of the test's own, with our schema and nothing in it."""
    return databases.make()


@pytest.fixture(scope="session")
def system(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return the system that most tests share: every test has a token of its own, and kills nothing."""
    settings = {
        "GATEWAY_WEBHOOK_HTTP": "true",
        "GATEWAY_WEBHOOK_PRIVATE": "true",
        "GATEWAY_METRICS_TOKEN": OPERATOR,
    }
    with running(tmp_path_factory.mktemp("system"), databases.make(), settings) as system:
        yield system


@pytest.fixture
def token(system: System) -> Token:
    """Return a token that has no predictions yet."""
    return system.token()
