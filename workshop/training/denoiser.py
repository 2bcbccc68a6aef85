"""Train a domain's tokenizer, text encoder and UNet on the latents of its autoencoder, to lib/small.

The text encoder is pretrained alone, from nothing, because the captions have only a few hundred words. Then both train;
pictures start with timesteps at which only the caption tells what they are.

Sources: Ho et al., Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239; Salimans and Ho,
Progressive distillation, https://arxiv.org/abs/2202.00512 (the velocity); Karras et al., Analyzing and improving the
training dynamics of diffusion models, https://arxiv.org/abs/2312.02696 (timesteps with equal weights).
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
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
from workshop.training.caption_noise import with_noise
from workshop.training.dataset import COUNTS, MODELS, WORK, dataset
from workshop.training.text_pretraining import Reading, pretrain_text_encoder
from workshop.training.tokenizer import tokens_of, write_tokenizer
from workshop.training.trainer import Recipe, generator, mixed_precision, train

SEED = 2
STEPS = 6000
CONTINUED_STEPS = 1000  # from the shipped UNet, all of them of the last phase
LEARNING_RATE, GUIDED_LEARNING_RATE = 1e-3, 5e-4
COARSE_GRIDS = (1, 2, 4)
COARSE_FROM = 0.6  # of all timesteps: coarse noise starts there and grows
# Of all timesteps: where an animation's next frame starts, the picture still shows the old prompt. Earlier ones only
# have details left to make, which turned dull when these timesteps, too, learned to change the picture.
REPAINTED_TIMESTEPS = (0.15, 0.4)
# The share of the way to the new caption's picture that the velocity takes in one step. With all of it, a frame would
# turn at once into the mean of all pictures that the caption could mean.
REPAINT_SHARE = 0.3
CAPTIONS_FROM = 0.9  # of all timesteps: from there on, little but the caption tells what the picture is
READING_WEIGHT = 0.03  # without this loss, the text encoder forgets much of its pretraining
BATCH = 12
WITHOUT_CAPTION = 0.1  # the share of examples that guidance learns the unconditional model from
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class Course:
    """What differs between the domains' trainings."""

    # With the models' guidance, a plainly trained prediction exaggerates: colours are garish, notes few and loud. In a
    # last phase the guided prediction is trained instead, so that the models' guidance gives what this one gave before.
    # (At 3, basses came out as guitars.)
    faithful_guidance: float
    guided_steps: int
    # In the last phase, the share of the examples at REPAINTED_TIMESTEPS that show another picture than their caption
    # describes, and learn to turn into the caption's picture. Without it the model has only seen true captions where
    # the picture shows through the noise, so it ignores them there: an animation's new prompt changed little.
    repainted: float = 0.0
    # The steps of a first phase, which has only the timesteps from CAPTIONS_FROM on. A UNet learns to see what is in a
    # noisy picture long before it learns to read, and then draws whatever blob the noise resembles instead of the
    # requested square. A wrong name of a shape costs 1 % more error after 1000 steps without this phase, and 130 %
    # after 2000 steps of it, at timestep 981.
    caption_steps: int = 0
    # The velocity's squared errors are weighted by the signal's share of the variance to this power, and by the noise's
    # share to the rest of 1. At a half, every timestep contributes about equally; above it, the earlier ones, which
    # make colours and outlines exact, contribute more. At 0, an equal weight for all errors of the denoised latents,
    # the last timesteps drown outlines and attacks; at 1, an equal weight for those of the noise, the model doesn't
    # learn what the picture is.
    signal_power: float = 0.5
    loud_words: bool = False  # as in `Reading`
    # The standard deviation, at the last timestep, of smooth noise that is added over each of COARSE_GRIDS; a grid of 1
    # is the whole channel. The last timestep keeps a trace of the picture's own colours and places, and a model learns
    # to read that trace instead of the caption; pure noise has none, so its pictures come out in any colour. (Source:
    # Guttenberg, "Diffusion with offset noise", 2023.) It doesn't start before COARSE_FROM, since shapes would
    # dissolve. Music needs none: every spectrogram is mostly white.
    noise_offset: float = 0.0


COURSES = {
    "music": Course(faithful_guidance=5.0, guided_steps=2000),
    "pictures": Course(
        faithful_guidance=3.0,
        guided_steps=2000,
        repainted=1 / 4,
        caption_steps=2000,
        signal_power=0.75,
        loud_words=True,
        noise_offset=0.3,
    ),
}


def latents_of(domain: str) -> Tensor:
    """Return the latents (examples, channels, height, width) of a domain's pictures, float16, encoded once."""
    file = WORK / f"{domain}-latents.npy"
    if not file.exists():
        starts = range(0, COUNTS[domain], ENCODED_AT_ONCE)
        with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
            encoded = list(tqdm(pool.map(partial(_encode, domain), starts), f"encoding {domain}", len(starts)))
        with whole(file) as unfinished:
            np.save(unfinished, np.concatenate(encoded))
    return torch.from_numpy(np.load(file))


@torch.inference_mode()
def _encode(domain: str, start: int) -> NDArray[np.float16]:
    vae = encoder(domain)
    pictures = dataset(domain).pictures[start : start + ENCODED_AT_ONCE]
    pixels = torch.stack([to_pixels(picture) for picture in pictures])
    with mixed_precision():
        mean = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean
    scaled: NDArray[np.float16] = (mean.float() * vae.config.scaling_factor).half().numpy()
    return scaled


