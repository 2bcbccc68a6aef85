from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workshop.training.trainer import Recipe, generator, train

RECIPE = Recipe(steps=60, learning_rate=0.2, warmup_steps=5, ema_decay=0.9)


class Line:
    """Learns y = 3x + 1 from points that a step's number draws."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(1, 1)
        self.steps: list[int] = []

    def loss(self, step: int) -> Tensor:
        self.steps.append(step)
        x = torch.rand(8, 1, generator=generator(1, step))
        error: Tensor = self.module(x) - (3 * x + 1)
        return error.square().mean()

    @property
    def weights(self) -> Tensor:
        return torch.cat([parameter.flatten() for parameter in self.module.parameters()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the uninterrupted training's checkpoint."""
    return tmp_path_factory.mktemp("line")


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> Line:
    line = Line()
    train(line.module, line.loss, RECIPE, folder / "line.pt")
    return line


def test_it_learns(uninterrupted: Line) -> None:
    untrained = Line()
    assert uninterrupted.loss(99) < 0.05 * untrained.loss(99)


def test_a_training_that_was_stopped_ends_as_one_that_was_not(uninterrupted: Line, tmp_path: Path) -> None:
    stopped = Line()

    def loss(step: int) -> Tensor:
        if step == 25:
            raise KeyboardInterrupt
        return stopped.loss(step)

    with pytest.raises(KeyboardInterrupt):
        train(stopped.module, loss, RECIPE, tmp_path / "line.pt", checkpoint_every_s=0)
    resumed = Line()
    train(resumed.module, resumed.loss, RECIPE, tmp_path / "line.pt")
    assert resumed.steps == list(range(25, RECIPE.steps))
    assert torch.equal(resumed.weights, uninterrupted.weights)


def test_a_finished_training_is_not_begun_again(uninterrupted: Line, folder: Path) -> None:
    again = Line()
    train(again.module, again.loss, RECIPE, folder / "line.pt")
    assert again.steps == []
    assert [path.name for path in folder.iterdir()] == ["line.pt"]
    assert torch.equal(again.weights, uninterrupted.weights)


def test_the_averaged_weights_are_kept_not_the_last_ones(uninterrupted: Line, folder: Path) -> None:
    state = torch.load(folder / "line.pt", weights_only=True)
    assert torch.equal(uninterrupted.module.weight, state["average"]["weight"])
    assert not torch.equal(uninterrupted.module.weight, state["module"]["weight"])


def test_generators_of_other_numbers_draw_other_numbers() -> None:
    draws = [torch.rand((), generator=generator(*seeds)).item() for seeds in [(1, 2), (2, 1), (1, 3), (1, 2)]]
    assert draws[0] == draws[3]
    assert len(set(draws)) == 3
