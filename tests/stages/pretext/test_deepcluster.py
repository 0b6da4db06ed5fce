from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.pretext import deepcluster
from stages.pretext.deepcluster import ArrayRows, DeepCluster
from tests.stages.handmade import StopsAt, make_work, pack_images
from tests.stages.pretext.support import make_stage, namespace
from transfer.artifacts import Model
from transfer.errors import Interrupted, InvalidOption, TransferError
from transfer.models.build import build_network
from transfer.numerics.cluster_agreement import normalized_mutual_information
from transfer.stage.context import StageContext
from transfer.stage.image_input import DatasetInfo
from transfer.training.pretext_task import backbone_features
from transfer.transforms.normalize import normalize

COUNT, SIZE = 600, 16


def task(**options: object) -> DeepCluster:
    small = {"k": 6, "components": 4, "layers": [32, 16], "dropout": 0.5, "batch_size": 32}
    return make_stage(DeepCluster, **{"backbone": "conv4", **small, **options})


def network(pretext: DeepCluster, count: int = COUNT) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return pretext.network(build_network(pretext.backbone, 0), DatasetInfo(SIZE, count, 0))


@pytest.fixture
def work(tmp_path: Path) -> StageContext:
    """Six kinds of images by color and pattern."""
    random = np.random.RandomState(0)
    kinds = random.randint(0, 256, (6, SIZE, SIZE, 3))
    pixels = kinds[np.arange(COUNT) % 6] * 0.8 + random.randint(0, 50, (COUNT, SIZE, SIZE, 3))
    return make_work(
        tmp_path, {"images": pack_images(tmp_path / "set", pixels.clip(0, 255).astype(np.uint8))}
    )


def clumps(k: int = 6, n: int = COUNT) -> np.ndarray:
    """(n, 16) float32 about k far centers, along directions of very different scale."""
    random = np.random.RandomState(1)
    centers = 10 * random.randn(k, 4)[np.arange(n) % k]
    scales = np.array([1000.0, 1.0, 30.0, 0.1])
    return ((centers + random.randn(n, 4)) * scales @ random.randn(4, 16)).astype(np.float32)


def test_features_are_of_whole_images_in_their_order_and_change_no_statistics(
    work: StageContext,
) -> None:
    pretext = task()
    net = network(pretext).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    features = pretext.features(net, work).values
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.named_buffers())
    pixels = torch.from_numpy(np.array(work.images["images"].pixels)).permute(0, 3, 1, 2)
    net.eval()
    with torch.no_grad():
        expected = net["classifier"](
            backbone_features(net["backbone"], normalize(pixels, pretext.normalization))
        )
    assert torch.allclose(torch.from_numpy(features), expected, atol=1e-5)
    assert (features < 0).any(), "the last ReLU is not applied"


def test_many_features_are_kept_on_disk(
    work: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretext = task()
    net = network(pretext)
    in_memory = pretext.features(net, work)
    monkeypatch.setattr(deepcluster, "IN_MEMORY", 1000)
    on_disk = pretext.features(net, work)
    assert isinstance(on_disk.values, np.memmap)
    assert not isinstance(in_memory.values, np.memmap)
    assert np.array_equal(on_disk.values, in_memory.values)
    assert np.array_equal(pretext.cluster(on_disk, work, 0), pretext.cluster(in_memory, work, 0))


def test_what_is_clustered_is_whitened_and_of_unit_length(
    work: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ArrayRows] = []
    begin = deepcluster.initial_centroids
    monkeypatch.setattr(
        deepcluster,
        "initial_centroids",
        lambda rows, *rest: (seen.append(rows), begin(rows, *rest))[1],
    )
    values = clumps()
    task().cluster(ArrayRows(values), work, 0)
    centered = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centered, full_matrices=False)
    white = centered @ axes[:4].T / sizes[:4] * np.sqrt(COUNT - 1)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(seen[0].values, axis=1), 1, atol=1e-5)
    assert np.allclose(
        np.abs(seen[0].values), np.abs(white), atol=2e-3
    )  # a direction's sign means nothing


