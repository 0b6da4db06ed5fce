from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from stages.pretext.byol import BYOL, cosine_distance, feature_spread, project
from tests.stages.pretext.support import make_stage, namespace
from transfer.errors import InvalidOption
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.normalize import normalize
from transfer.transforms.per_image_rng import PerImageRng

SIZE, COUNT = 32, 12


def task(**options: object) -> BYOL:
    return make_stage(
        BYOL, **{"backbone": "conv4", "hidden_dim": 32, "projection_dim": 16, **options}
    )


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


@pytest.fixture
def network() -> Any:
    """An online network that has moved away from its target."""
    torch.manual_seed(0)
    made = task().network(build_network(task().backbone, 0), DatasetInfo(SIZE, COUNT, 0))
    with torch.no_grad():
        for parameter in [*made["backbone"].parameters(), *made["projector"].parameters()]:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def ids() -> torch.Tensor:
    return torch.arange(COUNT)


def test_the_loss_is_the_squared_distance_of_unit_vectors_in_both_directions(
    network: Any, images: torch.Tensor
) -> None:
    network.eval()  # so that passes made here and there see the same statistics
    loss, _ = task().loss(network, images, PerImageRng(3, ids()))
    views = [
        normalize(view, task().normalization)
        for view in task().views(images, PerImageRng(3, ids()))
    ]

    def unit(row: torch.Tensor) -> list[float]:
        return (row / math.sqrt(sum(value**2 for value in row.tolist()))).tolist()

    total = 0.0
    for seen, other in ((views[0], views[1]), (views[1], views[0])):
        with torch.no_grad():
            predicted = network["predictor"](project(network, seen))
            expected = project(network["target"], other)
        for p, w in zip(predicted, expected, strict=True):
            total += sum((a - b) ** 2 for a, b in zip(unit(p), unit(w), strict=True)) / COUNT
    assert loss.item() == pytest.approx(total, rel=1e-4)


def test_the_target_starts_as_a_copy_and_is_never_trained(images: torch.Tensor) -> None:
    pretext = task()
    network = pretext.network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, COUNT, 0))
    online = {
        name: value
        for part in ("backbone", "projector")
        for name, value in network[part].named_parameters(part)
    }
    target = dict(network["target"].named_parameters())
    assert online.keys() == target.keys()
    assert all(torch.equal(online[name], target[name]) for name in online)
    assert {value.data_ptr() for value in online.values()}.isdisjoint(
        value.data_ptr() for value in target.values()
    )
    trained = {
        id(p) for group in pretext.make_optimizer(network).param_groups for p in group["params"]
    }
    assert trained.isdisjoint(map(id, target.values()))
    pretext.loss(network, images, PerImageRng(0, ids()))[0].backward()
    assert all(value.grad is None for value in target.values())
    assert all(
        value.grad is not None for value in [*online.values(), *network["predictor"].parameters()]
    )


def test_the_target_follows_as_a_moving_average_of_the_weights_and_not_of_the_statistics(
    network: Any, images: torch.Tensor
) -> None:
    pretext = task(tau=0.9)
    pretext.loss(network, images, PerImageRng(0, ids()))
    online = {
        **dict(network["backbone"].named_parameters("backbone")),
        **dict(network["projector"].named_parameters("projector")),
    }
    before = {name: value.clone() for name, value in network["target"].named_parameters()}
    statistics = {name: value.clone() for name, value in network["target"].named_buffers()}
    pretext.after_step(network, 0.5)
    for name, value in network["target"].named_parameters():
        assert torch.allclose(value, 0.95 * before[name] + 0.05 * online[name], atol=1e-6), name
    for name, value in network["target"].named_buffers():
        assert torch.equal(value, statistics[name]), name
    pretext.after_step(network, 1.0)  # the end of training: nothing moves any more
    kept = {name: value.clone() for name, value in network["target"].named_parameters()}
    pretext.after_step(network, 1.0)
    assert all(
        torch.equal(kept[name], value) for name, value in network["target"].named_parameters()
    )