@lru_cache
def encoder(domain: str) -> AutoencoderKL:
    """Return a domain's trained autoencoder in its fastest memory format, loaded once in each process."""
    return trained_vae(domain).to(memory_format=torch.channels_last)


class Lesson:
    """A training's examples, tokenizer, noise schedule and modules, and its loss."""

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
        self.first = 0.0  # the first timestep that is drawn, as a share of all
        self.guidance = 1.0  # of the prediction that is trained; 1 is the one with the caption alone
        self.repainted = 0.0  # as `Course` has it
        self.schedule = DDPMScheduler(**BETAS, prediction_type=VELOCITY)
        self.reading = Reading(
            architecture.EMBEDDING_CHANNELS, tokenizer, latents, captions[: len(latents)], course.loud_words
        )
        self.text_encoder = architecture.text_encoder(tokenizer)
        self.unet = architecture.unet()
        self.modules = nn.ModuleDict({"text_encoder": self.text_encoder, "unet": self.unet, "reading": self.reading})

    def loss(self, step: int) -> Tensor:
        """Return a step's loss: the weighted error of the predicted velocity, and the text encoder's own loss."""
        source = generator(SEED, step)
        chosen = torch.randint(len(self.latents), (self.batch,), generator=source)
        latents = self.latents[chosen].float()
        timesteps = self._timesteps(source)
        noise = self.noise(latents.shape, timesteps, source)
        captions = self._captions(chosen, step)
        over = self._repainted(captions, timesteps, source)
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
        velocity = self.schedule.get_velocity(seen, noise, timesteps) - REPAINT_SHARE * (latents - seen)
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
        """Draw a batch's timesteps (batch,), evenly spread from a random start, which lowers the loss's variance.

        Source: Kingma et al., Variational diffusion models, https://arxiv.org/abs/2107.00630.
        """
        places = (torch.rand((), generator=source) + torch.arange(self.batch) / self.batch) % 1
        timesteps: Tensor = ((self.first + (1 - self.first) * places) * self.schedule.config.num_train_timesteps).long()
        return timesteps

    def _repainted(self, captions: list[str], timesteps: Tensor, source: torch.Generator) -> Tensor:
        """Draw which of a batch are repainted (batch,), bool: some of those that have a caption."""
        first, last = (share * self.schedule.config.num_train_timesteps for share in REPAINTED_TIMESTEPS)
        early = (timesteps >= first) & (timesteps < last)
        captioned = torch.tensor([bool(caption) for caption in captions])
        over: Tensor = early & captioned & (torch.rand(self.batch, generator=source) < self.repainted)
        return over

    def _captions(self, chosen: Tensor, step: int) -> list[str]:
        chance = np.random.default_rng([SEED, step])
        return [
            "" if chance.random() < WITHOUT_CAPTION else with_noise(self.captions[i], chance) for i in chosen.tolist()
        ]

    def _context(self, captions: list[str]) -> Tensor:
        context: Tensor = self.text_encoder(tokens_of(captions, self.tokenizer))[0]
        return context

    def _predict(self, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        predicted: Tensor = self.unet(noisy, timesteps, encoder_hidden_states=context).sample
        return predicted.float()


def main(domain: str, from_shipped: bool = False) -> None:
    """Train a domain's model and write it, in hub layout and float16; the UNet from the one in lib/small if wanted."""
    folder, captions = SMALL / MODELS[domain], dataset(domain).captions
    tokenizer = write_tokenizer(captions, WORK / f"{domain}-tokenizer")
    torch.manual_seed(SEED)
    latents = latents_of(domain)
    course = COURSES[domain]
    lesson = Lesson(latents, captions, tokenizer, course)
    checkpoint = WORK / f"{domain}-text.pt"
    pretrain_text_encoder(lesson.text_encoder, lesson.reading, tokenizer, captions[: len(latents)], checkpoint)
    guided, begun = Recipe(course.guided_steps, GUIDED_LEARNING_RATE), 0
    if from_shipped:
        shipped = UNet2DConditionModel.from_pretrained(folder / "unet", local_files_only=True)
        lesson.unet.load_state_dict(shipped.state_dict())
        guided = Recipe(CONTINUED_STEPS, LEARNING_RATE)
    else:
        begun = course.caption_steps
        if begun:
            lesson.first = CAPTIONS_FROM
            train(lesson.modules, lesson.loss, Recipe(begun, LEARNING_RATE), WORK / f"{domain}-captions.pt")
            lesson.first = 0.0
        plain = Recipe(STEPS, LEARNING_RATE)
        train(lesson.modules, lambda step: lesson.loss(begun + step), plain, WORK / f"{domain}.pt")
        begun += STEPS
    lesson.guidance, lesson.repainted = GUIDANCE_SCALE / course.faithful_guidance, course.repainted
    train(lesson.modules, lambda step: lesson.loss(begun + step), guided, WORK / f"{domain}-guided.pt")
    # All at once and only now, so the old model works until then.
    shutil.copytree(WORK / f"{domain}-tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    lesson.schedule.save_pretrained(folder / "scheduler")
    parts = {"text_encoder": lesson.text_encoder, "unet": lesson.unet, "vae": trained_vae(domain)}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)
