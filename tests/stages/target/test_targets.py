"""Targets: each strategy against a literal computation, and rules that all of them keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stages.assign import Assign
from stages.cluster import Cluster
from stages.extract.hog import ExtractHog
from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare
from stages.target._memory_queue import MemoryQueue
from stages.target._projection_heads import linear_or_mlp
from stages.target._similarity_head import update_ema
from stages.target._teacher import check_live
from stages.target.multi_label import MultiLabel
from stages.target.regression import Regression
from stages.target.similarity import Similarity
from tests.stages.handmade import make_work, pack_images, run_stage, stop_after
from transfer.artifacts import Features, Images, Model, PseudoLabels
from transfer.datasets.drawings import render
from transfer.errors import Interrupted, InvalidOption, TransferError
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.models.timm_backbone import SMALL
from transfer.stage.base import Stage
from transfer.stage.registry import find_stage, stage_names
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.training.recipe import TrainableStage
from transfer.training.target_task import Target
from transfer.transforms.normalize import Normalization, normalize

COUNT, SIZE = 96, 32
CONV4 = {"name": "conv4", "width": 0.5}
RECIPE: dict[str, Any] = {
    "backbone": CONV4,
    "epochs": 3,
    "batch_size": 32,
    "optimizer": "adamw",
    "learning_rate": 3e-3,
}
STRATEGIES = [name for name in stage_names() if name.startswith("target/")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    pixels = render.render("train", range(COUNT))[:, ::2, ::2]
    return pack_images(
        tmp_path_factory.mktemp("set"), np.ascontiguousarray(pixels), render.labels("train")[:COUNT]
    )


@pytest.fixture(scope="module")
def taught(images: Images, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A teacher, its features, also prepared, and their clusters and pseudo-labels."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "model").mkdir()
    Model.write(
        folder / "model",
        build_network(backbone({"name": "conv4"}), 3),
        size=SIZE,
        normalization=Normalization(),
        made_by={},
        history=[],
    )
    made: dict[str, Any] = {"model": Model(folder / "model")}
    extract = ExtractNetwork(
        model="model", layer="conv3", pool=1, pooling="average", dtype="float32"
    )
    made["features"] = run_stage(extract, folder / "f", {"images": images}, model=made["model"])
    prepare = Prepare(features="features", components=8, dtype="float32")
    made["prepared"] = run_stage(prepare, folder / "p", features=made["features"])
    made["clusters"] = run_stage(
        Cluster(features="p", k=5), folder / "c", features=made["prepared"]
    )
    inputs = {"features": made["prepared"], "clusters": made["clusters"]}
    made["labels"] = run_stage(Assign(features="p", clusters="c"), folder / "l", **inputs)
    made["more clusters"] = run_stage(
        Cluster(features="p", k=9), folder / "c9", features=made["prepared"]
    )
    inputs["clusters"] = made["more clusters"]
    made["more labels"] = run_stage(Assign(features="p", clusters="c"), folder / "l9", **inputs)
    return made


def strategy(name: str, taught: dict[str, Any], **options: Any) -> tuple[Target, dict[str, Any]]:
    """A strategy and what it reads."""
    prepared = {"features": taught["prepared"]}
    small = {"hidden_dim": 16, "anchors": 64, "ema": 0.5}  # of those options that a strategy has
    kind: Any = find_stage(name, Path.cwd())
    options = (
        RECIPE | {key: value for key, value in small.items() if key in kind.model_fields} | options
    )
    if name == "target/pseudo_label":
        return kind(labels="l", **options), {"labels": taught["labels"]}
    if name == "target/multi_label":
        both = {"labels.0": taught["labels"], "labels.1": taught["more labels"]}
        return kind(labels=["l", "m"], **options), both
    if name == "target/soft_label":
        return kind(features="p", clusters="c", **options), prepared | {
            "clusters": taught["clusters"]
        }
    return kind(features="p", **options), prepared


VARIANTS = [(name, {}) for name in STRATEGIES] + [
    ("target/regression", {"head": "linear", "loss": "l2"}),
    ("target/similarity", {"queues": 2}),
    ("target/similarity", {"queues": 2, "ema": 0.0, "head": "mlp"}),
    ("target/similarity", {"queues": 2, "head": "identity"}),
    ("target/similarity", {"variant": "seed"}),
    ("target/pseudo_label", {"sampling": "balanced"}),
]
IDS = [
    " ".join([name.partition("/")[2], *map(str, options.values())]) for name, options in VARIANTS
]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_every_strategy_learns(
    name: str, options: dict, taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy(name, taught, epochs=10, crop=0.7, **options)
    history = run_stage(stage, tmp_path, {"images": images}, **inputs).history
    # The first epoch of a queue is one in which it is nearly empty.
    assert history[-1]["loss"] < 0.95 * history[1]["loss"]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_the_same_seed_gives_the_same_bytes_and_resumed_equals_straight(
    name: str, options: dict, taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy(name, taught, **options)
    straight = run_stage(stage, tmp_path / "a", {"images": images}, **inputs)
    again = run_stage(stage, tmp_path / "b", {"images": images}, **inputs)
    assert weights(straight.folder) == weights(again.folder)
    work = make_work(tmp_path / "c", {"images": images}, inputs)
    stop_after(work, 5)
    with pytest.raises(Interrupted):
        stage.run(work)
    assert (work.checkpoints / "training.safetensors").exists()
    resumed = run_stage(stage, tmp_path / "c", {"images": images}, **inputs)
    assert weights(resumed.folder) == weights(straight.folder)
    assert resumed.history == straight.history
    seeded = make_work(tmp_path / "d", {"images": images}, inputs, seed=1)
    stage.run(seeded)
    assert weights(seeded.folder) != weights(straight.folder)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_what_is_kept_is_the_backbone_alone_and_every_part_of_it_learned(
    name: str, options: dict, taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy(name, taught, **options)
    work = make_work(tmp_path, {"images": images}, inputs)
    stage.run(work)
    made, fresh = (
        Model(work.folder).network(),
        build_network(stage.backbone, work.seed_for("weights")),
    )
    assert list(made.state_dict()) == list(fresh.state_dict())
    for (part, before), after in zip(fresh.named_parameters(), made.parameters(), strict=True):
        assert not torch.equal(before, after), part


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_every_strategy_learns_on_a_gpu(
    name: str, options: dict, taught: dict, images: Images, tmp_path: Path
) -> None:
    asks_live = name in ("target/soft_label", "target/regression", "target/similarity")
    live = {"live": "m"} if asks_live else {}
    for number, more in enumerate([{}, live] if live else [{}]):
        stage, inputs = strategy(name, taught, epochs=10, crop=0.7, **options, **more)
        inputs |= {"live": taught["model"]} if more else {}
        runtime: Any = {"device_name": "cuda", "precision_name": "auto"}
        work = make_work(tmp_path / str(number), {"images": images}, inputs, **runtime)
        stage.run(work)
        history = Model(work.folder).history
        assert history[-1]["loss"] < 0.95 * history[1]["loss"]


def features_of(folder: Path, ids: list[str], values: np.ndarray) -> Features:
    folder.mkdir()
    facts = {"space": {"made": "by hand"}, "layer": "none", "images": "images", "preparation": []}
    write_table(folder / "features.h5", {"features": values, "ids": encode_strings(ids)}, **facts)
    return Features(folder)


@pytest.mark.parametrize("name", ["target/regression", "target/similarity"])
def test_features_are_joined_by_id_and_images_without_are_left_out(
    name: str, taught: dict, images: Images, tmp_path: Path
) -> None:
    values = taught["prepared"].table.read("features")
    order = np.random.RandomState(0).permutation(COUNT)
    turned = features_of(tmp_path / "turned", [images.ids[row] for row in order], values[order])
    stage, _ = strategy(name, taught)
    straight = run_stage(stage, tmp_path / "a", {"images": images}, features=taught["prepared"])
    other = run_stage(stage, tmp_path / "b", {"images": images}, features=turned)
    assert weights(straight.folder) == weights(other.folder)
    some = features_of(tmp_path / "some", images.ids[:80], values[:80])
    work = make_work(tmp_path / "c", {"images": images}, {"features": some})
    stage.run(work)
    assert work.notes == ["16 of 96 images have no features and are left out"]
    one = features_of(tmp_path / "one", [images.ids[0], "other/0"], values[:2])
    with pytest.raises(
        TransferError, match=r"1 image has features: 1 part of a batch of 1: .* need two images"
    ):
        run_stage(
            stage.model_copy(update={"head": "mlp"}),
            tmp_path / "e",
            {"images": images},
            features=one,
        )
    others = features_of(tmp_path / "others", [f"other/{row}" for row in range(COUNT)], values)
    with pytest.raises(TransferError, match="none of the images has features"):
        run_stage(stage, tmp_path / "d", {"images": images}, features=others)


# What each asks.


def at_the_start(
    stage: Target, work: Any, images: Images, head: Callable[[int], torch.nn.Module]
) -> torch.Tensor:
    """The output of an untrained head for all images, uncropped, as in the first training step."""
    network = build_network(stage.backbone, work.seed_for("weights")).train()
    pixels = torch.from_numpy(np.array(images.pixels)).permute(0, 3, 1, 2)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(work.seed_for("weights"))
        ours = head(network.shapes(SIZE)["avgpool"][0])
        return ours.train()(network(normalize(pixels, Normalization())).flatten(1))


WHOLE = {"epochs": 1, "batch_size": COUNT, "crop": 1.0, "flip": 0.0}


def first_loss(
    stage: Target, tmp_path: Path, images: Images, inputs: dict[str, Any]
) -> tuple[dict[str, float], Any]:
    work = make_work(tmp_path, {"images": images}, inputs)
    stage.run(work)
    return Model(work.folder).history[0], work


def test_soft_labels_are_a_softmax_of_distances(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy("target/soft_label", taught, temperature=0.3, **WHOLE)
    found, work = first_loss(stage, tmp_path, images, inputs)
    logits = (
        at_the_start(stage, work, images, lambda width: torch.nn.Linear(width, 5)).double().numpy()
    )
    rows, centroids = (
        taught["prepared"].table.read("features").astype(np.float64),
        taught["clusters"].centroids,
    )
    distance = np.array([[np.square(row - one).sum() for one in centroids] for row in rows])
    loss = 0.0
    for row in range(COUNT):
        odds = [math.exp(-one / (0.3 * distance.min(axis=1).mean())) for one in distance[row]]
        log_said = logits[row] - math.log(sum(math.exp(one) for one in logits[row]))
        loss -= (
            sum(odd / sum(odds) * said for odd, said in zip(odds, log_said, strict=True)) / COUNT
        )
    assert found["loss"] == pytest.approx(loss, rel=1e-4)


def test_at_no_temperature_soft_labels_are_the_hard_ones(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    soft, inputs = strategy("target/soft_label", taught, temperature=1e-6)
    hard, labels = strategy("target/pseudo_label", taught)
    ours = run_stage(soft, tmp_path / "a", {"images": images}, **inputs).history
    theirs = run_stage(hard, tmp_path / "b", {"images": images}, **labels).history
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)


def test_several_clusterings_count_alike(taught: dict, images: Images, tmp_path: Path) -> None:
    stage, inputs = strategy("target/multi_label", taught, **WHOLE)
    found, work = first_loss(stage, tmp_path, images, inputs)

    class Both(torch.nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.heads = torch.nn.ModuleList(torch.nn.Linear(width, count) for count in (5, 9))

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return torch.cat([head(seen) for head in self.heads], dim=1)

    both = at_the_start(stage, work, images, Both).split([5, 9], dim=1)
    each = [taught[name].labels for name in ("labels", "more labels")]
    losses = [
        F.cross_entropy(said, torch.from_numpy(wanted))
        for said, wanted in zip(both, each, strict=True)
    ]
    assert found["loss"] == pytest.approx(float(sum(losses)) / 2, rel=1e-4)


@pytest.mark.parametrize("measure", ["l2", "cosine"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_regression_is_how_far_features_are_off(
    measure: str, head: str, taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy("target/regression", taught, loss=measure, head=head, **WHOLE)
    found, work = first_loss(stage, tmp_path, images, inputs)
    said = at_the_start(
        stage, work, images, lambda width: linear_or_mlp(head, width, 16, 8)
    ).numpy()
    wanted = taught["prepared"].table.read("features")
    if measure == "l2":
        expected = np.square(said - wanted).mean() / wanted.var(axis=0).mean()
    else:
        lengths = np.linalg.norm(said, axis=1) * np.linalg.norm(wanted, axis=1)
        expected = 1 - ((said * wanted).sum(axis=1) / lengths).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["cosine" if measure == "cosine" else "variance explained"] == pytest.approx(
        1 - expected, abs=1e-4
    )


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize(("positive", "own"), [(False, None), (False, 3), (True, None)])
def test_cosines_to_anchors_are_those_of_a_literal_loop(positive: bool, own: int | None) -> None:
    """Eleven images in random order: the anchors are the latest of each, but not the image."""
    torch.manual_seed(0)
    queue, width, random = MemoryQueue(6, 11, 4, own), own or 4, np.random.RandomState(0)
    came: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for _ in range(12):
        batch = torch.from_numpy(random.permutation(11)[:2]), unit(2, 4), unit(2, width)
        queue.enqueue(batch[0], batch[1], batch[2] if own else None)
        queue.flush()
        came += zip(batch[0].tolist(), *batch[1:], strict=True)
        last = {number: (one, two) for number, one, two in came[-6:]}
        ids, said, wanted = torch.arange(11), unit(11, width), unit(11, 4)
        ours, theirs = queue.logits(ids, said, wanted, 0.5, 0.25, positive)
        for image in range(11):
            others = [pair for number, pair in last.items() if number != image]
            expected = sorted(float(wanted[image] @ one) / 0.25 for one, _ in others)
            literal = sorted(
                float(said[image] @ (two if own else one)) / 0.5 for one, two in others
            )
            for found, values in ((theirs[image], expected), (ours[image], literal)):
                kept = found[:-1]
                assert sorted(kept[kept > -100].tolist()) == pytest.approx(values, abs=1e-5)
            if positive:
                assert theirs[image, -1] == 4
                assert float(ours[image, -1]) == pytest.approx(
                    float(said[image] @ wanted[image]) / 0.5, abs=1e-5
                )


def test_both_sides_of_a_queue_are_of_the_same_images() -> None:
    queue = MemoryQueue(4, 20, 2, 3)
    for number in range(6):
        queue.enqueue(
            torch.tensor([number]),
            torch.full((1, 2), float(number)),
            torch.full((1, 3), float(number)),
        )
        queue.flush()
    assert queue.own is not None
    assert queue.teacher[:-1, 0].tolist() == queue.own[:-1, 0].tolist() == queue.image[:-1].tolist()
    assert sorted(queue.teacher[:-1, 0].tolist()) == [2, 3, 4, 5]
    # More than it holds.
    queue.enqueue(torch.arange(9) + 6, torch.arange(18.0).view(9, 2), torch.arange(27.0).view(9, 3))
    queue.flush()
    assert sorted(queue.teacher[:-1, 0].tolist()) == [10, 12, 14, 16]
    assert sorted(queue.image[:-1].tolist()) == [11, 12, 13, 14]
    assert [int(queue.place[one]) < 4 for one in (2, 5, 10, 11, 14)] == [
        False,
        False,
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("variant", ["compress", "seed"])
def test_the_loss_is_the_cross_entropy_of_two_softmaxes(
    variant: str, taught: dict, images: Images, tmp_path: Path
) -> None:
    """With a tiny learning rate, the second epoch's anchors are all images of the first step."""
    options = {
        **WHOLE,
        "epochs": 2,
        "anchors": COUNT,
        "learning_rate": 1e-12,
        "optimizer": "sgd",
        "variant": variant,
    }
    stage, inputs = strategy("target/similarity", taught, **options)
    _, work = first_loss(stage, tmp_path, images, inputs)
    rows = F.normalize(torch.from_numpy(taught["prepared"].table.read("features")), dim=1)
    said = at_the_start(stage, work, images, lambda width: torch.nn.Linear(width, 8))
    said = F.normalize(said, dim=1).double().numpy()
    rows = rows.double().numpy()
    own, theirs = {"compress": (0.04, 0.04), "seed": (0.2, 1e-4)}[variant]

    def softmax(values: list[float], temperature: float) -> list[float]:
        odds = [math.exp((one - max(values)) / temperature) for one in values]
        return [odd / sum(odds) for odd in odds]

    total = 0.0
    for image in range(COUNT):
        others = np.delete(rows, image, axis=0)
        ours, wanted = ([float(one[image] @ anchor) for anchor in others] for one in (said, rows))
        if variant == "seed":
            ours, wanted = [float(said[image] @ rows[image]), *ours], [1.0, *wanted]
        for p, q in zip(softmax(wanted, theirs), softmax(ours, own), strict=True):
            total -= p * math.log(q) / COUNT
    assert Model(work.folder).history[1]["loss"] == pytest.approx(total, rel=1e-3)


