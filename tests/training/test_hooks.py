"""Hooks of a task: clustering before an epoch, a moving average after a step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.stages.handmade import StopsAt, make_work
from tests.training.test_trainer import IMAGES, PIXELS
from tests.training.test_trainer import network as plain_network
from transfer.errors import Interrupted
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import train
from transfer.transforms.color import to_float
from transfer.transforms.per_image_rng import PerImageRng

EPOCHS, BATCH = 4, 16
STEPS = len(PIXELS) // BATCH
WHOLE = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


class Task:
    """Learns labels made by its own features before each epoch, with a new head.

    A target network follows its weights.
    """

    def __init__(self, optimizer: Any = "sgd"):
        self.recipe = TrainableStage(
            epochs=EPOCHS, batch_size=BATCH, learning_rate=0.05, optimizer=optimizer
        )
        self.network: Any = plain_network()
        self.network["head"] = nn.Linear(2, 3)
        self.network["target"] = copy.deepcopy(self.network["backbone"]).requires_grad_(False)
        self.network.register_buffer("labels", torch.zeros(len(PIXELS), dtype=torch.int64))
        self.epochs: list[int] = []
        self.shares: list[float] = []
        self.optimizers: list[torch.optim.Optimizer] = []
        self.remembered: list[tuple[bool, bool]] = []  # at each step: of the head, of the backbone

    def loss(self, net: Any, images: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
        self.remembered.append((self.remembers(net["head"]), self.remembers(net["backbone"])))
        features = net["backbone"](to_float(images) + 0.1 * rng.uniform(3, 8, 8))
        with torch.no_grad():
            followed = net["target"](to_float(images))
        loss = nn.functional.cross_entropy(net["head"](features), net.labels[rng.ids])
        return loss + (features - followed).square().mean(), {}

    def remembers(self, part: nn.Module) -> bool:
        """Whether the optimizer's state of its first weight holds anything but zeros."""
        state = self.optimizers[0].state.get(next(part.parameters()), {})
        return any(bool(value.any()) for value in state.values() if torch.is_tensor(value))

    def before_epoch(self, epoch: int) -> list[nn.Module]:
        self.epochs.append(epoch)
        net = self.network.eval()
        with torch.no_grad():
            scores = net["backbone"](to_float(WHOLE)).sum(1)
            net.labels.copy_(scores.argsort().argsort() * 3 // len(scores))
            generator = torch.Generator().manual_seed(epoch)
            net["head"].weight.copy_(torch.randn(3, 2, generator=generator))
            net["head"].bias.zero_()
        net.train()
        return [net["head"]]

    def after_step(self, share: float) -> None:
        self.shares.append(share)
        assert not torch.is_grad_enabled()
        for kept, new in zip(
            self.network["target"].parameters(), self.network["backbone"].parameters(), strict=True
        ):
            kept.lerp_(new, 0.1 * (1 - share))

    def run(self, folder: Path, stop_at: int | None = None) -> list[dict[str, float]]:
        work: Any = make_work(folder)
        if stop_at is not None:
            work.__class__, work.stop_at = StopsAt, stop_at
        kept = self.optimizers

        class Recipe(TrainableStage):
            def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
                kept.append(super().make_optimizer(network))
                return kept[-1]

        hooks = {"before_epoch": self.before_epoch, "after_step": self.after_step}
        return train(
            work, Recipe(**self.recipe.model_dump()), self.network, self.loss, IMAGES, **hooks
        )


def stopped_and_resumed(
    folder: Path, stop_at: int, **options: Any
) -> tuple[Task, Task, list[dict[str, float]]]:
    first, second = Task(**options), Task(**options)
    with pytest.raises(Interrupted):
        first.run(folder, stop_at)
    assert len(first.shares) == stop_at
    return first, second, second.run(folder)


def test_there_are_four_steps_an_epoch_here() -> None:
    assert STEPS == 4


def test_before_epoch_is_called_once_before_each_epoch(tmp_path: Path) -> None:
    task = Task()
    task.run(tmp_path)
    assert task.epochs == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("stop_at", "before", "after"),
    [(2, [0], [1, 2, 3]), (6, [0, 1], [2, 3]), (7, [0, 1], [2, 3]), (16, [0, 1, 2, 3], [])],
)
def test_a_resumed_epoch_is_not_begun_again(
    stop_at: int, before: list[int], after: list[int], tmp_path: Path
) -> None:
    first, second, _ = stopped_and_resumed(tmp_path, stop_at)
    assert (first.epochs, second.epochs) == (before, after)


