"""A stand-in for the full weights: the same classes at a tiny size with random values, built in a second.

It makes noise, but through every line of code that the full model goes through, on any machine and without a
download.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

SEED = 0
EMBEDDING_CHANNELS = 32
MAX_TOKENS = 77
BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def build(folder: Path) -> None:
    """Write the model to `folder` in hub layout."""
    vocabulary = _write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        _text_encoder(vocabulary).save_pretrained(folder / "text_encoder")
        _vae().save_pretrained(folder / "vae")
        _unet().save_pretrained(folder / "unet")


def _write_tokenizer(folder: Path) -> dict[str, int]:
    """Write a CLIP tokenizer that knows single bytes only, each with and without the end-of-word mark."""
    # CLIP's byte-level alphabet: printable Latin-1 stands for itself, the other bytes for characters from U+0100.
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    alphabet = [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(256 - len(printable))]
    symbols = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), BEGIN, END]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": MAX_TOKENS,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return vocabulary


def _text_encoder(vocabulary: dict[str, int]) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=EMBEDDING_CHANNELS,
            intermediate_size=2 * EMBEDDING_CHANNELS,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=vocabulary[BEGIN],
            eos_token_id=vocabulary[END],
            pad_token_id=vocabulary[END],
        )
    )


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        mid_block_add_attention=False,
        sample_size=512,
        scaling_factor=0.18215,
    )


def _unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=EMBEDDING_CHANNELS,
        attention_head_dim=2,
        norm_num_groups=4,
    )
