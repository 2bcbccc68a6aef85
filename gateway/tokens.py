"""Make, list, revoke and check tokens: python -m gateway.tokens, which script/token calls."""

import argparse
import asyncio
import logging
import os
import re
import sys
from pathlib import Path

from gateway import record
from gateway.prediction import Links, timestamp
from gateway.record import DatabaseError, Record, TokenError
from gateway.settings import Settings, SettingsError, settings

ROOT = Path(__file__).resolve().parent.parent
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


def main() -> None:
    """Run the command; its status is 1 where there is nothing to revoke, or the token is unknown."""
    parser = argparse.ArgumentParser(prog="script/token", description="Who may use the gateway.")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a token and print it; it is shown only now")
    revoke = commands.add_parser("revoke", help="make a token useless from now on")
    for command in (create, revoke):
        command.add_argument("name", type=_name, help="whose it is; letters, digits and ._@-")
    commands.add_parser("list", help="print the names, with the times of creation and revocation")
    commands.add_parser("check", help="read a token from standard input and say by the exit status whether it is good")
    for command in commands.choices.values():
        command.add_argument(
            "--data",
            type=Path,
            default=ROOT / "out" / "gateway",
            metavar="DIR",
            help="what script/serve was given; used unless GATEWAY_DATABASE_URL is set (default: out/gateway)",
        )
    arguments = parser.parse_args()
    _read_environment(arguments.data / "environment")
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # one sentence at the end says what it says often
    try:
        sys.exit(asyncio.run(_run(arguments.command, getattr(arguments, "name", ""), settings())))
    except (SettingsError, DatabaseError, TokenError, *record.UNAVAILABLE) as error:
        sys.exit(f"script/token: {error}")


def _read_environment(path: Path) -> None:
    """Take the settings of the gateway that script/serve runs, where there are no others."""
    if "GATEWAY_DATABASE_URL" not in os.environ and path.is_file():
        pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
        os.environ.update({name: value for name, _, value in pairs if name.startswith("GATEWAY_")})


async def _run(command: str, name: str, current: Settings) -> int:
    """Run a command and return its exit status."""
    async with record.opened(
        current.database_url,
        current.files_url,
        lambda secrets, clock: Links(secrets.files, current.file_url_s, clock.now).body,
    ) as opened:
        if command == "create":
            _, secret = await opened.tokens.create(name)
            sys.stdout.write(f"{secret}\n")
        elif command == "revoke":
            return await _revoke(opened, name)
        elif command == "list":
            await _list(opened)
        else:
            return 0 if await opened.tokens.find(sys.stdin.readline().strip()) else 1
    return 0


async def _revoke(opened: Record, name: str) -> int:
    if await opened.tokens.revoke(name):
        sys.stdout.write(f"{name} is revoked\n")
        return 0
    sys.stderr.write(f"script/token: there is no token named {name!r} that is not revoked\n")
    return 1


async def _list(opened: Record) -> None:
    for token in await opened.tokens.all():
        revoked = f"  revoked {timestamp(token.revoked_at)}" if token.revoked_at else ""
        sys.stdout.write(f"{token.name}  created {timestamp(token.created_at)}{revoked}\n")


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name, which has 1 to 63 letters, digits, dots, dashes, underscores or @"
        )
    return text


if __name__ == "__main__":
    main()
