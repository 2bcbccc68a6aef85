"""Train a domain's tokenizer, text encoder and UNet on the latents of its autoencoder, to lib/small.

The text encoder learns to read first, from nothing, since the captions have a few hundred words; then both learn.

Sources: Ho et al., Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239; Salimans and Ho,
Progressive distillation, https://arxiv.org/abs/2202.00512 (the velocity); Karras et al., Analyzing and improving the
training dynamics of diffusion models, https://arxiv.org/abs/2312.02696 (timesteps that weigh alike).
"""

import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from lib.diffusion.pipeline import GUIDANCE_SCALE
from lib.diffusion.prediction import VELOCITY
from lib.diffusion.timesteps import BETAS
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
STEPS = {"music": 6000, "pictures": 5500}
LEARNING_RATE = 1e-3
# Guided as the models are, a plain prediction exaggerates: colours are garish, notes few and loud. So in a second part
# the guided prediction learns, such that the models' guidance then does what one of FAITHFUL_GUIDANCE did. (With 3,
# basses came out as guitars.)
FAITHFUL_GUIDANCE = {"music": 5.0, "pictures": 3.0}
GUIDED_STEPS = 2000
GUIDED_LEARNING_RATE = 5e-4
# The standard deviation, at the last timestep, of what is added to the noise smoothly over each of these coarse grids,
# the first of which is the channel as a whole. There a trace of the picture's own colours and places is left, which a
# model learns to read instead of the caption; pure noise, which has none, then comes out in any colours. (Source:
# Guttenberg, "Diffusion with offset noise", 2023.) Before COARSE_FROM there is none: shapes would dissolve. A
# spectrogram is mostly white, whatever it shows.
NOISE_OFFSET = {"music": 0.0, "pictures": 0.3}
COARSE_GRIDS = (1, 2, 4)
COARSE_FROM = 0.6  # of all timesteps; from there on it grows
READING_WEIGHT = 0.03  # without it, a text encoder that learns on forgets much of what it has read
BATCH = 12
WITHOUT_CAPTION = 0.1  # the share of examples that guidance learns the unconditional model from
EXAMPLES = 4800  # the first of those rendered: encoding takes a quarter of a second each
ENCODED_AT_ONCE = 8


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
        noise_offset: float = 0.0,
        batch: int = BATCH,
    ) -> None:
        self.latents = latents
        self.captions = captions
        self.tokenizer = tokenizer
        self.noise_offset = noise_offset
        self.batch = batch
        self.guidance = 1.0  # of the prediction that is compared: 1 is that with the caption alone
        self.schedule = DDPMScheduler(**BETAS, prediction_type=VELOCITY)
        self.reading = Reading(architecture.EMBEDDING_CHANNELS, tokenizer, latents, captions[: len(latents)])
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
        noisy = self.schedule.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        captions = self._captions(chosen, step)
        with mixed_precision():
            context = self._context(captions)
            predicted = self._predict(noisy, timesteps, context)
            if self.guidance != 1:
                with torch.no_grad():
                    without = self._predict(noisy, timesteps, self._context([""]).expand_as(context))
                predicted = torch.lerp(without, predicted, self.guidance)
        velocity = self.schedule.get_velocity(latents, noise, timesteps)
        errors = (predicted - velocity).square().mean(dim=(1, 2, 3))
        # So every timestep has about as large a part in the loss. With an equal weight for all errors of the denoised
        # latents the last ones, where much can't be known, drown what is to be learned of outlines and attacks; with
        # that of the noise's errors nothing is learned of what the picture is.
        cleanness = self.schedule.alphas_cumprod[timesteps]
        weighted: Tensor = (errors * (cleanness * (1 - cleanness)).sqrt()).mean()
        return weighted + READING_WEIGHT * self.reading.loss(context, chosen)

    def noise(self, shape: Sequence[int], timesteps: Tensor, source: torch.Generator) -> Tensor:
        """Draw noise of a shape (batch, channels, height, width): unit noise, and at late timesteps coarse noise."""
        noise = torch.randn(*shape, generator=source)
        lateness = timesteps / self.schedule.config.num_train_timesteps
        strength = self.noise_offset * ((lateness - COARSE_FROM) / (1 - COARSE_FROM)).clamp(min=0)
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
        timesteps: Tensor = (places * self.schedule.config.num_train_timesteps).long()
        return timesteps

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
    lesson = Lesson(latents, captions, tokenizer, NOISE_OFFSET[domain])
    checkpoint = WORK / f"{domain}-reading.pt"
    learn_to_read(lesson.text_encoder, lesson.reading, tokenizer, captions[: len(latents)], checkpoint)
    train(lesson.modules, lesson.loss, Recipe(STEPS[domain], LEARNING_RATE), WORK / f"{domain}.pt")
    lesson.guidance = GUIDANCE_SCALE / FAITHFUL_GUIDANCE[domain]
    guided = Recipe(GUIDED_STEPS, GUIDED_LEARNING_RATE)
    train(lesson.modules, lambda step: lesson.loss(STEPS[domain] + step), guided, WORK / f"{domain}-guided.pt")
    # All at once and only now: what is there works until then.
    shutil.copytree(WORK / f"{domain}-tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    lesson.schedule.save_pretrained(folder / "scheduler")
    parts = {"text_encoder": lesson.text_encoder, "unet": lesson.unet, "vae": trained_vae(domain)}
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)
