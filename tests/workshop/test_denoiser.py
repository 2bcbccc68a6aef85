import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lib.weights import SMALL
from workshop.training.dataset import MODELS
from workshop.training.denoiser import COURSES, Lesson
from workshop.training.tokenizer import write_tokenizer

CAPTIONS = ["a drum beat", "a synth pad", "church bells"]


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    torch.manual_seed(0)
    latents = torch.randn(len(CAPTIONS), 8, 8, 8, generator=torch.Generator().manual_seed(1)).half()
    return Lesson(latents, CAPTIONS, write_tokenizer(CAPTIONS, tmp_path), COURSES["music"], batch=2)


def test_a_step_draws_the_same_loss_every_time_and_each_step_its_own(lesson: Lesson) -> None:
    losses = [lesson.loss(step).item() for step in (3, 4, 3)]
    assert losses[0] == losses[2] != losses[1]


def test_unet_and_text_encoder_both_learn(lesson: Lesson) -> None:
    before = copy.deepcopy(lesson.modules.state_dict())
    optimizer = torch.optim.SGD(lesson.modules.parameters(), 0.1)
    for step in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(lesson.loss(step))
        optimizer.step()
    for part in ("unet.conv_in.weight", "text_encoder.embeddings.token_embedding.weight"):
        assert not torch.equal(lesson.modules.state_dict()[part], before[part])


def test_what_the_text_encoder_reads_goes_on_counting(lesson: Lesson) -> None:
    torch.autograd.backward(lesson.loss(0))
    assert all(parameter.grad is not None for parameter in lesson.reading.parameters())


def test_the_guided_prediction_can_be_what_learns(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    without = lesson._context([""]).detach()

    def loss(guidance: float, with_caption: float) -> float:
        def predict(noisy: Tensor, _timesteps: Tensor, context: Tensor) -> Tensor:
            is_without = (context - without).abs().amax(dim=(1, 2)) < 0.1  # bfloat16 rounds
            return torch.where(is_without, 0.5, with_caption)[:, None, None, None].expand_as(noisy)

        monkeypatch.setattr(lesson, "_predict", predict)
        lesson.guidance = guidance
        return lesson.loss(0).item()

    assert loss(guidance=3, with_caption=1) == pytest.approx(loss(guidance=1, with_caption=2))
    assert loss(guidance=3, with_caption=1) != pytest.approx(loss(guidance=1, with_caption=1))


def test_coarse_noise_hides_the_colours_and_places_that_a_late_trace_is_left_of(lesson: Lesson) -> None:
    lesson.course = COURSES["pictures"]

    def noise(timestep: int) -> Tensor:
        return lesson.noise((400, 4, 32, 32), torch.full((400,), timestep), torch.Generator().manual_seed(0))

    early, late = noise(500), noise(999)
    assert early.std().item() == pytest.approx(1, abs=0.01)
    assert 1.02 < late.std().item() < 1.15
    # of the whole: 1 / 32, and the offset and more beside it
    assert early.mean(dim=(2, 3)).std().item() == pytest.approx(1 / 32, rel=0.1)
    assert late.mean(dim=(2, 3)).std().item() > 0.3
    # of the middle against the rim
    middle, rim = slice(12, 20), slice(0, 4)
    contrasts = [
        noise[..., middle, middle].mean(dim=(2, 3)) - noise[..., rim, :].mean(dim=(2, 3)) for noise in (early, late)
    ]
    assert contrasts[1].std() > 1.2 * contrasts[0].std()


def test_some_examples_are_learned_without_their_caption(lesson: Lesson) -> None:
    captions = lesson._captions(torch.zeros(400, dtype=torch.long), step=1)
    assert 0.05 < captions.count("") / len(captions) < 0.16


def test_a_batch_has_timesteps_of_the_whole_schedule(lesson: Lesson) -> None:
    lesson.batch = 10
    for seed in range(3):
        timesteps = lesson._timesteps(torch.Generator().manual_seed(seed))
        assert sorted((timesteps // 100).tolist()) == list(range(10))


def test_a_part_can_have_the_last_timesteps_alone(lesson: Lesson) -> None:
    lesson.batch, lesson.first = 10, 0.9
    timesteps = lesson._timesteps(torch.Generator().manual_seed(0))
    assert sorted((timesteps // 10).tolist()) == list(range(90, 100))


def test_what_is_shipped_is_small_and_in_hub_layout() -> None:
    for name in MODELS.values():
        folder = SMALL / name
        assert (folder / "tokenizer" / "vocab.json").exists()
        for part in ("text_encoder", "vae", "unet"):
            assert json.loads((folder / part / "config.json").read_text())
            assert len(list((folder / part).glob("*.safetensors"))) == 1
    assert sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file()) <= 20_000_000
