"""Train a domain's tokenizer, text encoder and UNet on the latents of its autoencoder, to lib/small.

The text encoder learns to read first, from nothing, since the captions have a few hundred words; then both learn,
pictures at first from so much noise that only the caption tells what they are.

Sources: Ho et al., Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239; Salimans and Ho,
Progressive distillation, https://arxiv.org/abs/2202.00512 (the velocity); Karras et al., Analyzing and improving the
training dynamics of diffusion models, https://arxiv.org/abs/2312.02696 (timesteps that weigh alike).
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from lib.diffusion.models import VELOCITY
from lib.diffusion.pipeline import GUIDANCE_SCALE
from lib.diffusion.schedule import BETAS
from lib.outputs import whole
from lib.weights import SMALL
from workshop.training import architecture
from workshop.training.autoencoder import to_pixels, trained_vae
from workshop.training.dataset import WORK, dataset
from workshop.training.distractions import distracted
from workshop.training.reading import Reading, learn_to_read
from workshop.training.tokenizer import tokens_of, write_tokenizer
from workshop.training.trainer import Recipe, generator, mixed_precision, train

MODELS = {"music": "riffusion", "pictures": "deforum"}
SEED = 2
STEPS = 6000
LEARNING_RATE, GUIDED_LEARNING_RATE = 1e-3, 5e-4
COARSE_GRIDS = (1, 2, 4)
COARSE_FROM = 0.6  # of all timesteps; from there on it grows
# Of all timesteps: an animation's later frames are painted over from the second on; below the first, only details are
# left to be made, which were dull when these too had learned to change.
PAINTED_OVER = (0.15, 0.4)
# How much of the way to the caption's picture the velocity goes in one that is painted over, beside its own: with all
# of it, a frame would become at once the mean of all pictures the caption could mean.
REPAINTED = 0.3
CAPTIONS_FROM = 0.9  # of all timesteps: from there on little but the caption tells what the picture is
READING_WEIGHT = 0.03  # without it, a text encoder that learns on forgets much of what it has read
BATCH = 12
WITHOUT_CAPTION = 0.1  # the share of examples that guidance learns the unconditional model from
EXAMPLES = 4800  # the first of those rendered: encoding takes a quarter of a second each
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Course:
    """Say what the domains learn differently."""

    # Guided as the models are, a plain prediction exaggerates: colours are garish, notes few and loud. So in a last
    # part the guided prediction learns, such that the models' guidance then does what this one did. (With 3, basses
    # came out as guitars.)
    faithful_guidance: float
    guided_steps: int
    # Of that part's examples at timesteps in PAINTED_OVER, the share in which another picture is seen than the caption
    # says, which is to become the caption's by and by. Without, the model has only seen captions that are true, where
    # the picture shows through the noise, and takes no notice of them: an animation's new prompt changed little.
    painted_over: float = 0.0
    # Of a first part, which has only the timesteps from CAPTIONS_FROM on. A UNet learns to see what is in a noisy
    # picture long before it learns to read, and then draws what it takes the noise for: a square that was asked for
    # became what blob the noise was like. A wrong name of a shape costs it 1 % more error after 1000 steps without this
    # part and 130 % after 2000 steps of it, at timestep 981.
    caption_steps: int = 0
    # The velocity's squared errors weigh by the signal's share of the variance to this power, and by the noise's to
    # what is left of 1. With a half, every timestep has about as large a part in the loss; with more, the earlier ones,
    # where colours and outlines become exact, have a larger one. With 0, an equal weight for all errors of the denoised
    # latents, the last ones drown what is to be learned of outlines and attacks; with 1, an equal weight for those of
    # the noise, nothing is learned of what the picture is.
    signal_power: float = 0.5
    loud_words: bool = False  # as `Reading` has them
    # The standard deviation, at the last timestep, of what is added to the noise smoothly over each of COARSE_GRIDS,
    # the first of which is the channel as a whole. There a trace of the picture's own colours and places is left, which
    # a model learns to read instead of the caption; pure noise, which has none, then comes out in any colours. (Source:
    # Guttenberg, "Diffusion with offset noise", 2023.) Before COARSE_FROM there is none: shapes would dissolve. A
    # spectrogram is mostly white, whatever it shows.
    noise_offset: float = 0.0


COURSES = {
    "music": Course(faithful_guidance=5.0, guided_steps=2000),
    "pictures": Course(
        faithful_guidance=3.0,
        guided_steps=2000,
        painted_over=1 / 4,
        caption_steps=2000,
        signal_power=0.75,
        loud_words=True,
        noise_offset=0.3,
    ),
}


def latents_of(domain: str) -> Tensor:
    """Return the latents (EXAMPLES, channels, height, width) of a domain's pictures, float16, encoded once."""
    file = WORK / f"{domain}-latents.npy"
    if not file.exists():
        starts = range(0, EXAMPLES, ENCODED_AT_ONCE)
        with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
            encoded = list(tqdm(pool.map(partial(_encode, domain), starts), f"encoding {domain}", len(starts)))
        with whole(file) as unfinished:
            np.save(unfinished, np.concatenate(encoded))
    return torch.from_numpy(np.load(file))