def test_the_second_queue_is_filled_by_the_slow_copy(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    """The copy hardly moves, and without `ema` it is the target: they differ from step 3 on."""
    options = {"queues": 2, "epochs": 4, "batch_size": 48, "anchors": 90, "learning_rate": 0.05}
    histories = []
    for ema in (0.0, 1 - 1e-7):
        stage, inputs = strategy("target/similarity", taught, ema=ema, **options)
        histories.append(
            run_stage(stage, tmp_path / str(ema), {"images": images}, **inputs).history
        )
    losses = [[epoch["loss"] for epoch in one] for one in histories]
    assert losses[0][0] == pytest.approx(
        losses[1][0], rel=1e-4
    )  # two steps: an empty queue, then the outputs of the first
    assert losses[0][3] != pytest.approx(losses[1][3], rel=1e-3)


def test_the_slow_copy_is_a_moving_average() -> None:
    def network() -> tuple[torch.nn.Linear, torch.nn.BatchNorm1d]:
        return torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)

    slow_linear, slow_norm = network()
    fast_linear, fast_norm = network()
    slow = torch.nn.Sequential(slow_linear, slow_norm)
    fast = torch.nn.Sequential(fast_linear, fast_norm)
    fast(torch.randn(8, 3))
    before, now = slow_linear.weight.detach().clone(), fast_linear.weight.detach().clone()
    with torch.no_grad():
        update_ema(slow, fast, 0.9)
    torch.testing.assert_close(slow_linear.weight.detach(), 0.9 * before + 0.1 * now)
    assert slow_norm.running_mean is not None
    assert fast_norm.running_mean is not None
    assert torch.equal(slow_norm.running_mean, fast_norm.running_mean)


