from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.evaluate.knn import Knn, vote
from stages.evaluate.linear import Linear
from tests.stages.handmade import make_work, pack_images, pinned, run_stage
from transfer.artifacts import Images, Model
from transfer.datasets.drawings import render
from transfer.errors import TransferError
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.transforms.normalize import Normalization

TRAIN, TEST = 300, 200
LINEAR = {"conv1": 20.5, "conv2": 32.0, "conv3": 33.5, "conv4": 38.5, "avgpool": 17.0, "best": 33.5}
KNN = {"knn": 32.0, "1-nn": 31.0}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        split: pack_images(
            folder / split, render.render(split, range(n)), render.labels(split)[:n], split
        )
        for split, n in (("train", TRAIN), ("test", TEST))
    }


def model(folder: Path, spec: str | dict[str, Any] = "conv4", spoil: float | None = None) -> Model:
    folder.mkdir()
    network = build_network(backbone(spec), 0)
    if spoil is not None:
        with torch.no_grad():
            next(network.parameters()).fill_(spoil)
    Model.write(folder, network, size=64, normalization=Normalization(), made_by={}, history=[])
    return Model(folder)


def test_a_probe_names_its_protocol_what_was_selected_on_what_and_every_count(
    sets: dict, tmp_path: Path
) -> None:
    card = run_stage(
        Linear(model="model", epochs=5), tmp_path / "w", sets, model=model(tmp_path / "m")
    ).card
    assert card.protocol == "linear/pooled-v1 (epochs 5)"
    assert Linear(model="model", epochs=40).protocol_name() == "linear/pooled-v1"
    assert card.counts == {"train": 270, "selection": 30, "test": 200}
    assert set(card.figures) == {"best", "conv1", "conv2", "conv3", "conv4", "avgpool"}
    assert card.figures["best"] == card.figures[card.selected["layer"]]
    assert "held out" in card.selected["on"]
    assert card.settings["learning_rate"] == 0.01


def test_figures_of_random_weights_do_not_drift(sets: dict, tmp_path: Path) -> None:
    fixed = model(tmp_path / "m")
    linear = run_stage(
        Linear(model="model", epochs=20), tmp_path / "linear", sets, model=fixed
    ).figures
    knn = run_stage(
        Knn(model="model", layer="conv3", pool=4), tmp_path / "knn", sets, model=fixed
    ).figures
    # Accuracies are counts of 200 images; another processor's rounding may move one or two of them.
    assert linear == pinned(LINEAR, elsewhere=1.01)
    assert knn == pinned(KNN, elsewhere=1.01)


def test_the_same_probe_twice_gives_the_same_bytes(sets: dict, tmp_path: Path) -> None:
    fixed = model(tmp_path / "m")
    made = [
        run_stage(Linear(model="model", epochs=3), tmp_path / str(i), sets, model=fixed)
        for i in range(2)
    ]
    assert (
        made[0].folder.joinpath("scores.json").read_bytes()
        == made[1].folder.joinpath("scores.json").read_bytes()
    )
    assert (
        made[0].folder.joinpath("scores.h5").read_bytes()
        == made[1].folder.joinpath("scores.h5").read_bytes()
    )


def test_what_a_layer_knows_perfectly_is_probed_perfectly(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, 200)
    pixels = (random.randint(0, 60, (200, 32, 32, 3)) + 150 * labels[:, None, None, None]).astype(
        np.uint8
    )
    both = {role: pack_images(tmp_path / role, pixels, labels, role) for role in ("train", "test")}
    fixed = model(tmp_path / "m")
    assert (
        run_stage(Linear(model="model"), tmp_path / "l", both, model=fixed).figures["conv1"] == 100
    )
    assert (
        run_stage(Knn(model="model", layer="conv1"), tmp_path / "k", both, model=fixed).figures[
            "1-nn"
        ]
        == 100
    )


def test_the_vote_equals_a_literal_loop() -> None:
    random = np.random.RandomState(0)
    labels = random.randint(0, 7, (50, 9))
    similarity = np.sort(random.uniform(-1, 1, (50, 9)), axis=1)[:, ::-1].astype(np.float32)
    expected = []
    for row in range(50):
        totals = [0.0] * 7
        for label, value in zip(labels[row], similarity[row], strict=True):
            totals[label] += float(np.exp(np.float64(value) / 0.07))
        expected.append(int(np.argmax(totals)))
    assert vote(labels, similarity, 0.07).tolist() == expected


@pytest.mark.parametrize("kind", [Linear, Knn])
def test_features_that_are_no_numbers_are_an_error(kind: type, sets: dict, tmp_path: Path) -> None:
    work = make_work(tmp_path, sets, {"model": model(tmp_path / "m", spoil=float("nan"))})
    with pytest.raises(TransferError, match="finite number"):
        kind(model="model").run(work)


