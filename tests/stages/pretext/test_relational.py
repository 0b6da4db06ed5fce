from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.pretext import relational
from stages.pretext.relational import Relational, pairs
from tests.stages.handmade import make_work, pack_images
from tests.stages.pretext.support import make_stage, namespace
from transfer.errors import InvalidOption, TransferError
from transfer.models.build import build_network
from transfer.stage.image_input import DatasetInfo
from transfer.training.pretext_task import backbone_features
from transfer.transforms.normalize import normalize
from transfer.transforms.per_image_rng import PerImageRng

SIZE, COUNT = 32, 6
AGGREGATIONS = ["concatenation", "sum", "mean", "max"]


def task(**options: object) -> Relational:
    return make_stage(Relational, **{"backbone": "conv4", "views": 4, "hidden_dim": 16, **options})


def network(pretext: Relational) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return pretext.network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, COUNT, 0))


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def joined(first: Tensor, other: Tensor, aggregation: str) -> Tensor:
    if aggregation == "concatenation":
        return torch.cat((first, other))
    return {"sum": first + other, "mean": (first + other) / 2, "max": torch.maximum(first, other)}[
        aggregation
    ]


def literally(features: Tensor, aggregation: str) -> tuple[Tensor, list[int]]:
    """Return all pairs in the order of the paper's pseudo-code: by view, then by image."""
    views, size, _ = features.shape
    rows, same, shift = [], [], 1
    for i in range(views):
        for j in range(i + 1, views):
            rows += [joined(features[i, b], features[j, b], aggregation) for b in range(size)]
            rows += [
                joined(features[i, b], features[j, (b - shift) % size], aggregation)
                for b in range(size)
            ]
            same += [1] * size + [0] * size
            shift = shift + 1 if shift + 1 < size else 1
    return torch.stack(rows), same


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("focal", [0.0, 2.0, 1.0])
def test_the_loss_is_that_of_a_literal_double_loop(
    aggregation: str, focal: float, images: Tensor
) -> None:
    pretext = task(aggregation=aggregation, focal_gamma=focal)
    net = network(pretext)
    loss, figures = pretext.loss(net, images, PerImageRng(5, torch.arange(COUNT)))
    rng = PerImageRng(5, torch.arange(COUNT))
    seen = normalize(pretext.make_views(images, rng), pretext.normalization)
    features = backbone_features(net["backbone"], seen).unflatten(0, (4, COUNT))
    features = features[:, rng.uniform().argsort()]  # the batch is shuffled
    rows, same = literally(features, aggregation)
    total, right = 0.0, 0
    for logit, positive in zip(net["relation"](rows)[:, 0].tolist(), same, strict=True):
        probability = 1 / (1 + math.exp(-logit))
        of_the_truth = probability if positive else 1 - probability
        weight = 0.5 * (1 - of_the_truth) ** focal if focal else 1.0
        total -= weight * math.log(of_the_truth)
        right += of_the_truth > 0.5
    assert loss.item() == pytest.approx(total / len(same), rel=1e-4)
    assert figures["accuracy"].item() == pytest.approx(right / len(same), abs=1e-6)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_gradients_are_those_of_written_out_pairs(aggregation: str) -> None:
    pretext = task(aggregation=aggregation)
    relation = network(pretext)["relation"].double()
    features = torch.randn(
        4, 5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    weights = torch.randn(2 * 6 * 5, generator=torch.Generator().manual_seed(2))

    def gradients(logits: Tensor, order: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((logits * weights[order]).sum(), [given, *relation.parameters()])

    given = features.clone().requires_grad_()
    ours = gradients(pretext.relate(relation, given).double(), torch.arange(60))
    # A literal loop alternates between positives and negatives; ours has all positives first.
    rows, same = literally(given, aggregation)
    order = torch.tensor(same).argsort(descending=True, stable=True)
    theirs = gradients(relation(rows[order])[:, 0], torch.arange(60))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_there_are_as_many_negatives_as_positives_and_none_is_of_one_image() -> None:
    left, right, others = pairs(32, 64, torch.device("cpu"))
    assert len(left) + len(others) == 63_488  # the released code's number for 32 views of 64 images
    assert torch.equal(left % 64, right % 64)
    assert (left // 64 < right // 64).all()
    assert torch.equal(right // 64, others // 64)
    assert not (left % 64 == others % 64).any()
    shifts = (left - others).remainder(64).unflatten(0, (-1, 64))
    assert torch.equal(shifts[:, 0], torch.arange(496) % 63 + 1)
    assert (shifts == shifts[:, :1]).all()


def test_two_images_are_negatives_of_one_another() -> None:
    left, _, others = pairs(3, 2, torch.device("cpu"))
    assert torch.equal(others % 2, 1 - left % 2)


def test_the_views_of_an_image_are_of_that_image() -> None:
    flat = torch.arange(0, 240, 40, dtype=torch.uint8)[:, None, None, None].expand(
        COUNT, 3, SIZE, SIZE
    )
    # Contrast and brightness change gray images, but a black one stays black.
    seen = task().make_views(flat, PerImageRng(0, torch.arange(COUNT))).unflatten(0, (4, COUNT))
    assert (seen[:, 0] == 0).all()
    assert (seen[:, 1:].flatten(2).amax(2) > 0.02).all()
    assert len(seen[:, 3].flatten(1).mean(1).unique()) > 1


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_batch_in_another_order_gives_the_same_loss(aggregation: str, images: Tensor) -> None:
    pretext, order = task(aggregation=aggregation), torch.tensor([4, 0, 5, 2, 1, 3])
    net = network(pretext)
    loss, _ = pretext.loss(net, images, PerImageRng(0, torch.arange(COUNT)))
    again, _ = pretext.loss(net, images[order], PerImageRng(0, order))
    assert torch.isclose(loss, again, atol=1e-5)


def test_under_mixed_precision_the_loss_is_near(images: Tensor) -> None:
    pretext = task()
    net = network(pretext)
    plain, _ = pretext.loss(net, images, PerImageRng(0, torch.arange(COUNT)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = pretext.loss(net, images, PerImageRng(0, torch.arange(COUNT)))
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(plain.item(), rel=0.05)


def test_more_pairs_than_memory_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretext = task(views=32)
    work = make_work(
        tmp_path, {"images": pack_images(tmp_path / "set", torch.zeros(70, 8, 8, 3).byte().numpy())}
    )
    pretext.begin(network(pretext), work)
    monkeypatch.setattr(relational, "available_memory", lambda device: 10_000_000)
    with pytest.raises(
        TransferError, match=r"32 views of 64 images make 63,488 pairs.*lower `views`"
    ):
        pretext.begin(network(pretext), work)
    task(views=4).begin(network(pretext), work)
    monkeypatch.setattr(relational, "available_memory", lambda device: 0)  # unknown
    pretext.begin(network(pretext), work)


def test_parts_of_one_image_are_refused() -> None:
    pack = namespace(stage=namespace(count=100), label="set/train")
    with pytest.raises(InvalidOption, match="half of the pairs are of two images"):
        task(batch_size=8, accumulation_steps=5).validate_plan(namespace(images={"images": pack}))


def test_defaults_are_those_of_the_released_code() -> None:
    published = make_stage(Relational)
    assert (published.views, published.batch_size, published.epochs) == (32, 64, 200)
    assert (published.aggregation, published.hidden_dim, published.focal_gamma) == (
        "concatenation",
        256,
        2.0,
    )
    assert (published.optimizer, published.learning_rate, published.weight_decay) == (
        "adam",
        1e-3,
        0.0,
    )
    assert (published.schedule, published.chance(DatasetInfo(32, 10, 0))) == ("constant", 0.5)


def test_negatives_of_a_set_sorted_by_class_are_of_its_class_by_chance_only() -> None:
    # As in a folder a class: images 0..99 of class 0, 100..199 of class 1, ...; four views.
    batch, classes = 128, 10
    same = []
    for step in range(20):
        ids = torch.randperm(1000, generator=torch.Generator().manual_seed(step))[:batch].sort()[0]
        order = PerImageRng(step, ids).uniform().argsort()
        left, _, other = pairs(4, batch, torch.device("cpu"))
        labels = ids[order] // (1000 // classes)
        same.append((labels[left % batch] == labels[other % batch]).float().mean().item())
    assert 0.07 < sum(same) / len(same) < 0.13  # a random order gives 0.1; the order on disk 0.73
