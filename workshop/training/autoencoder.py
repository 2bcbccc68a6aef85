"""Train a domain's autoencoder, to workshop/work: first the whole, then its decoder alone."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lib.weights import SMALL
from workshop.training import architecture
from workshop.training.dataset import MODELS, WORK, dataset
from workshop.training.trainer import Recipe, generator, mixed_precision, train
from workshop.training.vae_init import init_as_thumbnail

SEED = 1
RECIPE = Recipe(steps=2000, learning_rate=1e-3, ema_decay=0.995)
CROP_PX = 128
CROPS = 8  # in a batch
EDGE_WEIGHT = 0.5  # of the L1 loss of the differences between neighbouring pixels: onsets and outlines stay sharp
COARSE_WEIGHT = 1.0  # of the L1 loss of the mean of every latent's square of pixels: the colours are right
KL_WEIGHT = 1e-4  # per latent: they stay smooth and of one scale
COLOURS = {"music": torch.full((1, 3), 1 / 3), "pictures": torch.eye(3)}  # of the thumbnail that it begins with
STATISTICS_OF = 64  # pictures that the scale of the latents is measured on

# The whole autoencoder learns levels and colours, but its decoder then draws every latent as a blurred square of 16
# pixels. Alone, with an encoder that no longer changes, and judged by edges at several scales, it learns outlines.
DECODER_SEED = 4
DECODER_RECIPE = Recipe(steps=1500, learning_rate=1e-3, ema_decay=0.995)
DECODER_EDGE_SCALES_PX = (1, 2, 4, 8)
LATENT_NOISE = 0.1  # at most, in the latents' standard deviations: a denoiser's latents are never exact


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


def decoder_loss(vae: AutoencoderKL, pixels: Tensor, source: torch.Generator) -> Tensor:
    """Return the loss of a batch decoded from noisy latents: pixels, and edges at several scales, by L1."""
    with mixed_precision():
        with torch.no_grad():
            latents = vae.encode(pixels).latent_dist.mean
            strength = LATENT_NOISE / vae.config.scaling_factor * torch.rand(len(pixels), 1, 1, 1, generator=source)
            latents = latents + strength * torch.randn(latents.shape, generator=source)
        decoded = vae.decode(latents).sample
    error = decoded.float() - pixels
    loss: Tensor = error.abs().mean()
    for scale_px in DECODER_EDGE_SCALES_PX:
        coarse = F.avg_pool2d(error, scale_px)
        loss = loss + EDGE_WEIGHT * (coarse.diff(dim=-1).abs().mean() + coarse.diff(dim=-2).abs().mean())
    return loss


@torch.inference_mode()
def latent_scale(vae: AutoencoderKL, domain: str) -> float:
    """Return the factor that brings a domain's latents to unit variance."""
    squares = [
        vae.encode(to_pixels(picture)[None]).latent_dist.mean.square().mean().item()
        for picture in dataset(domain).pictures[:STATISTICS_OF]
    ]
    return 1 / math.sqrt(sum(squares) / len(squares))


def trained_vae(domain: str, folder: Path | None = None) -> AutoencoderKL:
    """Return the trained autoencoder of a domain, in float32."""
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(folder or WORK / f"{domain}-vae", local_files_only=True)
    vae.register_to_config(_name_or_path="")  # where it lay is nobody's concern
    return vae.float().requires_grad_(False).eval()


def main(domain: str, from_shipped: bool = False) -> None:
    """Train, and save with the scale of its latents; from the weights in lib/small, train only the decoder further."""
    torch.manual_seed(SEED)
    vae = trained_vae(domain, SMALL / MODELS[domain] / "vae") if from_shipped else architecture.vae()
    vae.to(memory_format=torch.channels_last)
    if not from_shipped:
        init_as_thumbnail(vae, COLOURS[domain])

        def loss(step: int) -> Tensor:
            return loss_of(vae, crops(domain, step), generator(SEED, step, 1))

        train(vae, loss, RECIPE, WORK / f"{domain}-vae.pt")
        vae.register_to_config(scaling_factor=latent_scale(vae, domain))
    refine_decoder(vae, domain)
    vae.save_pretrained(WORK / f"{domain}-vae")


def refine_decoder(vae: AutoencoderKL, domain: str) -> None:
    """Train the decoder alone."""
    vae.requires_grad_(False)
    decoder = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}).requires_grad_(True)

    def loss(step: int) -> Tensor:
        return decoder_loss(vae, crops(domain, step), generator(DECODER_SEED, step))

    train(decoder, loss, DECODER_RECIPE, WORK / f"{domain}-decoder.pt")