def test_clusters_are_found_however_their_directions_are_scaled(work: StageContext) -> None:
    labels = task(k=6, iterations=20).cluster(ArrayRows(clumps()), work, 0)
    assert labels.shape == (COUNT,)
    assert normalized_mutual_information(labels, np.arange(COUNT) % 6) > 0.75
    first, second = (task().cluster(ArrayRows(clumps()), work, epoch) for epoch in (0, 1))
    assert not np.array_equal(first, second), "k-means starts from other rows each epoch"
    assert np.array_equal(second, task().cluster(ArrayRows(clumps()), work, 1))


def test_features_that_have_collapsed_are_an_error_that_says_so(work: StageContext) -> None:
    with pytest.raises(TransferError, match="collapse"):
        task().cluster(ArrayRows(np.ones((COUNT, 16), np.float32)), work, 0)


def test_each_epoch_has_its_own_head_and_labels(work: StageContext) -> None:
    pretext = task(layers=[64, 300], k=200, components=8, iterations=2)
    net = network(pretext)
    assert pretext.before_epoch(net, work, 0) == [net["head"]]
    first, labels = net["head"].weight.clone(), net.labels.clone()
    assert first.std().item() == pytest.approx(0.01, rel=0.03)
    assert abs(first.mean().item()) < 1e-3
    assert not net["head"].bias.any()
    assert net.nmi == 0
    assert len(labels.unique()) > 150
    net["head"].bias.data += 1
    pretext.before_epoch(net, work, 1)
    assert not torch.equal(net["head"].weight, first)
    assert not net["head"].bias.any()
    assert 0.3 < net.nmi < 1
    pretext.before_epoch(net, work, 0)
    assert torch.equal(net["head"].weight, first)
    assert torch.equal(net.labels, labels)


def test_clusters_may_stay_for_several_epochs(work: StageContext) -> None:
    pretext = task(reassign_every=3)
    net = network(pretext)
    assert [len(pretext.before_epoch(net, work, epoch)) for epoch in range(7)] == [
        1,
        0,
        0,
        1,
        0,
        0,
        1,
    ]


def test_an_epoch_has_every_cluster_equally_often_and_leaves_out_the_empty_ones(
    work: StageContext,
) -> None:
    pretext = task(k=6)
    net = network(pretext)
    labels = np.full(COUNT, 4)
    labels[:2], labels[2:50], labels[50:60] = 1, 2, 5  # 0 and 3 are empty
    net.labels.copy_(torch.from_numpy(labels))
    rows = pretext.order(net, work, 3)
    assert rows.shape == (COUNT,)
    assert np.bincount(labels[rows], minlength=6).tolist() == [0, 150, 150, 0, 150, 150]
    seen = np.bincount(rows, minlength=COUNT)
    assert seen[:2].tolist() == [75, 75]
    assert seen[2:50].max() - seen[2:50].min() == 1
    assert seen[60:].max() == 1  # of the large one, as many different images as there is room for
    assert len(set(labels[rows[:40]])) == 4, "clusters are mixed"
    assert not np.array_equal(rows, pretext.order(net, work, 4))
    assert np.array_equal(rows, pretext.order(net, work, 3))
    assert sorted(task(sampling="uniform").order(net, work, 3)) == list(range(COUNT))


