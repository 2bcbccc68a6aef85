"""Train a domain's autoencoder, to workshop/work."""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from workshop.training import architecture
from workshop.training.dataset import WORK, dataset
from workshop.training.trainer import Recipe, generator, mixed_precision, train
from workshop.training.vae_init import begin_as_thumbnail

SEED = 1
RECIPE = Recipe(steps=2000, learning_rate=1e-3, ema_decay=0.995)
CROP_PX = 128
CROPS = 8  # in a batch
EDGE_WEIGHT = 0.5  # of the L1 loss of the differences between neighbouring pixels: onsets and outlines stay sharp
COARSE_WEIGHT = 1.0  # of the L1 loss of the mean of every latent's square of pixels: the colours are right
KL_WEIGHT = 1e-4  # per latent: they stay smooth and of one scale
COLOURS = {"music": torch.full((1, 3), 1 / 3), "pictures": torch.eye(3)}  # of the thumbnail that it begins with
STATISTICS_OF = 64  # pictures that the scale of the latents is measured on


def crops(domain: str, step: int) -> Tensor:
    """Draw a step's batch: (CROPS, 3, CROP_PX, CROP_PX) in [-1, 1]."""
    source = generator(SEED, step)
    pictures = dataset(domain).pictures
    drawn = []
    for _ in range(CROPS):
        index = int(torch.randint(len(pictures), (), generator=source))
        top, left = torch.randint(architecture.SIDE_PX - CROP_PX + 1, (2,), generator=source).tolist()
        drawn.append(to_pixels(pictures[index, top : top + CROP_PX, left : left + CROP_PX]))
    return torch.stack(drawn).contiguous(memory_format=torch.channels_last)


def to_pixels(picture: object) -> Tensor:
    """Return a grey or RGB uint8 picture as (3, height, width) in [-1, 1]."""
    pixels = torch.tensor(picture).float() / 127.5 - 1
    return pixels.expand(3, -1, -1) if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def loss_of(vae: AutoencoderKL, pixels: Tensor, source: torch.Generator) -> Tensor:
    """Return the loss of a batch: pixels, edges and coarse squares by L1, and the latents' divergence."""
    with mixed_precision():
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample(generator=source)).sample
    error = decoded.float() - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    factor = pixels.shape[-1] // posterior.mean.shape[-1]
    coarse = F.avg_pool2d(error, factor).abs().mean()
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss: Tensor = error.abs().mean() + EDGE_WEIGHT * edges + COARSE_WEIGHT * coarse + KL_WEIGHT * divergence
    return loss


@torch.inference_mode()
def latent_scale(vae: AutoencoderKL, domain: str) -> float:
    """Return the factor that brings a domain's latents to unit variance."""
    squares = [
        vae.encode(to_pixels(picture)[None]).latent_dist.mean.square().mean().item()
        for picture in dataset(domain).pictures[:STATISTICS_OF]
    ]
    return 1 / math.sqrt(sum(squares) / len(squares))


def trained_vae(domain: str) -> AutoencoderKL:
    """Return the trained autoencoder of a domain."""
    vae = AutoencoderKL.from_pretrained(WORK / f"{domain}-vae", local_files_only=True)
    vae.register_to_config(_name_or_path="")  # where it lay is nobody's concern
    return vae.requires_grad_(False).eval()


def main(domain: str) -> None:
    """Train, and save with the scale of its latents."""
    torch.manual_seed(SEED)
    vae = architecture.vae()
    begin_as_thumbnail(vae, COLOURS[domain])
    vae.to(memory_format=torch.channels_last)

    def loss(step: int) -> Tensor:
        return loss_of(vae, crops(domain, step), generator(SEED, step, 1))

    train(vae, loss, RECIPE, WORK / f"{domain}-vae.pt")
    vae.register_to_config(scaling_factor=latent_scale(vae, domain))
    vae.save_pretrained(WORK / f"{domain}-vae")
