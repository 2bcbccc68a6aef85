"""The tags that musicnn gives a sound: a network that has heard real music only.

Its checkpoint is read without TensorFlow, which the package would need; its convolutions run in PyTorch.
Source: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging",
https://arxiv.org/abs/1909.06654, trained on MagnaTagATune.
"""

import importlib.util
import runpy
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchaudio.functional import melscale_fbanks, resample

MODEL = "MTT_musicnn"
TAGGER_RATE_HZ, FFT_LENGTH, HOP_LENGTH, MEL_COUNT = 16_000, 512, 256, 96
WINDOW = 187  # columns, 3 s
TEMPORAL = {2: 128, 3: 64, 4: 32}  # the convolutions along time alone, and the columns of their kernels
Weights = Mapping[str, Tensor]


def package() -> Path:
    """Return the folder of the installed package, which can't be imported without TensorFlow."""
    found = importlib.util.find_spec("musicnn")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The tagger is missing: pip install --no-deps -r bench/ear.requirements.txt")
    return Path(found.submodule_search_locations[0])


@cache
def labels() -> list[str]:
    """Return the tagger's fifty tags."""
    return list(runpy.run_path(str(package() / "configuration.py"))["MTT_LABELS"])


def varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a protocol buffer's variable-length integer; return it and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Read the keys and values of an uncompressed block of a sorted string table."""
    body = data[offset : offset + size]
    end = size - 4 - 4 * struct.unpack("<I", body[-4:])[0]
    place, key = 0, b""
    while place < end:
        shared, place = varint(body, place)
        added, place = varint(body, place)
        length, place = varint(body, place)
        key = key[:shared] + body[place : place + added]
        place += added
        yield key, body[place : place + length]
        place += length


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Read the numbers and values, integers or bytes, of a protocol buffer's fields."""
    place = 0
    while place < len(message):
        tag, place = varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = varint(message, place)
            yield tag >> 3, value
            continue
        length, place = varint(message, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        yield tag >> 3, message[place : place + length]
        place += length


@cache
def weights() -> Weights:
    """Read the tagger's checkpoint: a sorted string table that says where in the data file each tensor lies."""
    folder = package() / MODEL
    index, data = (folder / ".index").read_bytes(), (folder / ".data-00000-of-00001").read_bytes()
    _, place = varint(index[-48:], 0)
    _, place = varint(index[-48:], place)
    offset, place = varint(index[-48:], place)
    size, _ = varint(index[-48:], place)
    found = {}
    for _, handle in block(index, offset, size):
        at, place = varint(handle, 0)
        for name, entry in block(index, at, varint(handle, place)[0]):
            if name and b"Adam" not in name:
                found[name.decode()] = tensor(entry, data)
    return found


def tensor(entry: bytes, data: bytes) -> Tensor:
    """Read a tensor from its entry: 2 its shape, 4 its offset, 5 its size in bytes."""
    known = dict(fields(entry))
    shape = [
        next((size for number, size in fields(dimension) if number == 1), 0)
        for number, dimension in fields(known.get(2, b""))
        if number == 2
    ]
    offset = known.get(4, 0)
    values = np.frombuffer(data[offset : offset + known[5]], "<f4").reshape(shape)
    return torch.from_numpy(values.copy())


def normed(x: Tensor, name: int, axis: int = 1) -> Tensor:
    """Apply a batch normalisation along an axis."""
    stem = "batch_normalization" + (f"_{name}" if name else "")
    shape = [-1 if i == axis else 1 for i in range(x.ndim)]
    mean, variance, gamma, beta = (
        weights()[f"{stem}/{part}"].reshape(shape) for part in ("moving_mean", "moving_variance", "gamma", "beta")
    )
    return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta


def convolved(x: Tensor, name: int, norm: int) -> Tensor:
    """Apply a convolution, a ReLU and a batch normalisation; the kernel is (time, frequency, in, out)."""
    stem = "conv2d" + (f"_{name}" if name else "")
    kernel = weights()[f"{stem}/kernel"].permute(3, 2, 0, 1)
    return normed(torch.relu(F.conv2d(x, kernel, weights()[f"{stem}/bias"])), norm)


def tags(waveform: NDArray[np.floating[Any]], rate_hz: int) -> list[str]:
    """Return the tags of a sound (samples,), the likeliest first."""
    order = likelihoods(waveform, rate_hz).argsort(descending=True)
    return [labels()[i] for i in order.tolist()]


@torch.inference_mode()
def likelihoods(waveform: NDArray[np.floating[Any]], rate_hz: int) -> Tensor:
    """Return the likelihood of each of `labels`, the mean of windows of 3 s that overlap by half."""
    return likelihood(hidden(windows_of(waveform, rate_hz))).mean(dim=0)


@torch.inference_mode()
def embedding(waveform: NDArray[np.floating[Any]], rate_hz: int) -> Tensor:
    """Return the tagger's last hidden layer (200,) for a sound, the mean of windows of 3 s that overlap by half."""
    return hidden(windows_of(waveform, rate_hz)).mean(dim=0)


def windows_of(waveform: NDArray[np.floating[Any]], rate_hz: int) -> Tensor:
    """Return the mels (window, 1, time, frequency) of a sound (samples,)."""
    sound = resample(torch.from_numpy(np.ascontiguousarray(waveform)).float(), rate_hz, TAGGER_RATE_HZ)
    spectrum = torch.stft(
        sound, FFT_LENGTH, HOP_LENGTH, window=torch.hann_window(FFT_LENGTH), pad_mode="constant", return_complex=True
    )
    filters = melscale_fbanks(
        FFT_LENGTH // 2 + 1, 0, TAGGER_RATE_HZ / 2, MEL_COUNT, TAGGER_RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    mel = torch.log10(10000 * spectrum.abs().square().T @ filters + 1)
    mel = F.pad(mel, (0, 0, 0, max(0, WINDOW - len(mel))))
    return mel.unfold(0, WINDOW, WINDOW // 2).transpose(1, 2)[:, None]


def hidden(windows: Tensor) -> Tensor:
    """Run the network to its last hidden layer: timbral and temporal filters, convolutions over time, pooling."""
    windows = normed(windows, 0)
    timbral = F.pad(windows, (0, 0, 3, 3))
    front = [convolved(timbral, number, number + 1).amax(dim=3) for number in (0, 1)]
    for number, length in TEMPORAL.items():
        padded = F.pad(windows, (0, 0, (length - 1) // 2, length - 1 - (length - 1) // 2))
        front.append(convolved(padded, number, number + 1).amax(dim=3))
    first = torch.cat(front, dim=1)  # (window, 561, time)
    layers, before = [first], first
    for number in (5, 6, 7):
        after = middle(before, number)
        before = after if number == 5 else after + before
        layers.append(before)
    everything = torch.cat(layers, dim=1)
    pooled = torch.stack([everything.amax(dim=2), everything.mean(dim=2)], dim=2).flatten(1)
    return torch.relu(normed(pooled, 9) @ weights()["dense/kernel"] + weights()["dense/bias"])


def likelihood(layer: Tensor) -> Tensor:
    """Return the tags' likelihoods (window, 50) from the last hidden layer."""
    return torch.sigmoid(normed(layer, 10) @ weights()["dense_1/kernel"] + weights()["dense_1/bias"])


def middle(x: Tensor, number: int) -> Tensor:
    """Convolve all channels (window, channel, time) over seven columns."""
    image = F.pad(x.transpose(1, 2)[:, None], (0, 0, 3, 3))  # (window, 1, time, channel)
    return convolved(image, number, number + 1)[..., 0]