@pytest.mark.parametrize(
    ("pick", "message"),
    [(slice(0, 300, 10), "one label"), (slice(0, 7), "7 training images are too few")],
)
def test_a_training_split_that_teaches_nothing_is_refused(
    pick: slice, message: str, sets: dict, tmp_path: Path
) -> None:
    train = sets["train"]
    few = pack_images(tmp_path / "few", np.array(train.pixels)[pick], train.labels[pick])
    with pytest.raises(TransferError, match=message):
        Linear(model="model").run(
            make_work(
                tmp_path, {"train": few, "test": sets["test"]}, {"model": model(tmp_path / "m")}
            )
        )


# With fixed weights and images.
PUBLISHED = {
    "zhang2016": {"best": 28.0, "conv1": 20.5, "conv2": 28.0, "conv3": 22.0, "conv4": 24.0},
    "deepcluster": {"best": 19.5, "conv1": 19.5, "conv2": 15.0, "conv3": 10.0, "conv4": 10.0},
    "vissl_alexnet": {"best": 27.5, "conv1": 20.5, "conv2": 27.5, "conv3": 21.5, "conv4": 25.0},
    "vissl_resnet": {"best": 22.0, "conv1": 17.5, "conv2": 21.5, "conv3": 21.0, "conv4": 22.0},
    "relational2020": {"avgpool": 10.5, "best": 10.5},
    "compress": {"avgpool": 14.5, "best": 14.5},
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", PUBLISHED)
def test_published_probes_do_not_drift(variant: Any, sets: dict, tmp_path: Path) -> None:
    probe = Linear(model="model", variant=variant, epochs=12)
    card = run_stage(probe, tmp_path / "w", sets, model=model(tmp_path / "m")).card
    version = "v2" if variant in ("zhang2016", "deepcluster", "compress") else "v1"
    size = "" if variant == "relational2020" else ", size 64"
    assert card.protocol == f"linear/{variant}-{version} (epochs 12{size})"
    assert card.counts == {"train": 300, "selection": 0, "test": 200}
    assert card.selected["on"] == (
        "the test split" if len(card.figures) > 2 else "nothing: one layer is probed"
    )
    assert card.figures == pinned(PUBLISHED[variant], elsewhere=1.01)


def test_a_probe_of_other_layers_or_another_recipe_is_another_result() -> None:
    probe = Linear(model="model")
    assert Linear(model="model", epochs=40, dimensions=9216).identity() == probe.identity()
    others: list[dict[str, Any]] = [
        {"layers": ["conv1"]},
        {"epochs": 39},
        {"variant": "vissl_alexnet"},
        {"batch_size": 128},
    ]
    for other in others:
        assert Linear(model="model", **other).identity() != probe.identity()


def test_crops_of_larger_images_are_antialiased_and_lie_where_they_are_said_to() -> None:
    from stages.evaluate._probe_crops import fixed_crops, random_crop
    from transfer.transforms.per_image_rng import PerImageRng

    noise = torch.from_numpy(
        np.random.RandomState(0).randint(0, 256, (4, 3, 128, 128)).astype(np.uint8)
    )
    small = torch.nn.functional.interpolate(
        noise.float() / 255, size=32, mode="bilinear", antialias=True
    )
    assert torch.allclose(fixed_crops(noise, 1.0, 32, ten=False)[0], small, atol=1e-5)
    assert (
        random_crop(noise, PerImageRng(0, torch.arange(4)), 0.875, 28).std()
        < 0.75 * noise.div(255).std()
    )
    ramp = torch.linspace(0, 1, 16).expand(1, 3, 16, 16).clone()
    ten = fixed_crops(ramp, 0.5, 8, ten=True)
    assert len(ten) == 10
    # middle, then the corners: left, right, left, right; each mirrored
    for crop, first in zip(ten[::2], (4, 0, 8, 0, 8), strict=True):
        assert torch.allclose(crop[0, 0, 0], ramp[0, 0, 0, first : first + 8], atol=1e-5)
    assert all(
        torch.allclose(one.flip(-1), other, atol=1e-5)
        for one, other in zip(ten[::2], ten[1::2], strict=True)
    )


def test_a_batch_norm_before_a_head_normalizes_channels_over_their_grid() -> None:
    from stages.evaluate._linear_head import Head

    features = torch.randn(64, 3 * 4) * 5 + 2
    head = Head("batch", torch.zeros(12), torch.ones(12), 2, channels=3).train()
    with torch.no_grad():
        head.linear.weight[0, 0] = 1.0
    wanted = torch.nn.BatchNorm1d(3, affine=False)(features.view(64, 3, 4)).flatten(1)[:, 0]
    assert torch.allclose(head(features)[:, 0], wanted, atol=1e-5)


def test_rows_of_unit_length_are_standardized_as_compress_does(tmp_path: Path) -> None:
    from stages.evaluate._linear_head import feature_statistics

    # UMBCvision/CompRess, eval_linear.py: (x - mean) / sqrt(variance + 1e-5), x at unit length.
    rows = np.random.RandomState(0).rand(200, 64).astype(np.float32)
    rows[:, :20] = 0  # units that never fire
    mean, scale = feature_statistics(rows, np.arange(200), "l2")
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert torch.allclose(mean, torch.from_numpy(unit.mean(0)), atol=1e-6)
    expected = 1 / np.sqrt(unit.var(0) + 1e-5)
    assert torch.allclose(scale, torch.from_numpy(expected).float(), rtol=1e-4)


def test_the_head_of_vissl_has_a_scale_and_a_shift_that_do_not_decay() -> None:
    from stages.evaluate._linear_head import Head, make_optimizer
    from stages.evaluate._probe_presets import PRESETS

    for name, nesterov in (("vissl_alexnet", False), ("vissl_resnet", True)):
        preset = PRESETS[name]
        head = Head(preset.norm, torch.zeros(12), torch.ones(12), 2, channels=3)
        decays = {
            id(parameter): group["weight_decay"]
            for group in make_optimizer(preset, head).param_groups
            for parameter in group["params"]
        }
        assert head.batch is not None
        assert (decays[id(head.batch.weight)], decays[id(head.batch.bias)]) == (0, 0)
        assert decays[id(head.linear.weight)] == 5e-4
        assert {group["nesterov"] for group in make_optimizer(preset, head).param_groups} == {
            nesterov
        }


@pytest.mark.parametrize("side", [227, 224])
def test_crops_are_cut_at_whole_pixels_as_torchvision_cuts_them(side: int) -> None:
    from torchvision.transforms import functional as TF

    from stages.evaluate._probe_crops import fixed_crops, random_crop
    from transfer.transforms.color import to_float
    from transfer.transforms.per_image_rng import PerImageRng

    random = np.random.RandomState(0)
    images = torch.from_numpy(random.randint(0, 256, (6, 3, 256, 256)).astype(np.uint8))
    exact = to_float(images)
    center = fixed_crops(images, side / 256, side, ten=False)
    assert len(center) == 1
    assert torch.equal(center[0], TF.center_crop(exact, [side, side]))
    ours = fixed_crops(images, side / 256, side, ten=True)
    if side == 224:  # at 227, torchvision's mirrored center lies a pixel beside Caffe's
        for crop in TF.ten_crop(exact, [side, side]):  # corners, center, and all of them mirrored
            assert any(torch.equal(crop, own) for own in ours)
    places, mirrored = set(), 0
    for seed in range(40):
        crops = random_crop(images, PerImageRng(seed, torch.arange(6)), side / 256, side)
        for image, crop in zip(exact, crops, strict=True):
            matches = [
                (top, left, flip)
                for flip, candidate in enumerate((crop, crop.flip(-1)))
                for top in range(257 - side)
                for left in range(257 - side)
                if torch.equal(image[:, top, left : left + side], candidate[:, 0])
            ]
            (top, left, flip), *_ = matches
            window = image[:, top : top + side, left : left + side]
            assert torch.equal(window.flip(-1) if flip else window, crop)
            places.add((top, left))
            mirrored += flip
    tops, lefts = zip(*places, strict=True)
    assert (min(tops), max(tops)) == (min(lefts), max(lefts)) == (0, 256 - side)
    assert 0.4 < mirrored / 240 < 0.6


def test_features_beyond_float16_are_counted_in_a_note(sets: dict, tmp_path: Path) -> None:
    loud = model(tmp_path / "m")
    network = loud.network()
    with torch.no_grad():
        for weight in network.get_submodule("conv1").parameters():
            weight.mul_(1e5)
    Model.write(
        loud.folder,
        network,
        size=loud.card.size,
        normalization=loud.normalization,
        made_by={},
        history=[],
    )
    context = make_work(tmp_path / "w", sets, {"model": Model(loud.folder)})
    Linear(model="model", layers=["conv1"], epochs=1).run(context)
    assert any("features exceed float16" in note for note in context.notes)
    quiet = make_work(tmp_path / "v", sets, {"model": model(tmp_path / "n")})
    Linear(model="model", layers=["conv1"], epochs=1).run(quiet)
    assert not quiet.notes