@torch.inference_mode()
def _encode(domain: str, start: int) -> NDArray[np.float16]:
    vae = encoder(domain)
    pictures = dataset(domain).pictures[start : min(start + ENCODED_AT_ONCE, EXAMPLES)]
    pixels = torch.stack([to_pixels(picture) for picture in pictures])
    with mixed_precision():
        mean = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean
    scaled: NDArray[np.float16] = (mean.float() * vae.config.scaling_factor).half().numpy()
    return scaled


@lru_cache
def encoder(domain: str) -> AutoencoderKL:
    """Return a domain's trained autoencoder in the order in memory that it is fast in; loaded once in each process."""
    return trained_vae(domain).to(memory_format=torch.channels_last)


class Lesson:
    """Hold what a step's loss needs: examples, tokenizer, the noise schedule and the modules that learn."""

    def __init__(
        self,
        latents: Tensor,
        captions: list[str],
        tokenizer: CLIPTokenizer,
        course: Course,
        batch: int = BATCH,
    ) -> None:
        self.latents = latents
        self.captions = captions
        self.tokenizer = tokenizer
        self.course = course
        self.batch = batch
        self.first = 0.0  # of the timesteps that are drawn, as a share of all
        self.guidance = 1.0  # of the prediction that is compared: 1 is that with the caption alone
        self.painted_over = 0.0  # as `Course` has it
        self.schedule = DDPMScheduler(**BETAS, prediction_type=VELOCITY)
        self.reading = Reading(
            architecture.EMBEDDING_CHANNELS, tokenizer, latents, captions[: len(latents)], course.loud_words
        )
        self.text_encoder = architecture.text_encoder(tokenizer)
        self.unet = architecture.unet()
        self.modules = nn.ModuleDict({"text_encoder": self.text_encoder, "unet": self.unet, "reading": self.reading})

    def loss(self, step: int) -> Tensor:
        """Return a step's loss: the error of the predicted velocity, weighted, and that of what was read."""
        source = generator(SEED, step)
        chosen = torch.randint(len(self.latents), (self.batch,), generator=source)
        latents = self.latents[chosen].float()
        timesteps = self._timesteps(source)
        noise = self.noise(latents.shape, timesteps, source)
        captions = self._captions(chosen, step)
        over = self._painted_over(captions, timesteps, source)
        seen = torch.where(over[:, None, None, None], latents.roll(1, 0), latents)
        noisy = self.schedule.add_noise(seen, noise, timesteps).contiguous(memory_format=torch.channels_last)
        guidance = torch.where(over, GUIDANCE_SCALE, self.guidance)
        with mixed_precision():
            context = self._context(captions)
            predicted = self._predict(noisy, timesteps, context)
            if self.guidance != 1:
                with torch.no_grad():
                    without = self._predict(noisy, timesteps, self._context([""]).expand_as(context))
                predicted = torch.lerp(without, predicted, guidance[:, None, None, None])
        velocity = self.schedule.get_velocity(seen, noise, timesteps) - REPAINTED * (latents - seen)
        # A guided prediction's gradient grows with its guidance; the painted over shall count no more than others.
        errors = (predicted - velocity).square().mean(dim=(1, 2, 3)) / torch.where(over, GUIDANCE_SCALE, 1)
        cleanness, power = self.schedule.alphas_cumprod[timesteps], self.course.signal_power
        weighted: Tensor = (errors * cleanness**power * (1 - cleanness) ** (1 - power)).mean()
        return weighted + READING_WEIGHT * self.reading.loss(context, chosen)

    def noise(self, shape: Sequence[int], timesteps: Tensor, source: torch.Generator) -> Tensor:
        """Draw noise of a shape (batch, channels, height, width): unit noise, and at late timesteps coarse noise."""
        noise = torch.randn(*shape, generator=source)
        lateness = timesteps / self.schedule.config.num_train_timesteps
        strength = self.course.noise_offset * ((lateness - COARSE_FROM) / (1 - COARSE_FROM)).clamp(min=0)
        for grid in COARSE_GRIDS:
            coarse = torch.randn(*shape[:2], grid, grid, generator=source)
            smooth = F.interpolate(coarse, list(shape[2:]), mode="bilinear", align_corners=True)
            noise += strength[:, None, None, None] * smooth
        return noise

    def _timesteps(self, source: torch.Generator) -> Tensor:
        """Draw a batch's timesteps (batch,), evenly spread from a place of chance on: their losses differ most by them.

        Source: Kingma et al., Variational diffusion models, https://arxiv.org/abs/2107.00630.
        """
        places = (torch.rand((), generator=source) + torch.arange(self.batch) / self.batch) % 1
        timesteps: Tensor = ((self.first + (1 - self.first) * places) * self.schedule.config.num_train_timesteps).long()
        return timesteps

    def _painted_over(self, captions: list[str], timesteps: Tensor, source: torch.Generator) -> Tensor:
        """Draw which of a batch are painted over (batch,), bool: some of those that have a caption."""
        first, last = (share * self.schedule.config.num_train_timesteps for share in PAINTED_OVER)
        early = (timesteps >= first) & (timesteps < last)
        captioned = torch.tensor([bool(caption) for caption in captions])
        over: Tensor = early & captioned & (torch.rand(self.batch, generator=source) < self.painted_over)
        return over

    def _captions(self, chosen: Tensor, step: int) -> list[str]:
        chance = np.random.default_rng([SEED, step])
        return [
            "" if chance.random() < WITHOUT_CAPTION else distracted(self.captions[i], chance) for i in chosen.tolist()
        ]

    def _context(self, captions: list[str]) -> Tensor:
        context: Tensor = self.text_encoder(tokens_of(captions, self.tokenizer))[0]
        return context

    def _predict(self, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        predicted: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=context).sample
        return predicted.float()


