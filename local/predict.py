"""Run one prediction in this process, with the same `-i NAME=VALUE` inputs as `cog run`."""

import argparse
import gc
import importlib
import itertools
import os
import secrets
import shutil
import signal
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from gateway import version
from lib.errors import UserError
from lib.inputs import MAX_SEED, RANDOM_SEED, check_integer
from lib.outputs import whole
from local.inputs import MODELS, Value, inputs_of, module_name, parsed
from local.processes import scratch

COLUMNS, INDENT = 110, " " * 6
# Of the files that a model makes; an input may choose another one for the first.
ENDINGS = {
    "riffusion": (".wav", ".png"),
    "walk": (".wav", ".png", ".json"),
    "deforum": (".mp4",),
    "music-video": (".mp4",),
}


def main() -> None:
    """Parse the command line, run the model, and save its files in the output folder."""
    arguments = _command_line().parse_args()
    model, output = arguments.model, arguments.output or Path("out") / arguments.model
    try:
        inputs = parsed(arguments.input, inputs_of(model))
        check_ending(model, output, inputs)
        seed = verified_seed(model, inputs, chosen_seed(model, inputs, arguments.seed))
        fix_seed(model, inputs, seed)
        make(output.parent if is_file(output) else output)
        with scratch("predict") as own_folder:
            tempfile.tempdir = str(own_folder)  # also for the folder that PyTorch leaves behind
            for path in save(run(model, inputs), output, seed):
                print(f"Wrote {path}")
    except UserError as error:
        sys.exit(f"script/predict: {error}")


def _command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/predict",
        description="Run one prediction without Docker.",
        epilog="script/predict MODEL --help lists a model's inputs.",
    )
    parser.add_argument("--version", action="version", version=version())
    models = parser.add_subparsers(dest="model", metavar="MODEL", required=True, help=" or ".join(MODELS))
    for model in MODELS:
        one = models.add_parser(
            model, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"inputs:\n{listed(model)}"
        )
        one.add_argument("-i", "--input", action="append", default=[], metavar="NAME=VALUE", help="an input; see below")
        one.add_argument(
            "-o",
            "--output",
            type=Path,
            metavar="DIR",
            help=f"a folder, or a file such as out{ENDINGS[model][0]} (default: out/{model})",
        )
        one.add_argument(
            "--seed", type=int, metavar="N", help="the same seed gives the same files (default: a random one)"
        )
    return parser


def listed(model: str) -> str:
    """Return the inputs of a model, each with its accepted values, default and description."""
    lines = []
    for one in inputs_of(model).values():
        default = one.default_text and f"; default: {one.default_text}"
        lines.append(f"  {one.name}")
        for text in (one.allowed + default, one.description):
            lines += textwrap.wrap(text, COLUMNS, initial_indent=INDENT, subsequent_indent=INDENT)
    return "\n".join(lines)


def chosen_seed(model: str, inputs: dict[str, Value], option: int | None) -> Value:
    """Return the requested seed, or a random one; a seed that is an input is verified later, with the other inputs.

    Raises:
        UserError: two seeds are given, or one is not a valid seed.
    """
    if option is not None and inputs.get("seed") is not None:
        raise UserError("both --seed and -i seed are given; use one of them")
    if option is not None:
        return check_integer("--seed", option, 0, MAX_SEED)
    if inputs.get("seed") not in (None, RANDOM_SEED):
        return inputs["seed"]
    fixed = "" if "seed" in inputs else os.environ.get(_variable(model), "")
    if fixed:
        return check_integer(_variable(model), int(fixed) if fixed.isdecimal() else fixed, 0, MAX_SEED)
    return secrets.randbelow(MAX_SEED + 1)


def verified_seed(model: str, inputs: dict[str, Value], seed: Value) -> int:
    """Verify the inputs here, because the predictor verifies them only after loading its weights; return the seed.

    Raises:
        UserError: some inputs are invalid.
    """
    module = importlib.import_module(f"lib.{module_name(model)}_request")
    return int(module.Inputs(**{**inputs, "seed": seed}).request().inputs.seed)


def fix_seed(model: str, inputs: dict[str, Value], seed: int) -> None:
    """Fix the seed of this run: as an input, or in the environment if the model has no such input."""
    if "seed" in inputs:
        inputs["seed"] = seed
    else:
        os.environ[_variable(model)] = str(seed)


def _variable(model: str) -> str:
    return f"{model.upper()}_SEED"


def is_file(output: Path) -> bool:
    """Return whether -o names a file: it has an ending, and no folder has its name."""
    return bool(output.suffix) and not output.is_dir()


def check_ending(model: str, output: Path, inputs: dict[str, Value]) -> None:
    """Check the ending of -o, before there is a result that doesn't fit.

    Raises:
        UserError: The model makes no such file.
    """
    first, *others = ENDINGS[model]
    endings = [f".{inputs['output_format']}" if "output_format" in inputs else first, *others]
    if is_file(output) and output.suffix not in endings:
        hint = "; -i output_format chooses another" if "output_format" in inputs else ""
        raise UserError(f"-o is {output}, but {model} makes {' and '.join(endings)} files{hint}")


def make(folder: Path) -> None:
    """Create the output folder, before there is a result that could not be saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Can't create the output folder {folder}: {error.strerror}") from error


def run(model: str, inputs: dict[str, Value]) -> list[Path]:
    """Return the files that the model makes, in a temporary folder.

    Raises:
        UserError: the weights can't be loaded, or a file can't be written.
    """
    print(f"Loading PyTorch and {model} ...", flush=True)  # takes seconds
    # This imports some 3500 modules, which stay. Looking for garbage in them repeatedly would take 1.5 s.
    gc.disable()
    predictor = importlib.import_module(f"predict_{module_name(model)}").Predictor()
    gc.freeze()
    gc.enable()
    predictor.setup()
    output = predictor.run(**inputs)
    if isinstance(output, Path):
        return [output]
    return [getattr(output, name) for name in type(output).__annotations__]


def save(files: Sequence[Path], output: Path, seed: int) -> list[Path]:
    """Copy files to a folder with the seed in their names, and return their paths; no existing file is overwritten.

    For seed 7 they are audio-7.wav and spectrogram-7.png; if one of these exists, audio-7-2.wav and so on. If `output`
    is a file such as clip.wav, they are clip.wav and clip.png, and replace what was there.

    Raises:
        UserError: there is no room for all of them. Then none is left.
    """
    targets = [output.with_suffix(file.suffix) for file in files] if is_file(output) else _numbered(files, output, seed)
    try:
        for file, target in zip(files, targets, strict=True):
            with whole(target) as unfinished:
                shutil.copyfile(file, unfinished)
    except OSError as error:
        for target in targets:
            target.unlink(missing_ok=True)
        raise UserError(
            f"Can't write {target}: {error.strerror}. Free some space, or choose another folder with -o."
        ) from error
    return targets


def _numbered(files: Sequence[Path], folder: Path, seed: int) -> list[Path]:
    """Return names in a folder that are not taken."""
    for ending in itertools.chain([f"-{seed}"], (f"-{seed}-{n}" for n in itertools.count(2))):
        targets = [folder / f"{file.stem}{ending}{file.suffix}" for file in files]
        if not any(target.exists() for target in targets):
            return targets
    raise AssertionError("the numbers have no end")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that, as after Ctrl-C, no temporary files stay
    try:
        main()
    except KeyboardInterrupt:
        if sys.stdout.isatty():
            print()  # end the line of progress
        sys.exit(130)
