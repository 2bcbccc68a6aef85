from pathlib import Path

import torch
from transformers import CLIPTokenizer

from lib import stand_in
from lib.diffusion.models import Models


def test_it_is_the_same_every_time(small_folder: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    stand_in.build(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    for path in small_folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(small_folder)).read_bytes() == path.read_bytes()


def test_it_is_of_the_real_classes_and_shapes(models: Models) -> None:
    names = [type(part).__name__ for part in (models.tokenizer, models.text_encoder, models.vae, models.unet)]
    assert names == ["CLIPTokenizer", "CLIPTextModel", "AutoencoderKL", "UNet2DConditionModel"]
    assert models.latent_shape(512, 512) == (1, 4, 64, 64)
    assert models.vae.config.scaling_factor == 0.18215


def test_its_tokenizer_knows_every_text(models: Models) -> None:
    tokenizer: CLIPTokenizer = models.tokenizer
    assert tokenizer.model_max_length == 77
    for text in ("funky synth solo", "日本 🎹 é", "\t\x01"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(tokenizer("church bells", add_special_tokens=False).input_ids).strip() == "church bells"
