"""A walk: minutes of music from prompts by bar, on riffusion's weights.

prompts by bar -> one long picture of latents, denoised in overlapping windows -> spectrogram -> waveform in pieces.

A clip is two bars, the width that the UNet was trained on. Every clip starts from the same seed image and the same
noise, which keeps beat and key. At every evaluation each window of a clip's width, one at each bar, is predicted with
the prompt of its middle. The predictions are averaged, and one sampler steps the whole picture.
Source: Bar-Tal et al., MultiDiffusion, 2023, https://arxiv.org/abs/2302.08113.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.audio import seed_images
from lib.audio.inverse import Synthesis
from lib.audio.loudness import DRAWN_GAIN, TURNED_UP_DB, amplitude
from lib.audio.pieces import Score, levelled, rms, synthesize
from lib.audio.spectrogram import Analysis, Image, mel_to_image
from lib.device import generator
from lib.diffusion.interpolate import lerp, slerp
from lib.diffusion.models import Models
from lib.diffusion.pipeline import LatentDistribution, decode, encode, guided, to_model_range
from lib.diffusion.prompt_encoder import PromptEncoder, fitted
from lib.diffusion.samplers import Model, Sampler
from lib.progress import Progress, Stages
from lib.riffusion import start_noises
from lib.walk_request import (
    BEAT_S,
    BEATS_PER_BAR,
    BPM,
    CLIP_BARS,
    CLIP_SAMPLES,
    SAMPLE_RATE_HZ,
    Request,
)

Levels = NDArray[np.float32]  # grey levels, not yet rounded

CLIP_COLUMNS = 512  # the last one is the same moment as the next clip's first, so a clip is 511 hops
CONTEXT_BARS = CLIP_BARS  # rendered on either side of a part; what is further away changes nothing that is heard
EDGE_PX = 64  # with which a clip is encoded or decoded on either side, and over which decoded clips blend
WINDOWS_AT_ONCE = {"cpu": 1, "cuda": 8}  # in one evaluation of the UNet
LOUDNESS_DB = -15.0  # root mean square of the seed image's sound; its walks differ by a few dB


@dataclass(frozen=True)
class Span:
    """The bars that are rendered, of which some are context."""

    first: int  # even, as a clip begins here
    last: int  # exclusive, even
    loops: bool

    @classmethod
    def of(cls, request: Request) -> "Span":
        """Return the span of a request: its bars with context, or all bars of a loop.

        The context goes on beyond the last bar, so that a longer walk with the same prompts begins with this one.
        """
        inputs = request.inputs
        if inputs.loop:
            return cls(0, inputs.bars, loops=True)
        first = max(0, inputs.start_bar - CONTEXT_BARS) // CLIP_BARS * CLIP_BARS
        last = -(-(inputs.bars + CONTEXT_BARS) // CLIP_BARS) * CLIP_BARS
        return cls(first, last, loops=False)

    @property
    def clips(self) -> range:
        """The numbers of the clips in the whole walk."""
        return range(self.first // CLIP_BARS, self.last // CLIP_BARS)

    @property
    def windows(self) -> range:
        """The bars at which the windows begin."""
        return range(self.first, self.last if self.loops else self.last - CLIP_BARS + 1)


@dataclass(frozen=True)
class Music:
    """A finished walk."""

    image: Image  # its spectrogram (512, columns), from the column in which its first bar begins
    gain: float  # from the image's amplitudes to the sound
    sound: Iterator[Tensor]  # pieces of its waveform (1, samples) at 44.1 kHz


class Walk:
    """The model, ready for any number of walks."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._prompts = PromptEncoder(models.tokenizer, models.text_encoder)
        self._synthesis = Synthesis(models.device)

    def generate(self, request: Request, stages: Stages) -> Music:
        """Return the music of a request. Its sound is made while it is read."""
        inputs, span = request.inputs, Span.of(request)
        seed = self._seed_image(request)
        picture = self._picture(request, span, seed, stages)
        start, stop = (sample_of(bar - span.first) for bar in (inputs.start_bar, inputs.bars))
        score = Score(picture, start, stop, loops=inputs.loop and inputs.start_bar == 0)
        gain = self._gain(seed)
        pieces = synthesize(self._synthesis, score, generator(inputs.seed))
        columns = score.columns
        return Music(picture[:, columns.start : columns.stop], gain, levelled(pieces, gain, score.loops))

    def _picture(self, request: Request, span: Span, seed: Image, stages: Stages) -> Image:
        """Return the spectrogram of a span (512, 511 for each clip), context included."""
        if request.steps == 0:
            if request.inputs.denoising > 0:
                print("0 diffusion steps (num_inference_steps x denoising < 1): repeating the seed image unchanged")
            return np.tile(seed[:, : CLIP_COLUMNS - 1], len(span.clips))
        with stages.measure("encode"):
            seed_latents = self._encoded(seed)
        with stages.measure("denoise"):
            latents = self._denoised(request, span, seed_latents)
        with stages.measure("decode"):
            return np.concatenate(list(self._decoded(latents, span)), axis=1)

    def _gain(self, seed: Image) -> float:
        """Return the gain from the sound of a picture to the finished sound.

        It depends on the seed image alone. A gain from the walk itself would differ between the parts of a walk.
        """
        loudness = rms(self._synthesis, seed)
        most = DRAWN_GAIN * amplitude(TURNED_UP_DB)
        return min(amplitude(LOUDNESS_DB) / loudness, most) if loudness else most

    def _seed_image(self, request: Request) -> Image:
        """Return the image (512, 512) that every clip starts from."""
        sound = request.seed_sound
        if sound is None:
            return seed_images.load(request.inputs.seed_image_id)
        if len(sound) < CLIP_SAMPLES:
            seconds, needed = len(sound) / SAMPLE_RATE_HZ, CLIP_SAMPLES / SAMPLE_RATE_HZ
            print(f"seed_audio has {seconds:.2f} s, less than the {needed:.2f} s of two bars: repeating it")
        loop = torch.from_numpy(np.resize(sound, CLIP_SAMPLES))[None]
        return mel_to_image(Analysis(self._models.device)(loop, looped=True))

    def _encoded(self, seed: Image) -> LatentDistribution:
        """Return the latents of a seed image between repetitions of itself, as the clips of a walk begin."""
        around = np.concatenate([seed[:, -EDGE_PX:], seed, seed[:, :EDGE_PX]], axis=1)
        encoded = encode(self._models, to_model_range(np.repeat(around[:, :, np.newaxis], 3, axis=2)))
        edge = EDGE_PX // self._models.vae_factor
        return LatentDistribution(encoded.mean[..., edge:-edge], encoded.std[..., edge:-edge])

    def _denoised(self, request: Request, span: Span, seed_latents: LatentDistribution) -> Tensor:
        """Return the latents (1, channels, height, width of all clips)."""
        inputs = request.inputs
        sampler = Sampler("plms", inputs.num_inference_steps, inputs.num_inference_steps - request.steps)
        starts = [
            sampler.add_noise(seed_latents.sample(latent_noise), step_noise)
            for latent_noise, step_noise in self._noises(request, span, seed_latents.mean.shape)
        ]
        with torch.inference_mode():
            return sampler.run(self._windowed(request, span, sampler), torch.cat(starts, dim=-1))

    def _noises(self, request: Request, span: Span, shape: torch.Size) -> Iterator[list[Tensor]]:
        """Yield the two noises of each clip, as riffusion draws them: the seed's, or with drift ever further from it.

        In a loop they return to the first clip's.
        """
        seed, drift = request.inputs.seed, request.inputs.seed_drift
        numbers = [min(clip, span.clips.stop - clip) if span.loops else clip for clip in span.clips]
        walked = [start_noises(seed, shape, self._models.device)]
        for number in range(1, max(numbers) + 1 if drift else 1):
            fresh = start_noises(seed + number, shape, self._models.device)
            walked.append([slerp(drift, a, b) for a, b in zip(walked[-1], fresh, strict=True)])
        return (walked[number if drift else 0] for number in numbers)

    def _windowed(self, request: Request, span: Span, sampler: Sampler) -> Model:
        """Return the model of the whole picture: the weighted average of its windows' predictions."""
        models, scale = self._models, request.inputs.guidance_scale
        prompts = list(dict.fromkeys(prompt for _, prompt in request.prompts.keyframes))
        *encoded, negative = self._prompts.encode([*prompts, request.negative])
        embedding_of = dict(zip(prompts, encoded, strict=True))
        blends = [request.blend(bar + CLIP_BARS / 2) for bar in span.windows]

        width = CLIP_COLUMNS // models.vae_factor
        total = width * len(span.clips)
        starts = torch.arange(len(blends)) * (width // CLIP_BARS)
        columns = ((starts[:, None] + torch.arange(width)) % total).to(models.device)
        # At the ends of a walk there is only one window, whose weight counts however small it is.
        weight = torch.hann_window(width, device=models.device) + 1e-3
        sums = torch.zeros(total, device=models.device).index_add_(0, columns.flatten(), weight.repeat(len(columns)))
        evaluations = request.steps + (request.steps > 1)  # the sampler's first step takes two
        progress = Progress(evaluations * len(blends))
        at_once = WINDOWS_AT_ONCE[models.device.type]

        def model(latents: Tensor, sigma: float) -> Tensor:
            mean = torch.zeros_like(latents)
            for first in range(0, len(blends), at_once):
                batch = blends[first : first + at_once]
                embeddings = torch.cat(
                    [lerp(b.share, embedding_of[b.prompt], embedding_of[b.following]) for b in batch]
                )
                predict = guided(models, sampler.schedule, embeddings, fitted(negative, embeddings), scale)
                places = columns[first : first + at_once]
                predictions = predict(torch.cat([latents[..., place] for place in places]), sigma)
                for place, prediction in zip(places, predictions, strict=True):
                    mean[..., place] += prediction * weight
                    progress.advance()
            return mean / sums

        return model

    def _decoded(self, latents: Tensor, span: Span) -> Iterator[Image]:
        """Yield the image (512, 511) of each clip, decoded with its neighbours' edges and blended with them there.

        The VAE normalizes what it decodes as a whole, so without blending neighbours would differ at their border.
        """
        factor, total = self._models.vae_factor, latents.shape[-1]
        edge, width = EDGE_PX // factor, CLIP_COLUMNS // factor
        share = np.linspace(0, 1, 2 * EDGE_PX, dtype=np.float32)  # of the later clip, around a border

        def levels(number: int) -> Levels:
            columns = torch.arange(number * width - edge, (number + 1) * width + edge)
            columns = columns % total if span.loops else columns.clamp(0, total - 1)
            picture: Levels = decode(self._models, latents[..., columns]).mean(axis=2, dtype=np.float32)
            return picture

        count = len(span.clips)
        last = levels(count - 1) if span.loops else None
        first = current = levels(0)
        for number in range(count):
            following = first if number == count - 1 else levels(number + 1)
            picture = current[:, EDGE_PX:-EDGE_PX].copy()
            if last is not None:
                picture[:, :EDGE_PX] = _blended(last, current, share)[:, EDGE_PX:]
            if number < count - 1 or span.loops:
                picture[:, -EDGE_PX:] = _blended(current, following, share)[:, :EDGE_PX]
            last, current = current, following
            yield picture[:, : CLIP_COLUMNS - 1].round().astype(np.uint8)


def _blended(
    before: NDArray[np.float32], after: NDArray[np.float32], share: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Blend the end of one clip's picture with the beginning of the next, both decoded with edges."""
    end = before[:, -2 * EDGE_PX :]
    return end + (after[:, : 2 * EDGE_PX] - end) * share


def sample_of(bar: int) -> int:
    """Return the sample at which a bar begins, counted from bar 0 or from another even one."""
    return bar * CLIP_SAMPLES // CLIP_BARS


def timeline(request: Request, gain: float) -> dict[str, object]:
    """Return the beats and prompts of a walk, with times in seconds from the start of its sound."""
    inputs = request.inputs
    bars = []
    for bar in range(inputs.start_bar, inputs.bars):
        blend = request.blend(bar)
        first_beat = (bar - inputs.start_bar) * BEATS_PER_BAR
        bars.append(
            {
                "bar": bar,
                "start_s": round(first_beat * BEAT_S, 6),
                "beats_s": [round((first_beat + beat) * BEAT_S, 6) for beat in range(BEATS_PER_BAR)],
                "prompt": blend.prompt.text,
                "following_prompt": blend.following.text,
                "share": round(blend.share, 6),
            }
        )
    return {
        "bpm": round(BPM, 6),
        "beats_per_bar": BEATS_PER_BAR,
        "seed": inputs.seed,
        "gain": gain,
        "loop": inputs.loop,
        "bars": bars,
    }