def test_tau_rises_from_its_start_to_one_by_a_cosine() -> None:
    pretext = task()
    assert pretext.momentum_at(0) == pytest.approx(0.99)
    assert pretext.momentum_at(0.5) == pytest.approx(0.995)
    assert pretext.momentum_at(1) == 1
    shares = [pretext.momentum_at(step / 100) for step in range(101)]
    assert shares == sorted(shares)


def test_both_networks_normalize_each_view_by_its_own_batch(
    network: Any, images: torch.Tensor
) -> None:
    task().loss(network, images, PerImageRng(0, ids()))
    for part in (
        network["backbone"],
        network["target"]["backbone"],
        network["target"]["projector"],
    ):
        passes = {
            int(v) for name, v in part.named_buffers() if name.endswith("num_batches_tracked")
        }
        assert passes == {2}  # one a view
    first, _ = task().views(images, PerImageRng(0, ids()))
    out = project(network["target"], normalize(first, task().normalization))
    shifted = project(network["target"], normalize(first, task().normalization) * 3)
    assert torch.allclose(
        out, shifted, atol=0.05
    )  # batch statistics take a scale away; running ones would not


def test_spread_tells_a_collapse() -> None:
    generator = torch.Generator().manual_seed(0)
    assert feature_spread(torch.randn(2000, 32, generator=generator)) == pytest.approx(1, abs=0.03)
    assert feature_spread(torch.ones(20, 32)) == 0


def test_distances_are_taken_in_float32() -> None:
    rows = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            cosine_distance(*rows), 2 - 2 * torch.nn.functional.cosine_similarity(rows[0], rows[1])
        )
    assert torch.allclose(cosine_distance(rows[0], rows[0]), torch.zeros(8), atol=1e-6)
    assert torch.allclose(cosine_distance(rows[0], -rows[0]), torch.full((8,), 4.0), atol=1e-6)


def test_under_mixed_precision_the_loss_is_near(network: Any, images: torch.Tensor) -> None:
    plain, _ = task().loss(network, images, PerImageRng(0, ids()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = task().loss(network, images, PerImageRng(0, ids()))
    assert mixed.item() == pytest.approx(plain.item(), rel=0.05)


def test_a_batch_in_another_order_gives_the_same_loss(network: Any, images: torch.Tensor) -> None:
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(3))
    loss, _ = task().loss(network, images, PerImageRng(0, ids()))
    again, _ = task().loss(network, images[order], PerImageRng(0, order))
    assert torch.isclose(loss, again, atol=1e-4)


def test_only_the_second_view_is_solarized(images: torch.Tensor) -> None:
    ramp = torch.linspace(0, 255, SIZE).byte().expand(400, 3, SIZE, SIZE)
    first, second = task(crop=1.0).views(ramp, PerImageRng(0, torch.arange(400)))
    # Of a ramp that is solarized, nothing bright is left, and what is left is darkest at both ends.
    folded = [(view.amax((1, 2, 3)) < 0.55).float().mean().item() for view in (first, second)]
    assert folded[0] < 0.1
    assert 0.15 < folded[1] - folded[0] < 0.3


def test_parts_of_one_image_are_refused() -> None:
    pack = namespace(stage=namespace(count=100), label="set/train")
    with pytest.raises(InvalidOption, match="normalized over the batch"):
        task(batch_size=8, accumulation_steps=5).validate_plan(namespace(images={"images": pack}))
    task(batch_size=8, accumulation_steps=4).validate_plan(namespace(images={"images": pack}))


def test_defaults_are_those_of_the_paper_at_a_batch_of_256() -> None:
    published = make_stage(BYOL)
    assert (published.tau, published.hidden_dim, published.projection_dim) == (0.99, 4096, 256)
    assert (published.optimizer, published.learning_rate, published.weight_decay) == (
        "lars",
        0.3,
        1e-6,
    )
    assert (published.batch_size, published.warmup_epochs, published.schedule) == (
        256,
        10,
        "cosine",
    )
