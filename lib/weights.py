"""Where a model's weights are, and how they get there.

The full weights lie in `weights/NAME`, in the layout of the Hugging Face hub; the folder `weights` can be moved
with the environment's WEIGHTS_DIR. Which weights a run takes is decided by the environment's WEIGHTS:

- full: the full ones, downloaded first if they are missing (the containers say this);
- small: those of the small model that comes with the repository (workshop/ made it);
- unset: the full ones if they are there, else the small model's.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError

from lib.errors import UserError, first_line, invalid
from lib.outputs import whole

ROOT = Path(__file__).resolve().parent.parent
SMALL = ROOT / "lib" / "small"  # the model that comes with the repository, in a folder for each name

# What the .bin files of 2022, all in float32, become. UNet and VAE run in float16 on a GPU, so they are kept in it:
# 1.9 GB instead of 3.8 GB. The text encoder runs in float32 and stays exact: float16 would save but 0.25 GB.
CONVERTED = {
    "text_encoder/pytorch_model.bin": "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.bin": "vae/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin": "unet/diffusion_pytorch_model.fp16.safetensors",
}


Fetch = Callable[..., object]  # huggingface_hub.snapshot_download, or what stands in for it


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
        UserError: WEIGHTS has an unknown value, or the full weights are asked for and can't be had or read.
    """
    wanted = os.environ.get("WEIGHTS", "")
    if wanted not in ("", "full", "small"):
        raise invalid("WEIGHTS", wanted, "full, small or unset")
    folder = full_folder(name)
    if wanted != "small":
        check_readable(folder)
    if wanted == "small" or (not wanted and not folder.exists()):
        unfinished = " resumes the download of" if _unfinished(folder).exists() else " gets"
        print(f"Weights: the small model's; script/weights {name}{unfinished} the full ones")
        return SMALL / name
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
    return "small" if folder.parent == SMALL else "full"


def full_folder(name: str) -> Path:
    """Return where the full weights of the model `name` belong, whether they are there or not."""
    return _weights_folder() / name


def download(name: str, fetch: Fetch = snapshot_download) -> Path:
    """Download what is used of the full weights of the model `name`, resuming where an earlier try stopped.

    The files gather in a folder beside the final one, which therefore is there completely or not at all. Old ones are
    converted there.
    """
    source, folder = SOURCES[name], full_folder(name)
    unfinished = _unfinished(folder)
    check_readable(unfinished)
    print(f"Downloading {source.repository}, about {source.size_gb} GB, to {folder}", flush=True)
    try:
        try:
            _fetch(source, source.revision, unfinished, fetch)
        except RevisionNotFoundError:
            print(f"The hub does not know revision {source.revision} of {source.repository}: taking main")
            _fetch(source, "main", unfinished, fetch)
    except Exception as error:  # network, disk, access and hub errors share no base class
        raise _not_downloaded(name, first_line(error)) from error
    # Without a network the hub's client returns what an earlier try left, as if it were all.
    if missing := [file for file in _not_converted(source, unfinished) if not (unfinished / file).exists()]:
        raise _not_downloaded(name, f"{', '.join(missing)} did not arrive")
    convert(unfinished)
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    unfinished.rename(folder)
    return folder


def _fetch(source: Source, revision: str, folder: Path, fetch: Fetch) -> None:
    files = _not_converted(source, folder)
    fetch(source.repository, revision=revision, allow_patterns=files, local_dir=folder)


def _not_converted(source: Source, folder: Path) -> list[str]:
    """Return the files of a source, without those whose conversion is in `folder` already."""
    return [file for file in source.files if file not in CONVERTED or not (folder / CONVERTED[file]).exists()]


def convert(folder: Path) -> None:
    """Turn the .bin files in a folder into safetensors.

    Each gives way when its successor is complete, so a conversion that was interrupted goes on with the next one.
    """
    for left in folder.rglob(".*.unfinished.safetensors"):  # by a conversion that was killed
        left.unlink()
    for old, new in ((folder / old, folder / new) for old, new in CONVERTED.items()):
        if old.exists() and not new.exists():
            print(f"Converting {old.relative_to(folder)}", flush=True)
            try:
                _convert_file(old, new)
            except Exception as error:  # torch has many ways to say that a file is broken
                raise UserError(
                    f"{old} can't be converted ({first_line(error)}). Check the disk and try again. If that does not "
                    "help, delete that file: it is then downloaded again."
                ) from error
        old.unlink(missing_ok=True)


def _convert_file(old: Path, new: Path) -> None:
    import torch  # only here: it takes seconds that a download can do without
    from safetensors.torch import save_file

    # Mapped, the old file takes no memory of its own: no more is needed than what the new file holds.
    state = torch.load(old, map_location="cpu", mmap=True, weights_only=True)
    if ".fp16." in new.name:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    with whole(new) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt"})


def _not_downloaded(name: str, why: str) -> UserError:
    return UserError(
        f"The {name} weights can't be downloaded ({why}). Check the network and the disk and try again: what has "
        f"arrived is kept. Or run script/weights {name} elsewhere and copy its folder to {full_folder(name)}."
    )


def _weights_folder() -> Path:
    return Path(os.environ.get("WEIGHTS_DIR") or ROOT / "weights").absolute()


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def check_readable(folder: Path) -> None:
    """Raise a UserError if this user may not read a folder of weights, which need not be there."""
    for parent in reversed(folder.parents):
        if parent.exists() and not os.access(parent, os.X_OK, effective_ids=True):
            raise _not_readable(parent, "a+x")
    for path in (folder, *folder.rglob("*")):
        if path.exists() and not os.access(path, os.R_OK, effective_ids=True):
            raise _not_readable(path, "a+rX")


def _not_readable(path: Path, mode: str) -> UserError:
    return UserError(
        f"The weights can't be read: {path} is closed to the user who runs this. Its owner can open it with "
        f"chmod {mode} {path}; WEIGHTS=small does without."
    )


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