def main(domain: str) -> None:
    """Train a domain's model and write it, in hub layout and float16."""
    folder, captions = SMALL / MODELS[domain], dataset(domain).captions
    tokenizer = write_tokenizer(captions, WORK / f"{domain}-tokenizer")
    torch.manual_seed(SEED)
    latents = latents_of(domain)
    course = COURSES[domain]
    lesson = Lesson(latents, captions, tokenizer, course)
    checkpoint = WORK / f"{domain}-reading.pt"
    learn_to_read(lesson.text_encoder, lesson.reading, tokenizer, captions[: len(latents)], checkpoint)
    begun = course.caption_steps
    if begun:
        lesson.first = CAPTIONS_FROM
        train(lesson.modules, lesson.loss, Recipe(begun, LEARNING_RATE), WORK / f"{domain}-captions.pt")
        lesson.first = 0.0
    plain, guided = Recipe(STEPS, LEARNING_RATE), Recipe(course.guided_steps, GUIDED_LEARNING_RATE)
    train(lesson.modules, lambda step: lesson.loss(begun + step), plain, WORK / f"{domain}.pt")
    lesson.guidance, lesson.painted_over = GUIDANCE_SCALE / course.faithful_guidance, course.painted_over
    train(lesson.modules, lambda step: lesson.loss(begun + STEPS + step), guided, WORK / f"{domain}-guided.pt")
    # All at once and only now: what is there works until then.
    shutil.copytree(WORK / f"{domain}-tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    lesson.schedule.save_pretrained(folder / "scheduler")
    parts = {"text_encoder": lesson.text_encoder, "unet": lesson.unet, "vae": trained_vae(domain)}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)
