"""A model's weights: where they are, and how to download them.

The full weights are in `weights/NAME`, in the layout of the Hugging Face hub. The environment variable WEIGHTS_DIR
replaces the folder `weights`. The environment variable WEIGHTS selects which weights a model uses:

- full: the full ones, downloaded if they are missing (the containers set this);
- small: those of the small model that the repository includes (workshop/ made it);
- unset: the full ones if they have been downloaded, else the small model's.
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
SMALL = ROOT / "lib" / "small"  # the small models, a folder for each name

# The .bin files of 2022 are in float32. UNet and VAE run in float16 on a GPU, so they are stored in it: 1.9 GB instead
# of 3.8 GB. The text encoder runs in float32 and stays as it is, because float16 would save only 0.25 GB.
CONVERTED = {
    "text_encoder/pytorch_model.bin": "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.bin": "vae/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin": "unet/diffusion_pytorch_model.fp16.safetensors",
}

Fetch = Callable[..., object]  # huggingface_hub.snapshot_download, or a test's substitute


@dataclass(frozen=True)
class Source:
    """A repository on the Hugging Face hub, and the files of it that a model uses."""

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
    """Return the folder with the complete weights of the model `name`, and log which they are.

    Raises:
        UserError: WEIGHTS has an unknown value, or the full weights can't be downloaded or read.
    """
    wanted = os.environ.get("WEIGHTS", "")
    if wanted not in ("", "full", "small"):
        raise invalid("WEIGHTS", wanted, "full, small or unset")
    folder = full_folder(name)
    if wanted != "small":
        check_readable(folder)
    if wanted == "small" or (not wanted and not folder.exists()):
        action = "resume the download of" if _unfinished(folder).exists() else "download"
        print(f"Using the small model. To {action} the full weights, run script/weights {name}.")
        return SMALL / name
    if not folder.exists():
        download(name)
    if missing := _missing(folder):
        raise UserError(
            f"The weights in {folder} are incomplete ({', '.join(missing)} missing). "
            f"Delete that folder and run script/weights {name}."
        )
    print(f"Using the full weights of {SOURCES[name].repository} in {folder}")
    return folder


def kind(folder: Path) -> str:
    """Return "full" or "small" for a folder that ensure() returned."""
    return "small" if folder.parent == SMALL else "full"


def full_folder(name: str) -> Path:
    """Return the folder of the full weights of the model `name`, whether it exists or not."""
    return _weights_folder() / name


def download(name: str, fetch: Fetch = snapshot_download) -> Path:
    """Download the full weights of the model `name`, resuming an earlier attempt.

    The files are collected, and converted, in a folder next to the final one, so the final one exists only when it is
    complete.

    Raises:
        UserError: A file can't be downloaded, converted or read.
    """
    source, folder = SOURCES[name], full_folder(name)
    unfinished = _unfinished(folder)
    check_readable(unfinished)
    print(f"Downloading {source.repository}, about {source.size_gb} GB, to {folder}", flush=True)
    try:
        try:
            _fetch(source, source.revision, unfinished, fetch)
        except RevisionNotFoundError:
            print(f"The hub has no revision {source.revision} of {source.repository}; using main")
            _fetch(source, "main", unfinished, fetch)
    except Exception as error:  # errors of network, disk and hub share no base class
        raise _not_downloaded(name, first_line(error)) from error
    # Without a network the hub's client returns what an earlier attempt left, as if it were complete.
    if missing := [file for file in _not_converted(source, unfinished) if not (unfinished / file).exists()]:
        raise _not_downloaded(name, f"{', '.join(missing)} missing")
    convert(unfinished)
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    unfinished.rename(folder)
    return folder


def _fetch(source: Source, revision: str, folder: Path, fetch: Fetch) -> None:
    files = _not_converted(source, folder)
    fetch(source.repository, revision=revision, allow_patterns=files, local_dir=folder)


def _not_converted(source: Source, folder: Path) -> list[str]:
    """Return the files of a source, except those that are already converted in `folder`."""
    return [file for file in source.files if file not in CONVERTED or not (folder / CONVERTED[file]).exists()]


def convert(folder: Path) -> None:
    """Convert the .bin files in a folder to safetensors.

    Each is deleted once its replacement is complete, so an interrupted conversion continues with the next file.

    Raises:
        UserError: A file is damaged, or its replacement can't be written.
    """
    for left in folder.rglob(".*.unfinished.safetensors"):  # of a conversion that was killed
        left.unlink()
    for old, new in ((folder / old, folder / new) for old, new in CONVERTED.items()):
        if old.exists() and not new.exists():
            print(f"Converting {old.relative_to(folder)}", flush=True)
            try:
                _convert_file(old, new)
            except Exception as error:  # torch reports a damaged file in many ways
                raise UserError(
                    f"Can't convert {old} ({first_line(error)}). Check the disk and try again. If that doesn't help, "
                    "delete the file; the next attempt downloads it again."
                ) from error
        old.unlink(missing_ok=True)


def _convert_file(old: Path, new: Path) -> None:
    import torch  # here, because it takes seconds that a download doesn't need
    from safetensors.torch import save_file

    # The old file is mapped, so memory is needed only for the new one.
    state = torch.load(old, map_location="cpu", mmap=True, weights_only=True)
    if ".fp16." in new.name:
        state = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    with whole(new) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt"})


def _not_downloaded(name: str, why: str) -> UserError:
    return UserError(
        f"Can't download the {name} weights ({why}). Check the network and the disk and try again; files that have "
        f"arrived are kept. Or run script/weights {name} on another machine and copy its folder to {full_folder(name)}."
    )


def _weights_folder() -> Path:
    return Path(os.environ.get("WEIGHTS_DIR") or ROOT / "weights").absolute()


def _unfinished(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.unfinished")


def check_readable(folder: Path) -> None:
    """Check that the user may read a folder of weights, if it exists.

    Raises:
        UserError: A file, or a folder on the way to it, is not readable.
    """
    for parent in reversed(folder.parents):
        if parent.exists() and not os.access(parent, os.X_OK, effective_ids=True):
            raise _not_readable(parent, "a+x")
    for path in (folder, *folder.rglob("*")):
        if path.exists() and not os.access(path, os.R_OK, effective_ids=True):
            raise _not_readable(path, "a+rX")


def _not_readable(path: Path, mode: str) -> UserError:
    return UserError(
        f"Can't read the weights: permission denied for {path}. Its owner can grant it with chmod {mode} {path}. "
        "WEIGHTS=small uses the small model instead."
    )


def _missing(folder: Path) -> list[str]:
    """Return the files that are missing from a folder in hub layout; weights may be in either format."""
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
