"""What script/serve runs: one model's Cog server, or the whole system."""

import argparse
import itertools
import sys
import time
from pathlib import Path

from local import serve, system
from local.inputs import MODELS
from local.version import version

TEND_S = 0.2


def main() -> None:
    """Serve one model when the command line names one, or begins with a word that is none; else everything."""
    words = sys.argv[1:]
    begins_with_word = bool(words) and not words[0].startswith("-")
    if begins_with_word or any(_is_model(*pair) for pair in itertools.pairwise(words)):
        serve.main()
    else:
        serve_all()


def serve_all() -> None:
    """Parse the command line and run the system until a signal comes."""
    options = _options()
    serve.exit_on_signals()
    _say(f"starting {', '.join(options.models)} on {options.data}; the logs are in {options.data / 'logs'}")
    try:
        with system.running(options, _say) as running:
            _say(f"token {running.token} (kept in {options.data / 'token'})")
            _say(f"open {running.page}")
            _say(f"ready on {running.url}")
            while True:
                running.supervisor.tend()
                time.sleep(TEND_S)
    except system.NotRunningError as error:
        sys.exit(f"script/serve: {error}")


def _options() -> system.Options:
    defaults = system.Options()
    parser = argparse.ArgumentParser(
        prog="script/serve",
        description="Serve Replicate's HTTP API with its models, queue and database on this machine. "
        "`script/serve MODEL` serves one model with Cog's own server alone.",
    )
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument(
        "--port", type=serve.port_number, default=defaults.port, help="where to listen (default: %(default)s)"
    )
    parser.add_argument(
        "--host", default=defaults.host, help="0.0.0.0 lets other machines in, with a token (default: %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", default=defaults.data, help="state and files (default: out/gateway)"
    )
    parser.add_argument(
        "--models", type=_models, default=defaults.models, metavar="NAMES", help="some of riffusion,deforum"
    )
    parser.add_argument("--database-url", metavar="URL", help="a PostgreSQL of your own (default: one below DIR)")
    return system.Options(**vars(parser.parse_args()))


def _models(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in system.NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no model; there are {', '.join(system.NAMES)}")
    return names


def _is_model(before: str, word: str) -> bool:
    """Tell whether a word of the command line is a model's name and no option's value."""
    return word in MODELS and before not in ("--models", "--data", "--database-url")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
