"""Create, list, revoke and check tokens: python -m gateway.tokens, called by script/token."""

import argparse
import asyncio
import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.links import timestamp
from gateway.record import Record, open_record
from gateway.record.database import UNAVAILABLE, DatabaseError
from gateway.record.tokens import TokenError
from gateway.settings import DATA, Settings, SettingsError, read_environment, settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


def main(words: Sequence[str] | None = None, program: str = "script/token") -> None:
    """Run the command. It exits with 1 if there is nothing to revoke, or the checked token is invalid."""
    parser = argparse.ArgumentParser(prog=program, description="Manage the tokens that the gateway accepts.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="create a token and print it; it is never shown again")
    revoke = commands.add_parser("revoke", help="revoke a token")
    for command in (create, revoke):
        command.add_argument("name", type=_name, help="the token's name; letters, digits and ._@-")
    commands.add_parser("list", help="print the names, with the times of creation and revocation")
    commands.add_parser("check", help="read a token from standard input and exit with 0 if it is valid")
    for command in commands.choices.values():
        command.add_argument(
            "--data",
            type=Path,
            default=DATA,
            metavar="DIR",
            help="the data folder of script/serve; ignored if GATEWAY_DATABASE_URL is set (default: out/gateway)",
        )
    arguments = parser.parse_args(words)
    if "GATEWAY_DATABASE_URL" not in os.environ:
        read_environment(arguments.data)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # the error at the end says the same once
    try:
        sys.exit(asyncio.run(_run(arguments.command, getattr(arguments, "name", ""), settings())))
    except (SettingsError, DatabaseError, TokenError, *UNAVAILABLE) as error:
        sys.exit(f"{program}: {error}")


async def _run(command: str, name: str, current: Settings) -> int:
    """Run a command and return its exit status."""
    async with open_record(current.database_url, current.files_url) as record:
        if command == "create":
            _, secret = await record.tokens.create(name)
            sys.stdout.write(f"{secret}\n")
        elif command == "revoke":
            await _revoke(record, name)
        elif command == "list":
            await _list(record)
        else:
            return 0 if await record.tokens.find(sys.stdin.readline().strip()) else 1
    return 0


async def _revoke(record: Record, name: str) -> None:
    if not await record.tokens.revoke(name):
        raise TokenError(f"no valid token is named {name!r}")
    sys.stdout.write(f"{name} is revoked\n")


async def _list(record: Record) -> None:
    for token in await record.tokens.all():
        revoked = f"  revoked {timestamp(token.revoked_at)}" if token.revoked_at else ""
        sys.stdout.write(f"{token.name}  created {timestamp(token.created_at)}{revoked}\n")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid name: use 1 to 63 letters, digits, dots, dashes, underscores or @"
        )
    return text


if __name__ == "__main__":
    main()
