"""Train a domain's tokenizer, text encoder and UNet on the latents of its autoencoder, to lib/small.

The text encoder learns together with the UNet, since the captions have a few hundred words.

Sources: Ho et al., Denoising diffusion probabilistic models, https://arxiv.org/abs/2006.11239; Hang et al., Efficient
diffusion training via min-SNR weighting, https://arxiv.org/abs/2303.09556.
"""

import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTokenizer

from lib.diffusion.samplers import BETAS
from lib.outputs import whole
from lib.weights import SMALL
from workshop.training import architecture
from workshop.training.autoencoder import to_pixels, trained_vae
from workshop.training.dataset import WORK, dataset
from workshop.training.distractions import distracted
from workshop.training.tokenizer import write_tokenizer
from workshop.training.trainer import Recipe, generator, mixed_precision, train

MODELS = {"music": "riffusion", "pictures": "deforum"}
SEED = 2
STEPS = {"music": 5000, "pictures": 7000}
LEARNING_RATE = 1e-3
# The standard deviation of what is added to each channel of the noise as a whole. At the last timestep a trace of the
# picture's own mean is left, which a model learns to read; pure noise, which has none, then comes out in grey or in any
# colour. (Source: Guttenberg, "Diffusion with offset noise", 2023.) A spectrogram is mostly white, whatever it shows.
NOISE_OFFSET = {"music": 0.0, "pictures": 0.2}
BATCH = 12
WITHOUT_CAPTION = 0.1  # the share of examples that guidance learns the unconditional model from
MAX_SNR = 5.0  # above it, the nearly clean examples would weigh more than they teach
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
        self.schedule = DDPMScheduler(**BETAS)
        self.modules = nn.ModuleDict(
            {"text_encoder": architecture.text_encoder(tokenizer), "unet": architecture.unet()}
        )

    def loss(self, step: int) -> Tensor:
        """Return a step's loss: the error of the predicted noise, weighted by min-SNR."""
        source = generator(SEED, step)
        chosen = torch.randint(len(self.latents), (self.batch,), generator=source)
        latents = self.latents[chosen].float()
        noise = torch.randn(latents.shape, generator=source)
        noise += self.noise_offset * torch.randn(*latents.shape[:2], 1, 1, generator=source)
        timesteps = self._timesteps(source)
        noisy = self.schedule.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        captions = self._captions(chosen, step)
        with mixed_precision():
            predicted = self._predict(noisy, timesteps, captions)
        errors = (predicted - noise).square().mean(dim=(1, 2, 3))
        cleanness = self.schedule.alphas_cumprod[timesteps]
        snr = cleanness / (1 - cleanness)
        weighted: Tensor = (errors * snr.clamp(max=MAX_SNR) / snr).mean()
        return weighted

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
        tokens = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        context = self.modules["text_encoder"](tokens)[0]
        predicted: Tensor = self.modules["unet"](noisy, timesteps, encoder_hidden_states=context).sample
        return predicted.float()


def main(domain: str) -> None:
    """Train a domain's model and write it, in hub layout and float16."""
    folder, captions = SMALL / MODELS[domain], dataset(domain).captions
    tokenizer = write_tokenizer(captions, WORK / f"{domain}-tokenizer")
    torch.manual_seed(SEED)
    lesson = Lesson(latents_of(domain), captions, tokenizer, NOISE_OFFSET[domain])
    train(lesson.modules, lesson.loss, Recipe(STEPS[domain], LEARNING_RATE), WORK / f"{domain}.pt")
    # All at once and only now: what is there works until then.
    shutil.copytree(WORK / f"{domain}-tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    for name, part in {**lesson.modules, "vae": trained_vae(domain)}.items():
        part.half().save_pretrained(folder / name)
