"""Where a model's weights are, and how they get there.

The full weights lie in `weights/NAME`, in the layout of the Hugging Face hub; the folder `weights` can be moved
with the environment's WEIGHTS_DIR. Which weights a run takes is decided by the environment's WEIGHTS:

- full: the full ones, downloaded first if they are missing (the containers say this);
- small: the stand-in of lib/stand_in.py;
- unset: the full ones if they are there, else the stand-in.
"""

import hashlib
import os
import shutil
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError

from lib.errors import UserError, invalid

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Source:
    """A repository on the Hugging Face hub, and those of its files that are used."""

    repository: str
    revision: str
    size_gb: float
    text_encoder: str
    vae: str
    unet: str

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of the files, relative to the repository."""
        return (
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "tokenizer/tokenizer_config.json",
            "text_encoder/config.json",
            f"text_encoder/{self.text_encoder}",
            "vae/config.json",
            f"vae/{self.vae}",
            "unet/config.json",
            f"unet/{self.unet}",
        )


SOURCES = {
    "riffusion": Source(
        repository="riffusion/riffusion-model-v1",
        revision="8f2e752c74e8316c6eb4fdaa6598a46ce1d88af5",
        size_gb=4.1,
        text_encoder="pytorch_model.bin",
        vae="diffusion_pytorch_model.bin",
        unet="diffusion_pytorch_model.bin",
    ),
    "deforum": Source(
        repository="CompVis/stable-diffusion-v1-4",
        revision="133a221b8aa7292a167afc5127cb63fb5005638b",
        size_gb=2.1,
        text_encoder="model.fp16.safetensors",
        vae="diffusion_pytorch_model.fp16.safetensors",
        unet="diffusion_pytorch_model.fp16.safetensors",
    ),
}


def ensure(name: str) -> Path:
    """Return the folder of the weights of the model `name`, complete, and say in one line which they are.

    Raises:
        UserError: WEIGHTS has an unknown value, or the full weights are asked for and can't be had.
    """
    wanted = os.environ.get("WEIGHTS", "")
    if wanted not in ("", "full", "small"):
        raise invalid("WEIGHTS", wanted, "full, small or unset")
    folder = full_folder(name)
    if wanted == "small" or (not wanted and not folder.exists()):
        unfinished = " resumes the download of" if _unfinished(folder).exists() else " gets"
        print(f"Weights: the small stand-in, which only makes noise; script/weights {name}{unfinished} the full ones")
        return _stand_in_folder()
    if not folder.exists():
        download(name)
    if missing := _missing(folder):
        raise UserError(
            f"The weights in {folder} are not complete ({', '.join(missing)} missing). "
            f"Delete that folder and run script/weights {name}."
        )
    print(f"Weights: the full ones of {SOURCES[name].repository}, in {folder}")
    return folder


def kind(folder: Path) -> str:
    """Return "full" or "small", for a folder that ensure() returned."""
    return "small" if folder.name.startswith("small") else "full"


def full_folder(name: str) -> Path:
    """Return where the full weights of the model `name` belong, whether they are there or not."""
    return _weights_folder() / name


def download(name: str) -> Path:
    """Download what is used of the full weights of the model `name`, resuming where an earlier try stopped.

    The files gather in a folder beside the final one, which therefore is there completely or not at all.
    """
    source, folder = SOURCES[name], full_folder(name)
    unfinished = _unfinished(folder)
    print(f"Downloading {source.repository}, about {source.size_gb} GB, to {folder}", flush=True)
    try:
        try:
            _fetch(source, source.revision, unfinished)
        except RevisionNotFoundError:
            print(f"The hub does not know revision {source.revision} of {source.repository}: taking main")
            _fetch(source, "main", unfinished)
    except Exception as error:  # network, disk, access and hub errors share no base class
        raise _not_downloaded(name, str(error).strip().split("\n")[0] or type(error).__name__) from error
    # Without a network the hub's client returns what an earlier try left, as if it were all.
    if missing := [file for file in source.files if not (unfinished / file).exists()]:
        raise _not_downloaded(name, f"{', '.join(missing)} did not arrive")
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    unfinished.rename(folder)
    return folder


def _fetch(source: Source, revision: str, folder: Path) -> None:
    snapshot_download(source.repository, revision=revision, allow_patterns=list(source.files), local_dir=folder)


def _not_downloaded(name: str, why: str) -> UserError:
    return UserError(
        f"The {name} weights can't be downloaded ({why}). Check the network and the disk and try again: what has "
        f"arrived is kept. Or run script/weights {name} elsewhere and copy its folder to {full_folder(name)}."
    )


def _weights_folder() -> Path:
    return Path(os.environ.get("WEIGHTS_DIR") or ROOT / "weights").absolute()


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def _missing(folder: Path) -> list[str]:
    """Return what a folder in hub layout lacks, whichever of the known formats its weights have."""
    needed = {
        "tokenizer": ("vocab.json", "merges.txt"),
        "text_encoder": ("config.json", "*.safetensors|*.bin"),
        "vae": ("config.json", "*.safetensors|*.bin"),
        "unet": ("config.json", "*.safetensors|*.bin"),
    }
    return [
        f"{part}/{patterns}"
        for part, files in needed.items()
        for patterns in files
        if not any(any((folder / part).glob(pattern)) for pattern in patterns.split("|"))
    ]


def _stand_in_folder() -> Path:
    """Return the folder of the stand-in, built at its first use and again when its recipe has changed."""
    from lib import stand_in  # only here: it takes seconds that a download can do without

    recipe = Path(stand_in.__file__).read_bytes()
    folder = _weights_folder() / f"small-{hashlib.sha256(recipe).hexdigest()[:8]}"
    if not folder.exists():
        # Built under another name first: two processes may start at once, and neither must see half of it.
        building = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
        stand_in.build(building)
        try:
            building.rename(folder)
        except OSError:
            shutil.rmtree(building)
            if not folder.exists():
                raise
    return folder


def main() -> None:
    """Download the weights of the models named on the command line."""
    names = sys.argv[1:]
    if not names or any(name not in SOURCES for name in names):
        sys.exit(f"usage: script/weights {'|'.join(SOURCES)}")
    for name in names:
        folder = full_folder(name)
        if folder.exists():
            print(f"{folder} is already there")
            continue
        try:
            print(f"Wrote {download(name)}")
        except UserError as error:
            sys.exit(f"script/weights: {error}")


if __name__ == "__main__":
    main()