def test_the_training_goes_through_that_order(
    work: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretext, seen = task(epochs=1, batch_size=30), []
    original = DeepCluster.loss

    def loss(self: DeepCluster, net: nn.ModuleDict, images: torch.Tensor, draw: Any) -> Any:
        seen.append((draw.ids, net.labels))
        return original(self, net, images, draw)

    monkeypatch.setattr(DeepCluster, "loss", loss)
    pretext.run(work)
    labels = seen[0][1]
    shown = torch.cat([labels[ids] for ids, _ in seen]).bincount(minlength=6)
    filled = labels.bincount(minlength=6) > 0
    assert shown[filled].max() - shown[filled].min() <= 1


def test_the_head_has_no_momentum_and_the_rest_has() -> None:
    pretext = task()
    net = network(pretext)
    groups = pretext.make_optimizer(net).param_groups
    own = {id(net["head"].weight), id(net["head"].bias)}
    momenta = {id(weight): group["momentum"] for group in groups for weight in group["params"]}
    assert {momenta[weight] for weight in own} == {0.0}
    assert {momentum for weight, momentum in momenta.items() if weight not in own} == {0.9}
    decays = {
        group["weight_decay"]
        for group in groups
        if own & {id(weight) for weight in group["params"]}
    }
    assert decays == {1e-5, 0.0}
    assert sum(len(group["params"]) for group in groups) == len(list(net.parameters()))


def test_it_learns_its_clusters(work: StageContext) -> None:
    # Six distant kinds, and 75 steps an epoch: the new head learns them within the epoch.
    pretext = task(
        batch_size=8, epochs=3, dropout=0.0, crop=0.5, optimizer="adamw", learning_rate=1e-3
    )
    pretext.run(work)
    history = Model(work.folder).history
    assert history[-1]["accuracy"] > 2 / 6
    assert history[-1]["loss"] < 0.95 * np.log(6)
    assert history[0]["nmi"] == 0 < history[-1]["nmi"]


def test_a_run_stopped_between_two_clusterings_ends_in_the_same_bytes(
    work: StageContext, tmp_path: Path
) -> None:
    results = []
    for name, stop_at in (("straight", None), ("stopped", 29)):  # 18 steps an epoch
        again: Any = make_work(tmp_path / name, work.images)
        if stop_at:
            again.__class__, again.stop_at = StopsAt, stop_at
            with pytest.raises(Interrupted):
                task(epochs=3).run(again)
            again = make_work(tmp_path / name, work.images)
        task(epochs=3).run(again)
        results.append(
            (again.folder / "model.safetensors").read_bytes()
            + (again.folder / "history.json").read_bytes()
        )
    assert results[0] == results[1]


def test_labellings_agree_under_any_names() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert normalized_mutual_information(labels, np.array([5, 5, 0, 0, 1, 1])) == pytest.approx(1)
    assert normalized_mutual_information(labels, np.array([0, 1, 0, 1, 0, 1])) == pytest.approx(
        0, abs=1e-9
    )


@pytest.mark.parametrize(
    ("options", "option"),
    [({"k": 601}, "k"), ({"components": 17}, "components"), ({"components": 600}, "components")],
)
def test_more_clusters_than_images_or_more_directions_than_values_are_refused(
    options: dict, option: str
) -> None:
    pack = namespace(stage=namespace(count=COUNT), label="set/train")
    with pytest.raises(InvalidOption) as caught:
        task(**options).validate_plan(namespace(images={"images": pack}))
    assert caught.value.option == option


def test_without_a_classifier_the_backbones_own_features_are_clustered(work: StageContext) -> None:
    pretext = task(layers=[])
    net = network(pretext)
    assert pretext.features(net, work).width == 64
    assert pretext.before_epoch(net, work, 0) == [net["head"]]
    with pytest.raises(ValueError, match="65 directions of 64 features"):
        network(task(layers=[], components=65))


def test_defaults_are_those_of_the_paper_and_its_code() -> None:
    published = make_stage(DeepCluster)
    assert (published.k, published.components, published.iterations) == (10000, 256, 20)
    assert (published.layers, published.dropout) == ([4096, 4096], 0.5)
    assert (published.optimizer, published.learning_rate, published.schedule) == (
        "sgd",
        0.05,
        "constant",
    )
    assert (published.batch_size, published.epochs, published.weight_decay) == (256, 200, 1e-5)
