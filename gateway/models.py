"""Add, list, remove and check models: python -m gateway.models, called by script/model."""

import argparse
import asyncio
import hashlib
import json
import mimetypes
import os
import re
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.catalog import Catalog, Schema, Version
from gateway.catalog_files import CatalogError, CatalogFiles, ModelEntry, VersionEntry
from gateway.clock import own_time
from gateway.prediction import Json, JsonObject
from gateway.schemas import data_url
from gateway.serve.workers import arguments_of
from gateway.settings import DATA, SettingsError, read_environment, settings
from gateway.work.check import Row, checking
from gateway.work.coglet import Coglet, NotReadyError

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?/[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
SHORT_ID = 12  # digits of a version id that tell versions apart


@dataclass(frozen=True)
class Addition:
    """A request to add a container to the catalog."""

    name: str  # owner/name
    url: str
    slots: int | None = None  # None keeps the earlier ones, or means 1
    description: str | None = None  # None keeps the earlier one
    callback_host: str | None = None


def main(words: Sequence[str] | None = None, program: str = "script/model") -> None:
    """Run the command. It exits with 1 if there is nothing to remove, or a container fails its check."""
    options = _parser(program).parse_args(words)
    read_environment(options.data)
    os.environ.setdefault("GATEWAY_MODELS_FOLDER", str(options.data / "models"))  # before the system's first start
    try:
        sys.exit(asyncio.run(_run(options)))
    except (SettingsError, CatalogError, NotReadyError, ValueError) as error:
        sys.exit(f"{program}: {error}")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Manage the models that the gateway offers.")
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("add", help="offer the model of a Cog container, or update its entry")
    listing = commands.add_parser("list", help="print the models on offer")
    removing = commands.add_parser("remove", help="stop offering a model that was added")
    checking = commands.add_parser("check", help="run predictions on a Cog container and print what it can do")
    for command in (adding, listing, removing, checking):
        command.add_argument(
            "--data", type=Path, default=DATA, metavar="DIR", help="the system's data folder (default: %(default)s)"
        )
    for command in (adding, removing):
        command.add_argument("name", type=model_name, metavar="OWNER/NAME", help="the model's name for clients")
    for command in (adding, checking):
        command.add_argument("--url", required=True, type=address, help="the Cog server, such as http://127.0.0.1:5001")
        command.add_argument(
            "--callback-host",
            metavar="ADDRESS",
            help="this machine as the container sees it, for its webhooks, such as 172.17.0.1 for Docker's default "
            "network (default: the address from which this machine reaches the container)",
        )
    adding.add_argument("--slots", type=slot_number, help="how many predictions it runs at once (default: 1)")
    adding.add_argument("--description", help="a line about the model")
    checking.add_argument(
        "-i", dest="inputs", action="append", default=[], metavar="NAME=VALUE", help="an input; @PATH sends a file"
    )
    checking.add_argument(
        "--timeout-s", type=float, default=60.0, help="how long a prediction may take (default: %(default)g)"
    )
    return parser


async def _run(options: argparse.Namespace) -> int:
    """Run a command and return its exit status."""
    files = CatalogFiles.of(settings())
    if options.command == "add":
        return await _add(files, options)
    if options.command == "check":
        return await _check(options)
    if options.command == "remove":
        return _remove(files, options.name)
    return _list(files.load())


async def _add(files: CatalogFiles, options: argparse.Namespace) -> int:
    addition = Addition(options.name, options.url, options.slots, options.description, options.callback_host)
    version = await add(files, addition)
    sys.stdout.write(f"added {version.model}:{version.id}\n")
    sys.stdout.write(
        "A system that runs on this data folder starts its worker. Elsewhere, start one yourself:\n"
        f"GATEWAY_CALLBACK_HOST={version.callback_host} python -m gateway.work {' '.join(arguments_of(version))}\n"
    )
    return 0


async def add(files: CatalogFiles, addition: Addition) -> Version:
    """Add the model of a container that runs, or update its entry, and return its newest version.

    The version that the same address served earlier is replaced: its container is gone.

    Raises:
        NotReadyError: The Cog server doesn't answer or isn't ready.
        CatalogError: The container's schema is invalid, or the name is taken by the catalog's file.
    """
    async with httpx.AsyncClient(trust_env=False) as client:
        description = await Coglet(client, addition.url).describe()
    version_id = version_id_of(addition.name, description.document)
    owner, _, name = addition.name.partition("/")
    earlier = files.added.get(addition.name) or ModelEntry(owner=owner, name=name)
    replaced = [version for version in earlier.versions if addition.url == version.url or version_id == version.id]
    others = [version for version in earlier.versions if version not in replaced]
    queue_taken = any(version.queue is None for version in others)
    entry = VersionEntry(
        id=version_id,
        created_at=next((version.created_at for version in replaced if version.id == version_id), own_time()),
        cog_version=description.cog_version,
        schema=description.document,
        queue=f"{addition.name}:{version_id[:SHORT_ID]}" if queue_taken else None,
        slots=addition.slots or next((version.slots for version in replaced), 1),
        url=addition.url,
        callback_host=addition.callback_host or own_address(addition.url),
    )
    about = earlier.description if addition.description is None else addition.description
    model = earlier.model_copy(update={"description": about, "versions": [entry, *others]})
    catalog = files.load(adding=model)
    files.added.put(model)
    version = catalog.models[addition.name].version(version_id)
    assert version is not None  # noqa: S101 - it has just been added
    return version


def version_id_of(name: str, document: Schema) -> str:
    """Return the id of a version: the same for the same model with the same schemas."""
    canonical = json.dumps([name, document], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def own_address(url: str) -> str:
    """Return the address from which this machine reaches a URL's host, such as 127.0.0.1 for itself.

    Raises:
        NotReadyError: The host is unknown or can't be reached.
    """
    target = httpx.URL(url)
    try:
        family, kind, _, _, place = socket.getaddrinfo(target.host, target.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)  # UDP: sends nothing, and finds the route
            return str(probe.getsockname()[0])
    except OSError as error:
        raise NotReadyError(f"the host of {url} can't be reached: {error.strerror}") from error


def _list(catalog: Catalog) -> int:
    rows = [("MODEL", "VERSION", "SLOTS", "COG SERVER"), *_rows(catalog)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, row[3]]).rstrip() + "\n")
    return 0


