"""Train a domain's tokenizer, text encoder and UNet on the latents of its autoencoder, to lib/small.

The text encoder learns to read first, from nothing, since the captions have a few hundred words.

Sources: Ho et al., Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239; Salimans and Ho,
Progressive distillation, https://arxiv.org/abs/2202.00512 (the velocity; errors weigh at least 1); Hang et al.,
Efficient diffusion training via min-SNR weighting, https://arxiv.org/abs/2303.09556.
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
from workshop.training.reading import learn_to_read
from workshop.training.tokenizer import tokens_of, write_tokenizer
from workshop.training.trainer import Recipe, generator, mixed_precision, train

MODELS = {"music": "riffusion", "pictures": "deforum"}
SEED = 2
STEPS = {"music": 7000, "pictures": 6500}
LEARNING_RATE = 1e-3
# Guided as the models are, a plain prediction exaggerates: colours are garish, notes few and loud. So in a second part
# the guided prediction learns, such that the models' guidance then does what one of FAITHFUL_GUIDANCE did. (With 3,
# basses came out as guitars.)
FAITHFUL_GUIDANCE = {"music": 5.0, "pictures": 3.0}
GUIDED_STEPS = 4000
GUIDED_LEARNING_RATE = 5e-4
# The standard deviation of what is added to each channel of the noise as a whole, and of what is added to it smoothly
# over a coarse grid. At the last timestep a trace of the picture's own colours and places is left, which a model learns
# to read instead of the caption; pure noise, which has none, then comes out in any colours and anywhere. (Source:
# Guttenberg, "Diffusion with offset noise", 2023.) A spectrogram is mostly white, whatever it shows.
NOISE_OFFSET = {"music": 0.0, "pictures": 0.2}
COARSE_GRIDS = (1, 4)
# Whether the text encoder learns on together with the UNet. From the pictures' it would forget the colours of shapes,
# before the UNet has learned to listen for them.
READS_ON = {"music": True, "pictures": False}
BATCH = 12
WITHOUT_CAPTION = 0.1  # the share of examples that guidance learns the unconditional model from
# An error of the denoised latents weighs as the signal-to-noise ratio, within these bounds. Below the first, where the
# caption alone says what is there, it would weigh nothing; above the second, more than it teaches.
MIN_SNR, MAX_SNR = 1.0, 5.0
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
        self.modules = nn.ModuleDict(
            {"text_encoder": architecture.text_encoder(tokenizer), "unet": architecture.unet()}
        )

    def loss(self, step: int) -> Tensor:
        """Return a step's loss: the error of the predicted velocity, weighted."""
        source = generator(SEED, step)
        chosen = torch.randint(len(self.latents), (self.batch,), generator=source)
        latents = self.latents[chosen].float()
        noise = self.noise(latents.shape, source)
        timesteps = self._timesteps(source)
        noisy = self.schedule.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        captions = self._captions(chosen, step)
        with mixed_precision():
            predicted = self._predict(noisy, timesteps, captions)
            if self.guidance != 1:
                with torch.no_grad():
                    without = self._predict(noisy, timesteps, [""] * len(captions))
                predicted = torch.lerp(without, predicted, self.guidance)
        velocity = self.schedule.get_velocity(latents, noise, timesteps)
        errors = (predicted - velocity).square().mean(dim=(1, 2, 3))
        cleanness = self.schedule.alphas_cumprod[timesteps]
        snr = cleanness / (1 - cleanness)
        # An error of the velocity is one of the denoised latents, times SNR + 1.
        weighted: Tensor = (errors * snr.clamp(MIN_SNR, MAX_SNR) / (snr + 1)).mean()
        return weighted

    def noise(self, shape: Sequence[int], source: torch.Generator) -> Tensor:
        """Draw noise of a shape (batch, channels, height, width): unit noise, and `noise_offset` of coarse noise."""
        noise = torch.randn(*shape, generator=source)
        for grid in COARSE_GRIDS:
            coarse = torch.randn(*shape[:2], grid, grid, generator=source)
            size = list(shape[2:])
            noise += self.noise_offset * F.interpolate(coarse, size, mode="bilinear", align_corners=True)
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

    def _predict(self, noisy: Tensor, timesteps: Tensor, captions: list[str]) -> Tensor:
        context = self.modules["text_encoder"](tokens_of(captions, self.tokenizer))[0]
        predicted: Tensor = self.modules["unet"](noisy, timesteps, encoder_hidden_states=context).sample
        return predicted.float()


def main(domain: str) -> None:
    """Train a domain's model and write it, in hub layout and float16."""
    folder, captions = SMALL / MODELS[domain], dataset(domain).captions
    tokenizer = write_tokenizer(captions, WORK / f"{domain}-tokenizer")
    torch.manual_seed(SEED)
    latents = latents_of(domain)
    lesson = Lesson(latents, captions, tokenizer, NOISE_OFFSET[domain])
    learn_to_read(lesson.modules["text_encoder"], tokenizer, latents, captions, WORK / f"{domain}-reading.pt")
    lesson.modules["text_encoder"].requires_grad_(READS_ON[domain])
    train(lesson.modules, lesson.loss, Recipe(STEPS[domain], LEARNING_RATE), WORK / f"{domain}.pt")
    lesson.guidance = GUIDANCE_SCALE / FAITHFUL_GUIDANCE[domain]
    guided = Recipe(GUIDED_STEPS, GUIDED_LEARNING_RATE)
    train(lesson.modules, lambda step: lesson.loss(STEPS[domain] + step), guided, WORK / f"{domain}-guided.pt")
    # All at once and only now: what is there works until then.
    shutil.copytree(WORK / f"{domain}-tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    lesson.schedule.save_pretrained(folder / "scheduler")
    for name, part in {**lesson.modules, "vae": trained_vae(domain)}.items():
        part.half().save_pretrained(folder / name)
