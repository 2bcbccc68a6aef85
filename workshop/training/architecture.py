"""The small model's parts: the classes of Stable Diffusion 1.x at a size that a CPU trains in hours.

A latent is 16 pixels wide instead of 8, which makes a UNet evaluation four times cheaper.
"""

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LATENT_CHANNELS = 8
EMBEDDING_CHANNELS = 128
SIDE_PX = 512
VAE_CHANNELS = (16, 32, 48, 64, 64)
UNET_CHANNELS = (64, 64, 96)


def vae() -> AutoencoderKL:
    """Return an untrained autoencoder, of 1.1 M parameters."""
    return AutoencoderKL(
        block_out_channels=VAE_CHANNELS,
        down_block_types=("DownEncoderBlock2D",) * len(VAE_CHANNELS),
        up_block_types=("UpDecoderBlock2D",) * len(VAE_CHANNELS),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=SIDE_PX,
    )


def unet() -> UNet2DConditionModel:
    """Return an untrained UNet, of 3.3 M parameters."""
    return UNet2DConditionModel(
        sample_size=SIDE_PX // 2 ** (len(VAE_CHANNELS) - 1),
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=EMBEDDING_CHANNELS,
        attention_head_dim=2,  # diffusers means the number of heads
        norm_num_groups=16,
    )


def text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder for the tokenizer's vocabulary, of 0.5 M parameters."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=EMBEDDING_CHANNELS,
            intermediate_size=4 * EMBEDDING_CHANNELS,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
