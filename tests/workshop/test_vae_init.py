import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from workshop.pictures import paintings
from workshop.training import architecture
from workshop.training.autoencoder import COLOURS, loss_of, to_pixels
from workshop.training.trainer import generator
from workshop.training.vae_init import GAIN, init_as_thumbnail


def begun(colours: Tensor) -> AutoencoderKL:
    torch.manual_seed(0)
    vae = architecture.vae()
    init_as_thumbnail(vae, colours)
    return vae


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return to_pixels(paintings.picture(3, "sunset").picture)[None]


@torch.inference_mode()
def test_it_begins_by_returning_a_thumbnail_of_what_it_is_given(pixels: Tensor) -> None:
    vae = begun(COLOURS["pictures"])
    posterior = vae.encode(pixels).latent_dist
    small = F.avg_pool2d(pixels, 16)
    decoded = vae.decode(posterior.mean).sample
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # borders are padded with zeros
    assert torch.corrcoef(torch.stack([posterior.mean[:, :3][inner].flatten(), small[inner].flatten()]))[0, 1] > 0.98
    assert posterior.mean[:, :3].std() == pytest.approx(GAIN * small.std().item(), rel=0.15)
    assert (F.avg_pool2d(decoded, 16) - small)[inner].abs().mean() < 0.06  # 8 of 255 levels


@torch.inference_mode()
def test_a_grey_thumbnail_takes_one_channel_and_is_grey(pixels: Tensor) -> None:
    vae = begun(COLOURS["music"])
    decoded = vae.decode(vae.encode(pixels).latent_dist.mean).sample
    assert (decoded - decoded.mean(dim=1, keepdim=True)).abs().max() < 1e-4
    grey = pixels.mean(dim=1)
    inner = (0, slice(32, -32), slice(32, -32))
    assert np.corrcoef(decoded.mean(dim=1)[inner].flatten(), grey[inner].flatten())[0, 1] > 0.95


def test_every_weight_on_the_way_can_learn(pixels: Tensor) -> None:
    vae = begun(COLOURS["pictures"])
    for step in range(2):  # what begins at zero passes no gradient on until it has learned itself
        torch.autograd.backward(loss_of(vae, pixels[..., :64, :64], generator(step)))
        with torch.no_grad():
            for parameter in vae.parameters():
                if step == 0:
                    parameter -= 1e-3 * parameter.grad.sign()
                    parameter.grad = None
    assert all(parameter.grad.abs().max() > 0 for parameter in vae.parameters())
