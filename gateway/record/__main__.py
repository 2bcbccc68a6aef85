"""Make or upgrade the database's schema: python -m gateway.record migrate [--database-url URL]."""

import argparse
import asyncio
import os
import sys

from gateway.record.database import migrate

parser = argparse.ArgumentParser(prog="python -m gateway.record", description=__doc__)
parser.add_argument("command", choices=["migrate"])
parser.add_argument("--database-url", default=os.environ.get("DATABASE_URL"), help="default: $DATABASE_URL")


def main() -> None:
    """Run the command and say what it did."""
    options = parser.parse_args()
    if not options.database_url:
        parser.error("needs --database-url or DATABASE_URL")
    taken = asyncio.run(migrate(options.database_url))
    sys.stdout.write(f"took {', '.join(taken)}\n" if taken else "the schema is up to date\n")


if __name__ == "__main__":
    main()
