"""Train tokenizer, text encoder and UNet: `python -m workshop.training.denoiser music|pictures`, to lib/small.

The domain's autoencoder (workshop.training.autoencoder) must be trained first. The text encoder learns together with
the UNet, since the captions have a few hundred words. Sources: Ho et al., Denoising diffusion probabilistic models,
https://arxiv.org/abs/2006.11239; Hang et al., Efficient diffusion training via min-SNR weighting,
https://arxiv.org/abs/2303.09556.
"""

import sys

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
from workshop.training.trainer import Recipe, generator, train

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
EXAMPLES = 5000  # the first of those rendered: encoding takes a tenth of a second each
ENCODED_AT_ONCE = 8


def latents_of(domain: str) -> Tensor:
    """Return the latents (EXAMPLES, channels, height, width) of a domain's pictures, float16, encoded once."""
    file = WORK / f"{domain}-latents.npy"
    if not file.exists():
        encoder = trained_vae(domain).to(dtype=torch.bfloat16, memory_format=torch.channels_last)
        pictures = dataset(domain).pictures[:EXAMPLES]
        starts = tqdm(range(0, len(pictures), ENCODED_AT_ONCE), f"encoding {domain}")
        encoded = [_encode(encoder, pictures[start : start + ENCODED_AT_ONCE]) for start in starts]
        with whole(file) as unfinished:
            np.save(unfinished, np.concatenate(encoded))
    return torch.from_numpy(np.load(file))


@torch.inference_mode()
def _encode(vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> NDArray[np.float16]:
    pixels = torch.stack([to_pixels(picture) for picture in pictures])
    mean = vae.encode(pixels.to(vae.dtype).contiguous(memory_format=torch.channels_last)).latent_dist.mean
    scaled: NDArray[np.float16] = (mean.float() * vae.config.scaling_factor).half().numpy()
    return scaled


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
        timesteps = torch.randint(self.schedule.config.num_train_timesteps, (self.batch,), generator=source)
        noisy = self.schedule.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            context = self.modules["text_encoder"](self._tokens(chosen, step))[0]
            predicted = self.modules["unet"](noisy, timesteps, encoder_hidden_states=context).sample
        errors = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
        cleanness = self.schedule.alphas_cumprod[timesteps]
        snr = cleanness / (1 - cleanness)
        weighted: Tensor = (errors * snr.clamp(max=MAX_SNR) / snr).mean()
        return weighted

    def _tokens(self, chosen: Tensor, step: int) -> Tensor:
        chance = np.random.default_rng([SEED, step])
        texts = [
            "" if chance.random() < WITHOUT_CAPTION else distracted(self.captions[i], chance) for i in chosen.tolist()
        ]
        tokens: Tensor = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return tokens


def main(domain: str) -> None:
    """Train a domain's model and write it, in hub layout and float16."""
    folder, captions = SMALL / MODELS[domain], dataset(domain).captions
    tokenizer = write_tokenizer(captions, folder / "tokenizer")
    torch.manual_seed(SEED)
    lesson = Lesson(latents_of(domain), captions, tokenizer, NOISE_OFFSET[domain])
    train(lesson.modules, lesson.loss, Recipe(STEPS[domain], LEARNING_RATE), WORK / f"{domain}.pt")
    for name, part in {**lesson.modules, "vae": trained_vae(domain)}.items():
        part.half().save_pretrained(folder / name)


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in MODELS):
        sys.exit(f"usage: python -m workshop.training.denoiser {'|'.join(MODELS)}")
    main(sys.argv[1])
