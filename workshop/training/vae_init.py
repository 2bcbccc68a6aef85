"""Initialise an autoencoder so that it keeps a thumbnail: its first latents are the picture, scaled down.

A VAE of this size learns outlines long before it learns levels and colours, which get lost in its norms: they remove
each picture's own mean and deviation. With these weights, levels and colours pass through from the start, and it only
has to learn what a thumbnail lacks.

Each colour takes two channels from end to end, one negated, because silu(x) - silu(-x) = x: so the only nonlinearity on
the way cancels out.
"""

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

CARRIER = 8.0  # far larger than any level
GAIN = 2.0  # of the latents: the deviation of a thumbnail's levels is about a half
LOG_VARIANCE = -4.0  # of the posterior: so the other latents, still small, don't drown in its noise
HALVE = torch.tensor([[0.25, 0.25, 0.0], [0.25, 0.25, 0.0], [0.0, 0.0, 0.0]])  # a mean of 2 x 2, the stride being 2
SMOOTH = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25]))  # linear, after nearest


@torch.no_grad()
def init_as_thumbnail(vae: AutoencoderKL, colours: Tensor) -> None:
    """Set the weights; `colours` (n, 3) maps a pixel's red, green and blue to the n values that are kept."""
    encoder, decoder, count = vae.encoder, vae.decoder, len(colours)
    pair = torch.cat([torch.eye(count), -torch.eye(count)])  # (2 count, count)

    _set(encoder.conv_in, pair @ colours)
    for block in encoder.down_blocks:
        _pass(block.resnets, 2 * count)
        for sampler in block.downsamplers or ():
            _set(sampler.conv, torch.eye(2 * count), HALVE)
    _pass(encoder.mid_block.resnets, 2 * count)
    _linearise(encoder.mid_block.resnets[-1], encoder.conv_norm_out)
    _set(encoder.conv_out, GAIN * pair.T)
    _set(vae.quant_conv, torch.eye(count))
    vae.quant_conv.weight[vae.config.latent_channels :] = 0
    vae.quant_conv.bias[vae.config.latent_channels :] = LOG_VARIANCE

    _set(vae.post_quant_conv, torch.eye(count))
    _set(decoder.conv_in, pair / GAIN)
    _pass(decoder.mid_block.resnets, 2 * count)
    for block in decoder.up_blocks:
        _pass(block.resnets, 2 * count)
        for sampler in block.upsamplers or ():
            _set(sampler.conv, torch.eye(2 * count), SMOOTH)
    _linearise(decoder.up_blocks[-1].resnets[-1], decoder.conv_norm_out)
    decoder.conv_out.weight.zero_()
    _set(decoder.conv_out, torch.linalg.pinv(colours) @ pair.T)


def _set(conv: Any, matrix: Tensor, kernel: Tensor | None = None) -> None:
    """Make the first outputs `matrix` (outputs, inputs) times the first inputs, and nothing else."""
    outputs, inputs = matrix.shape
    if kernel is None:
        kernel = torch.zeros(conv.kernel_size)
        kernel[conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
    conv.weight[:outputs] = 0
    conv.weight[:outputs, :inputs] = matrix[:, :, None, None] * kernel
    conv.bias[:outputs] = 0


def _pass(resnets: Iterable[Any], channels: int) -> None:
    """Make the first channels pass unchanged."""
    for resnet in resnets:
        resnet.conv2.weight[:channels] = 0
        resnet.conv2.bias[:channels] = 0
        if resnet.conv_shortcut is not None:
            _set(resnet.conv_shortcut, torch.eye(channels))


def _linearise(last: Any, norm: Any) -> None:
    """Make a norm start as the identity: large constants in a quarter of its channels dominate its statistics."""
    group = norm.num_channels // norm.num_groups
    place = torch.arange(norm.num_channels) % group
    carriers = place >= group - group // 4
    last.conv2.bias[carriers] = CARRIER
    last.conv2.bias[place >= group - group // 8] = -CARRIER
    norm.weight.fill_(CARRIER / 2)  # the deviation, a quarter being at CARRIER or -CARRIER
    norm.weight[carriers] = 0
