"""Make or upgrade the database's schema: python -m gateway.record migrate [--database-url URL]."""

import argparse
import asyncio
import sys

import psycopg

from gateway.record.database import DatabaseError, migrate
from gateway.settings import settings


def main() -> None:
    """Run the command and say what it did."""
    parser = argparse.ArgumentParser(prog="python -m gateway.record", description=__doc__)
    parser.add_argument("command", choices=["migrate"])
    parser.add_argument("--database-url", help="default: what GATEWAY_DATABASE_URL says")
    url = parser.parse_args().database_url or settings().database_url
    try:
        taken = asyncio.run(migrate(url))
    except (DatabaseError, psycopg.Error) as error:
        sys.exit(f"gateway.record: can't migrate: {' '.join(str(error).split())}")
    sys.stdout.write(f"took {', '.join(taken)}\n" if taken else "the schema is up to date\n")


if __name__ == "__main__":
    main()
