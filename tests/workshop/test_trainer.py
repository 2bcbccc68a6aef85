from pathlib import Path

import pytest
import torch
from torch import nn

from workshop.training import trainer
from workshop.training.trainer import Recipe, generator, train

RECIPE = Recipe(steps=60, learning_rate=0.2, warmup_steps=5, ema_decay=0.9)


class Line:
    """Learns y = 3x + 1 from points that a step's number draws."""

    def __init__(self):
        torch.manual_seed(0)
        self.module = nn.Linear(1, 1)
        self.steps = []

    def loss(self, step):
        self.steps.append(step)
        x = torch.rand(8, 1, generator=generator(1, step))
        return (self.module(x) - (3 * x + 1)).square().mean()

    @property
    def weights(self):
        return torch.cat([parameter.flatten() for parameter in self.module.parameters()])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    line = Line()
    train(line.module, line.loss, RECIPE, tmp_path_factory.mktemp("line") / "line.pt")
    return line


def test_it_learns(uninterrupted):
    untrained = Line()
    assert uninterrupted.loss(99) < 0.05 * untrained.loss(99)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY_S", 0)
    stopped = Line()

    def loss(step):
        if step == 25:
            raise KeyboardInterrupt
        return stopped.loss(step)

    with pytest.raises(KeyboardInterrupt):
        train(stopped.module, loss, RECIPE, tmp_path / "line.pt")
    resumed = Line()
    train(resumed.module, resumed.loss, RECIPE, tmp_path / "line.pt")
    assert resumed.steps == list(range(25, RECIPE.steps))
    assert torch.equal(resumed.weights, uninterrupted.weights)


def test_a_finished_training_is_not_begun_again(tmp_path):
    first, again = Line(), Line()
    train(first.module, first.loss, RECIPE, tmp_path / "line.pt")
    train(again.module, again.loss, RECIPE, tmp_path / "line.pt")
    assert again.steps == []
    assert torch.equal(first.weights, again.weights)


def test_the_averaged_weights_are_kept_not_the_last_ones(tmp_path):
    line = Line()
    checkpoint = tmp_path / "line.pt"
    train(line.module, line.loss, RECIPE, checkpoint)
    state = torch.load(checkpoint, weights_only=True)
    assert torch.equal(line.module.weight, state["average"]["weight"])
    assert not torch.equal(line.module.weight, state["module"]["weight"])


def test_a_checkpoint_is_there_completely_or_not_at_all(tmp_path):
    line = Line()
    train(line.module, line.loss, RECIPE, tmp_path / "line.pt")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["line.pt"]


def test_generators_of_other_numbers_draw_other_numbers():
    draws = [torch.rand((), generator=generator(*seeds)).item() for seeds in [(1, 2), (2, 1), (1, 3), (1, 2)]]
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3