def test_an_epoch_that_was_stopped_at_its_end_is_followed_by_the_next(tmp_path: Path) -> None:
    first, second, _ = stopped_and_resumed(tmp_path, STEPS)
    assert (first.epochs, second.epochs) == ([0], [1, 2, 3])
    assert second.shares[0] == 5 / 16


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "lars"])
def test_what_was_drawn_anew_is_forgotten_by_the_optimizer_and_nothing_else_is(
    optimizer: str, tmp_path: Path
) -> None:
    task = Task(optimizer)
    task.run(tmp_path)
    first_steps = [step % STEPS == 0 for step in range(EPOCHS * STEPS)]
    assert [head for head, _ in task.remembered] == [not first for first in first_steps]
    assert [backbone for _, backbone in task.remembered] == [False, *[True] * (EPOCHS * STEPS - 1)]


def test_a_head_drawn_anew_takes_its_first_step_without_momentum(tmp_path: Path) -> None:
    task: Any = Task("nesterov")
    weights: list[Tensor] = []
    task.recipe = task.recipe.model_copy(update={"schedule": "constant", "weight_decay": 0.0})
    follow = task.after_step

    def after_step(share: float) -> None:
        follow(share)
        weights.append(task.network["head"].bias.detach().clone())

    task.after_step, gradients = after_step, []
    task.network["head"].bias.register_hook(lambda gradient: gradients.append(gradient.clone()))
    task.run(tmp_path)
    for epoch in range(
        EPOCHS
    ):  # a bias starts at zero; Nesterov's first step is 1.9 times the gradient
        assert torch.allclose(
            weights[epoch * STEPS], -0.05 * 1.9 * gradients[epoch * STEPS], atol=1e-6
        )


def test_shares_rise_to_one(tmp_path: Path) -> None:
    task = Task()
    task.run(tmp_path / "straight")
    assert task.shares == [step / 16 for step in range(1, 17)]
    first, second, _ = stopped_and_resumed(tmp_path / "again", 6)
    assert first.shares + second.shares == task.shares


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize("stop_at", [2, 3, 4, 6, 9, 15])
def test_a_run_that_was_stopped_anywhere_ends_in_the_same_bytes(
    stop_at: int, optimizer: str, tmp_path: Path
) -> None:
    straight = Task(optimizer)
    history = straight.run(tmp_path / "a")
    _, resumed, again = stopped_and_resumed(tmp_path / "b", stop_at, optimizer=optimizer)
    assert again == history
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    assert len(straight.network.labels.unique()) == 3


def test_labels_of_the_epoch_that_was_stopped_are_read_again_and_not_made_again(
    tmp_path: Path,
) -> None:
    straight: Any = Task()
    seen: list[Tensor] = []
    original = straight.before_epoch
    straight.before_epoch = lambda epoch: (
        original(epoch),
        seen.append(straight.network.labels.clone()),
    )[0]
    straight.run(tmp_path / "a")
    assert not torch.equal(seen[1], seen[2]), "labels change from epoch to epoch"
    first: Any = Task()
    second: Any = Task()
    with pytest.raises(Interrupted):
        first.run(tmp_path / "b", 6)
    at_resume = []
    loss = second.loss
    second.loss = lambda *given: (at_resume.append(second.network.labels.clone()), loss(*given))[1]
    second.run(tmp_path / "b")
    assert torch.equal(at_resume[0], seen[1])
