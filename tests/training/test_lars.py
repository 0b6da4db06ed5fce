"""LARS beside a computation by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from transfer.training.checkpoint import load_checkpoint, save_checkpoint
from transfer.training.lars import TRUST, Lars
from transfer.training.recipe import TrainableStage

WEIGHT = torch.tensor([[3.0, 0.0], [0.0, 4.0]])  # of length 5
GRADIENT = torch.tensor([[0.0, 6.0], [8.0, 0.0]])  # of length 10


def network(weight: torch.Tensor = WEIGHT) -> nn.Linear:
    made = nn.Linear(2, 2)
    made.weight.data.copy_(weight)
    made.bias.data.copy_(torch.tensor([1.0, -2.0]))
    return made


def lars(made: nn.Module, rate: float = 0.5, **options: Any) -> torch.optim.Optimizer:
    return TrainableStage(
        optimizer="lars", learning_rate=rate, **{"weight_decay": 0.0, **options}
    ).make_optimizer(made)


def step(
    made: nn.Linear, optimizer: torch.optim.Optimizer, gradient: torch.Tensor = GRADIENT
) -> None:
    made.weight.grad, made.bias.grad = gradient.clone(), torch.tensor([1.0, 10.0])
    optimizer.step()


def test_a_weights_step_is_as_long_as_its_trusted_share_of_the_weight() -> None:
    made = network()
    step(made, lars(made))
    # 0.5 * 0.001 * 5 / 10 of the gradient, whatever the gradient's length
    assert torch.allclose(made.weight, WEIGHT - 0.00025 * GRADIENT, atol=1e-7)
    other = network()
    step(other, lars(other), gradient=1000 * GRADIENT)
    assert torch.allclose(made.weight, other.weight, atol=1e-7)


def test_weight_decay_is_a_part_of_what_is_scaled() -> None:
    made = network()
    step(made, lars(made, weight_decay=0.1))
    direction = GRADIENT + 0.1 * WEIGHT
    length = (0.3**2 + 6**2 + 8**2 + 0.4**2) ** 0.5
    assert torch.allclose(made.weight, WEIGHT - 0.5 * 0.001 * 5 / length * direction, atol=1e-7)


def test_momentum_sums_the_scaled_steps() -> None:
    made, optimizer = network(), None
    optimizer = lars(made, momentum=0.9)
    step(made, optimizer)
    first = TRUST * 5 / 10 * GRADIENT
    between = WEIGHT - 0.5 * first
    assert torch.allclose(made.weight, between, atol=1e-7)
    step(made, optimizer, gradient=-2 * GRADIENT)
    second = TRUST * between.norm() / 20 * (-2 * GRADIENT)
    assert torch.allclose(made.weight, between - 0.5 * (0.9 * first + second), atol=1e-7)


def test_the_rate_may_change_between_steps_without_changing_the_momentum() -> None:
    made = network()
    optimizer = lars(made)
    step(made, optimizer)
    between = made.weight.detach().clone()
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # a schedule's end
    step(made, optimizer)
    assert torch.equal(made.weight, between)


def test_biases_take_plain_steps_without_decay() -> None:
    made = network()
    step(made, lars(made, weight_decay=0.1))
    assert torch.allclose(made.bias, torch.tensor([1.0, -2.0]) - 0.5 * torch.tensor([1.0, 10.0]))


@pytest.mark.parametrize(
    ("weight", "gradient", "expected"),
    [
        (torch.zeros(2, 2), GRADIENT, -0.5 * GRADIENT),  # no scale to go by: a plain step
        (WEIGHT, torch.zeros(2, 2), WEIGHT),
        (torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2)),
    ],
)
def test_weights_or_gradients_of_zeros_give_no_nonsense(
    weight: torch.Tensor, gradient: torch.Tensor, expected: torch.Tensor
) -> None:
    made = network(weight)
    step(made, lars(made), gradient)
    assert torch.allclose(made.weight, expected)


def test_a_weight_without_a_gradient_stays_and_is_not_remembered() -> None:
    made = network()
    optimizer = lars(made, weight_decay=0.1)
    made.bias.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(made.weight, WEIGHT)
    assert made.weight not in optimizer.state


def test_each_weight_has_a_scale_of_its_own() -> None:
    parts = [network(), network(100 * WEIGHT)]
    optimizer = lars(nn.ModuleList(parts))
    for part in parts:
        part.weight.grad, part.bias.grad = GRADIENT.clone(), torch.zeros(2)
    optimizer.step()
    steps = [
        (before - part.weight).norm().item()
        for before, part in zip((WEIGHT, 100 * WEIGHT), parts, strict=True)
    ]
    assert steps[1] / steps[0] == pytest.approx(100, rel=1e-3)


def test_its_momentum_is_saved_and_read_again(tmp_path: Path) -> None:
    made = network()
    optimizer = lars(made)
    step(made, optimizer)
    save_checkpoint(tmp_path / "c", made, optimizer, {"step": 1})
    again = network()
    resumed = lars(again)
    assert load_checkpoint(tmp_path / "c", again, resumed) == {"step": 1}
    step(made, optimizer)
    step(again, resumed)
    assert torch.equal(made.weight, again.weight)
    assert torch.equal(made.bias, again.bias)


def test_it_minimizes() -> None:
    torch.manual_seed(0)
    made, target = network(torch.randn(2, 2)), torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    optimizer = Lars(
        [
            {"params": [made.weight], "weight_decay": 0.0, "adapt": True},
            {"params": [made.bias], "weight_decay": 0.0, "adapt": False},
        ],
        lr=5.0,
    )
    losses = []
    for _ in range(300):
        loss = (made.weight - target).square().sum() + 0.01 * made.bias.square().sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