# The teacher.


@pytest.mark.parametrize("name", ["target/soft_label", "target/regression", "target/similarity"])
def test_the_teacher_runs_only_where_it_is_asked_to(
    name: str, taught: dict, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, inputs = strategy(name, taught, crop=1.0, flip=0.0)
    live, _ = strategy(name, taught, crop=1.0, flip=0.0, live="m")
    loaded: list[Model] = []
    network = Model.network
    monkeypatch.setattr(Model, "network", lambda self: loaded.append(self) or network(self))
    kept = run_stage(stage, tmp_path / "a", {"images": images}, **inputs).history
    assert not loaded
    asked = run_stage(
        live, tmp_path / "b", {"images": images}, **inputs, live=taught["model"]
    ).history
    assert loaded == [taught["model"]]
    # Of whole images it computes the saved features.
    for one, other in zip(kept, asked, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-3, abs=1e-5)


def test_a_live_teacher_sees_the_crops(
    taught: dict, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, inputs = strategy("target/regression", taught, crop=0.3, live="m")
    before = (taught["model"].folder / "model.safetensors").read_bytes()
    seen, cut = [], []
    augment = type(stage).augment
    monkeypatch.setattr(type(stage), "augment", lambda *args: cut.append(augment(*args)) or cut[-1])
    monkeypatch.setattr(
        "stages.target._teacher.normalize",
        lambda crops, how: seen.append(crops) or normalize(crops, how),
    )
    run_stage(stage, tmp_path, {"images": images}, **inputs, live=taught["model"])
    assert len(seen) == len(cut) == 9
    assert all(one is other for one, other in zip(seen, cut, strict=True))
    assert before == (taught["model"].folder / "model.safetensors").read_bytes()


def test_features_too_large_for_memory_are_mapped_and_say_the_same(
    taught: dict, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, inputs = strategy("target/regression", taught)
    held = run_stage(stage, tmp_path / "a", {"images": images}, **inputs)
    monkeypatch.setattr("stages.target._teacher.MEMORY_BUDGET", 10)
    mapped = run_stage(stage, tmp_path / "b", {"images": images}, **inputs)
    assert weights(held.folder) == weights(mapped.folder)
    assert (tmp_path / "b" / "checkpoints" / "features-0.npy").exists()


def test_several_teachers_have_a_head_each(taught: dict, images: Images, tmp_path: Path) -> None:
    stage, _ = strategy("target/regression", taught, head="linear", loss="cosine", **WHOLE)
    both = stage.model_copy(update={"features": ["p", "f"]})
    inputs = {"features.0": taught["prepared"], "features.1": taught["features"]}
    found, work = first_loss(both, tmp_path / "r", images, inputs)
    widths = [one.shape[1] for one in inputs.values()]

    class Both(torch.nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.heads = torch.nn.ModuleList(torch.nn.Linear(width, one) for one in widths)

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return torch.cat([head(seen) for head in self.heads], dim=1)

    said = at_the_start(both, work, images, Both).split(widths, dim=1)
    each = [torch.from_numpy(one.table.read("features")) for one in inputs.values()]
    losses = [1 - F.cosine_similarity(a, b).mean() for a, b in zip(said, each, strict=True)]
    assert found["loss"] == pytest.approx(float(sum(losses)) / 2, rel=1e-4)
    similar, _ = strategy("target/similarity", taught)
    made = run_stage(
        similar.model_copy(update={"features": ["p", "f"]}),
        tmp_path / "s",
        {"images": images},
        **inputs,
    )
    assert len(made.history) == 3


def test_a_target_may_be_fed_smaller_images_than_its_teacher(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy("target/regression", taught, size=16)
    made = run_stage(stage, tmp_path, {"images": images}, **inputs)
    assert made.card.size == 16
    assert made.layers["conv1"][1:] == [8, 8]


# Small networks.


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_of_timm_are_targets(
    name: str, taught: dict, images: Images, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    stage, inputs = strategy("target/regression", taught, backbone={"name": name}, epochs=1)
    made = run_stage(stage, tmp_path, {"images": images}, **inputs)
    assert math.isfinite(made.history[0]["loss"])
    assert made.network()(torch.rand(2, 3, SIZE, SIZE)).shape == (2, made.layers["embedding"][0])


# What cannot be.


def planned(name: str, stage: Stage | None = None, **inputs: Any) -> Any:
    pack, stage = SimpleNamespace(key="set", stage=SimpleNamespace(count=100)), stage or Stage()
    return SimpleNamespace(
        name=name, key=name, uses="some/stage", stage=stage, images={"images": pack}, inputs=inputs
    )


NETWORK = planned("network")
RAW = planned("raw", ExtractNetwork(model="network"), model=NETWORK)
ONCE = planned("once", Prepare(features="raw"), features=RAW)
TWICE = planned("twice", Prepare(features="once"), features=ONCE)
TAKEN = planned("taken", Prepare(features="raw", like="once"), features=RAW, like=ONCE)


@pytest.mark.parametrize(
    ("features", "live", "message"),
    [
        ([RAW], None, None),
        ([RAW], NETWORK, None),
        ([ONCE], NETWORK, None),
        ([TAKEN], NETWORK, None),
        ([TWICE], NETWORK, "prepared more than once; put all `steps` into one stage"),
        (
            [
                planned(
                    "both",
                    Prepare(features=["raw", "hog"]),
                    **{"features.0": RAW, "features.1": RAW},
                )
            ],
            NETWORK,
            "joins several features",
        ),
        ([planned("hog", ExtractHog())], NETWORK, "does not come from a network"),
        ([RAW], planned("other"), "comes from 'network', not from 'other'"),
        ([RAW, ONCE], NETWORK, "works with one teacher only"),
    ],
)
def test_a_live_teacher_is_that_of_the_features(
    features: list, live: Any, message: str | None
) -> None:
    if message is None:
        check_live(features, live)
    else:
        with pytest.raises(InvalidOption, match=message):
            check_live(features, live)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors": 101}, "101 anchors of 100 images: at most 100"),
        ({"variant": "seed", "queues": 2}, "`variant: seed` has one queue"),
        ({"head": "identity"}, "linear or mlp"),
        ({"head": "mlp", "batch_size": 4, "accumulation_steps": 4}, "4 parts of a batch of 4"),
    ],
)
def test_queues_that_cannot_be_are_told_in_the_plan(options: dict, message: str) -> None:
    stage = Similarity(features="raw", **({**RECIPE, "anchors": 50} | options))
    with pytest.raises(InvalidOption, match=message):
        stage.validate_plan(planned("it", stage, features=RAW))


def test_the_same_features_or_labels_twice_are_a_mistake() -> None:
    for kind in (Regression, Similarity):
        stage = kind(features=["raw", "raw"])
        with pytest.raises(InvalidOption, match="twice"):
            stage.validate_plan(planned("it", stage, **{"features.0": RAW, "features.1": RAW}))
    labels = MultiLabel(labels=["raw", "raw"])
    with pytest.raises(InvalidOption, match="twice"):
        labels.validate_plan(planned("it", labels, **{"labels.0": RAW, "labels.1": RAW}))


@pytest.mark.parametrize("name", ["target/soft_label", "target/regression", "target/similarity"])
def test_features_that_say_nothing_are_refused(
    name: str, taught: dict, images: Images, tmp_path: Path
) -> None:
    values = taught["prepared"].table.read("features")
    stage, inputs = strategy(name, taught)
    holed = values.copy()
    holed[41, 2] = np.nan
    same = np.repeat(values[:1], COUNT, axis=0)
    for number, (bad, message) in enumerate(
        [(holed, f"features of {images.ids[41]} are not finite"), (same, "the same")]
    ):
        folder = tmp_path / f"f{number}"
        folder.mkdir()
        facts = {
            "space": taught["prepared"].space,
            "layer": "conv3",
            "images": "images",
            "preparation": [],
        }
        write_table(
            folder / "features.h5", {"features": bad, "ids": encode_strings(images.ids)}, **facts
        )
        with pytest.raises(TransferError, match=message):
            run_stage(
                stage,
                tmp_path / f"w{number}",
                {"images": images},
                **(inputs | {"features": Features(folder)}),
            )


def test_labels_of_different_sets_have_no_image_in_common(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    labels = taught["labels"]
    for name, part in (("first", slice(0, 40)), ("last", slice(40, COUNT))):
        (tmp_path / name).mkdir()
        some = labels.labels[part], labels.cluster_ids, *(np.zeros(len(labels.ids[part])),) * 2
        PseudoLabels.write(
            tmp_path / name, labels.ids[part], *some, clusters="c", k=5, features="f"
        )
    both = {
        f"labels.{place}": PseudoLabels(tmp_path / name)
        for place, name in enumerate(("first", "last"))
    }
    stage, _ = strategy("target/multi_label", taught)
    with pytest.raises(
        TransferError, match="no image has a label in each clustering; the sets differ"
    ):
        run_stage(stage, tmp_path / "w", {"images": images}, **both)


def test_without_a_number_a_queue_is_the_variants_and_at_most_half_of_the_set(
    taught: dict, images: Images, tmp_path: Path
) -> None:
    stage, inputs = strategy("target/similarity", taught, anchors=None)
    work = make_work(tmp_path, {"images": images}, inputs)
    stage.run(work)
    assert work.figures["anchors"] == COUNT // 2


@pytest.mark.parametrize("name", [name for name in stage_names() if "tests" not in name])
def test_no_option_of_the_recipe_is_taken_for_something_else(name: str) -> None:
    kind = find_stage(name, Path.cwd())
    if issubclass(kind, TrainableStage):
        for option in (
            "optimizer",
            "learning_rate",
            "momentum",
            "weight_decay",
            "warmup_epochs",
            "accumulation_steps",
        ):
            ours, theirs = (
                str(base.model_fields[option].description).split(";")[0]
                for base in (kind, TrainableStage)
            )
            assert ours == theirs, option


def test_the_slow_copy_has_no_dropout_and_its_batch_norms_work_as_in_training() -> None:
    from torch import nn

    from stages.target._similarity_head import SimilarityHead
    from transfer.transforms.normalize import Normalization

    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    head = SimilarityHead(backbone, [nn.Linear(8, 4)], [], has_slow_copy=True).train()
    crops = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    first, second = (head.slow_features(crops, Normalization())[0] for _ in range(2))
    assert torch.equal(first, second)
    assert head.slow is not None
    assert head.slow["backbone"][2].training
    assert backbone.training
