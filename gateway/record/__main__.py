"""Create or upgrade the database's schema: python -m gateway.record migrate [--database-url URL]."""

import argparse
import asyncio
import sys

import psycopg

from gateway.record.database import DatabaseError
from gateway.record.migrations import migrate
from gateway.settings import settings


def main() -> None:
    """Run the command and print what it did."""
    parser = argparse.ArgumentParser(prog="python -m gateway.record", description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.add_argument("--database-url", help="default: GATEWAY_DATABASE_URL")
    url = parser.parse_args().database_url or settings().database_url
    try:
        applied = asyncio.run(migrate(url))
    except (DatabaseError, psycopg.Error) as error:
        sys.exit(f"gateway.record: can't migrate: {' '.join(str(error).split())}")
    sys.stdout.write(f"applied {', '.join(applied)}\n" if applied else "the schema is up to date\n")


if __name__ == "__main__":
    main()