def _rows(catalog: Catalog) -> list[tuple[str, str, str, str]]:
    return [
        (version.model, version.id[:SHORT_ID], str(version.slots), version.url or "in the catalog's file")
        for version in catalog.versions()
    ]


def _remove(files: CatalogFiles, name: str) -> int:
    if not files.added.remove(name):
        raise CatalogError(f"no added model is named {name}")
    sys.stdout.write(f"{name} is removed\n")
    return 0


async def _check(options: argparse.Namespace) -> int:
    failed = False
    host = options.callback_host or own_address(options.url)
    async with checking(options.url, host, options.timeout_s) as check:
        async for row in check.rows(_inputs(options.inputs, check.version)):
            failed = failed or row.passed is False
            sys.stdout.write(_line(row))
            sys.stdout.flush()
    return 1 if failed else 0


def _line(row: Row) -> str:
    mark = {True: "ok", False: "FAILED", None: ""}[row.passed]
    return f"{mark:6}  {row.what:22}  {row.result}\n"


def _inputs(assignments: Sequence[str], version: Version) -> JsonObject:
    """Return the inputs of NAME=VALUE assignments."""
    given: JsonObject = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or name not in version.inputs:
            raise ValueError(f"-i {assignment}: expected NAME=VALUE; the inputs are {', '.join(version.inputs)}")
        given[name] = _value(text, version.inputs[name])
    return given


def _value(text: str, about: Schema) -> Json:
    """Return a text as a value of an input's type. Whatever doesn't fit stays text, for the container to refuse."""
    if text.startswith("@"):
        path = Path(text[1:])
        return data_url(path.read_bytes(), mimetypes.guess_type(path)[0] or "application/octet-stream")
    if about.get("type") == "string":
        return text
    try:
        value: Json = json.loads(text)
    except ValueError:
        return text
    return value


def model_name(text: str) -> str:
    """Parse OWNER/NAME for argparse."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not OWNER/NAME of lower-case letters, digits, dots, dashes and underscores"
        )
    return text


def address(text: str) -> str:
    """Parse the address of a Cog server for argparse."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as http://127.0.0.1:5001")
    return text.rstrip("/")


def slot_number(text: str) -> int:
    """Parse a number of slots for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 1000")
    return int(text)


if __name__ == "__main__":
    main()
