"""The command script/serve: one model's Cog server, or the whole system."""

import argparse
import itertools
import sys
import time
from pathlib import Path

from gateway import version
from gateway.serve.processes import StartError, exit_on_signals, port_number
from lib.errors import UserError
from local import serve, system
from local.inputs import MODELS

TEND_S = 0.2


def main() -> None:
    """Serve one model if the command line names one, or begins with an unknown word; otherwise serve everything."""
    words = sys.argv[1:]
    begins_with_word = bool(words) and not words[0].startswith("-")
    if begins_with_word or any(_is_model(*pair) for pair in itertools.pairwise(words)):
        serve.main()
    else:
        serve_all()


def serve_all() -> None:
    """Parse the command line and run the system until a signal arrives."""
    options = _options()
    exit_on_signals()
    _say(f"starting {', '.join(options.models)} with data in {options.data} and logs in {options.data / 'logs'}")
    try:
        with system.running(options, _say) as running:
            running.introduce(options.data, "script/token", _say)
            while True:
                running.tend()
                time.sleep(TEND_S)
    except (UserError, StartError) as error:
        sys.exit(f"script/serve: {error}")


def _options() -> system.Options:
    defaults = system.Options()
    parser = argparse.ArgumentParser(
        prog="script/serve",
        description="Serve Replicate's HTTP API with the models, the queue and the database on this machine. "
        "`script/serve MODEL` serves one model with Cog's own server instead.",
    )
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument(
        "--port", type=port_number, default=defaults.port, help="the port to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--host",
        default=defaults.host,
        help="the address; 0.0.0.0 admits other machines, with a token (default: %(default)s)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", default=defaults.data, help="database and files (default: out/gateway)"
    )
    parser.add_argument(
        "--models", type=_models, default=defaults.models, metavar="NAMES", help=f"default: {','.join(defaults.models)}"
    )
    parser.add_argument("--database-url", metavar="URL", help="your own PostgreSQL server (default: run one in DIR)")
    return system.Options(**vars(parser.parse_args()))


def _models(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in system.NAMES]:
        raise argparse.ArgumentTypeError(f"unknown model {unknown[0]!r}; available are {', '.join(system.NAMES)}")
    return names


def _is_model(before: str, word: str) -> bool:
    """Tell whether a word of the command line is the name of a model, and not the value of the option before it."""
    return word in MODELS and before not in ("--models", "--data", "--database-url")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
