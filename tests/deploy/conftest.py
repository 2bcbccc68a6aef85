"""The database is the one that the gateway's tests have."""

from tests.gateway.conftest import cluster, database_url, databases

__all__ = ["cluster", "database_url", "databases"]
