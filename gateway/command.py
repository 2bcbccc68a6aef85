"""The command `cog-gateway`: a Replicate of one's own on one machine, and everything to run it."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway import models, tokens, version
from gateway.catalog_files import AddedModels, CatalogError, CatalogFiles
from gateway.serve import system
from gateway.serve.processes import StartError, exit_on_signals, port_number
from gateway.settings import DATA
from gateway.work import __main__ as work
from gateway.work.coglet import NotReadyError

TEND_S = 0.2
ADD_EVERY_S = 2.0


def main() -> None:
    """Run a command."""
    words = sys.argv[1:]
    commands: dict[str, Callable[[Sequence[str], str], None]] = {
        "serve": serve,
        "model": models.main,
        "token": tokens.main,
        "worker": work.main,
    }
    if words and words[0] in commands:
        commands[words[0]](words[1:], f"cog-gateway {words[0]}")
        return
    parser = argparse.ArgumentParser(prog="cog-gateway", description="Replicate's HTTP API in front of Cog containers.")
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("command", choices=commands, help="each has its own --help")
    parser.parse_args(words)


def serve(words: Sequence[str], program: str) -> None:
    """Run the gateway, its database and a worker for each added model, until a signal arrives."""
    options, additions = _parse(words, program)
    exit_on_signals()
    say(f"starting with data in {options.data} and logs in {options.data / 'logs'}")
    try:
        with system.supervised(options.data, say) as supervisor:
            running = system.start(options, supervisor, say)
            running.introduce(options.data, "cog-gateway token", say)
            _run(running, additions, CatalogFiles(None, AddedModels(options.data / "models")))
    except StartError as error:
        sys.exit(f"{program}: {error}")


def _run(running: system.System, additions: list[models.Addition], files: CatalogFiles) -> None:
    """Tend the system, and add the models of the command line as soon as their containers are ready."""
    said: dict[str, str] = {}
    add_at_s = 0.0
    while True:
        if additions and time.monotonic() >= add_at_s:
            for addition in list(additions):
                _try_to_add(addition, additions, files, said)
            add_at_s = time.monotonic() + ADD_EVERY_S
        running.tend()
        time.sleep(TEND_S)


def _try_to_add(
    addition: models.Addition, additions: list[models.Addition], files: CatalogFiles, said: dict[str, str]
) -> None:
    """Add a model and take it off the list. If its container isn't ready, say so, once."""
    try:
        added = asyncio.run(models.add(files, addition))
    except NotReadyError as error:
        if said.get(addition.name) != str(error):
            said[addition.name] = str(error)
            say(f"waiting for {addition.name}: {error}")
        return
    except CatalogError as error:
        raise StartError(str(error)) from error
    additions.remove(addition)
    say(f"offering {addition.name}, version {added.id}")


def _parse(words: Sequence[str], program: str) -> tuple[system.Options, list[models.Addition]]:
    defaults = system.Options()
    parser = argparse.ArgumentParser(
        prog=program,
        description="Serve Replicate's HTTP API for Cog containers, with a queue and a database, on this machine. "
        "Models that were added earlier are offered too.",
    )
    parser.add_argument(
        "--model",
        dest="models",
        action="append",
        type=_model,
        default=[],
        metavar="OWNER/NAME=URL",
        help="offer the model of the Cog container at URL; repeat it for more",
    )
    parser.add_argument(
        "--slots",
        action="append",
        type=_slots,
        default=[],
        metavar="OWNER/NAME=N",
        help="how many predictions a model's container runs at once (default: 1)",
    )
    parser.add_argument(
        "--port", type=port_number, default=defaults.port, help="default: %(default)s; 0 takes a free one"
    )
    parser.add_argument(
        "--host",
        default=defaults.host,
        help="the address to listen on; 0.0.0.0 admits other machines, with a token (default: %(default)s)",
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, metavar="DIR", help="database, files and logs (default: %(default)s)"
    )
    parser.add_argument("--database-url", metavar="URL", help="your own PostgreSQL server (default: run one in DIR)")
    parsed = parser.parse_args(words)
    slots = dict(parsed.slots)
    if unknown := slots.keys() - {name for name, _ in parsed.models}:
        parser.error(f"--slots {min(unknown)}: there is no --model of this name")
    # Without a catalog of the operator's, only the models that were added are on offer.
    settings = {"GATEWAY_CATALOG": os.environ.get("GATEWAY_CATALOG", "")}
    options = system.Options(parsed.host, parsed.port, parsed.data.resolve(), parsed.database_url, settings)
    return options, [models.Addition(name, url, slots.get(name)) for name, url in parsed.models]


def _model(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not OWNER/NAME=URL")
    return models.model_name(name), models.address(url)


def _slots(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not OWNER/NAME=N")
    return models.model_name(name), models.slot_number(number)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
