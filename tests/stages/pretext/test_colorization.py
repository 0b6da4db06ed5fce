from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages.extract.network import ExtractNetwork
from stages.pretext._color_bins import (
    bin_shares,
    color_bins,
    count_colors,
    near_bins,
    rebalancing_weights,
    soft_bins,
)
from stages.pretext.colorization import Colorization
from tests.stages.handmade import make_work, pack_images, run_stage
from tests.stages.pretext.support import make_stage, namespace
from transfer.artifacts import Model, read_json, write_json
from transfer.errors import InvalidOption, TransferError
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.color import rgb_to_lab
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 32


def stage(**options: object) -> Colorization:
    return make_stage(
        Colorization, backbone="conv4", **{"decoder_width": 8, "crop": 1.0, "flip": 0.0, **options}
    )


def noise_images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    """Noise about colors that differ from image to image."""
    generator = torch.Generator().manual_seed(0)
    colors = torch.randint(0, 256, (count, 3, 1, 1), generator=generator)
    around = torch.randint(-40, 41, (count, 3, size, size), generator=generator)
    return (colors + around).clamp(0, 255).to(torch.uint8)


def gray_images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(
        0, 256, (count, 1, size, size), dtype=torch.uint8, generator=generator
    ).repeat(1, 3, 1, 1)


def equally_light(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets (count, size, size, 3) of uint8 noise of the same lightness, not color."""
    generator = torch.Generator().manual_seed(2)
    palette = torch.randint(0, 256, (400_000, 3), dtype=torch.uint8, generator=generator)
    light = rgb_to_lab(palette.T[None, :, :, None])[0, 0, :, 0]
    pairs = palette[light.argsort()].unflatten(0, (-1, 2))
    chosen = pairs[torch.randint(0, len(pairs), (count, size, size), generator=generator)]
    return chosen[..., 0, :].numpy(), chosen[..., 1, :].numpy()


def prepared(task: Colorization, images: torch.Tensor, folder: Path) -> Any:
    """The network of `task` after it has counted the colors of `images`."""
    packed = pack_images(folder / "set", images.permute(0, 2, 3, 1).numpy())
    network = task._build(DatasetInfo(images.shape[-1], len(images), 0), seed=0)
    task.begin(network, make_work(folder, {"images": packed}))
    return network


def test_261_bins_are_the_nearest_to_some_color_and_no_color_is_nearest_to_another() -> None:
    bins = color_bins()
    assert bins.shape == (261, 2)
    assert len(bins.unique(dim=0)) == 261
    known = {tuple(value) for value in bins.int().tolist()}
    result = set()
    for level in range(256):  # all colors of the cube's faces, and a 27th of those inside
        line = np.arange(256) if level in (0, 255) else np.arange(0, 256, 3)
        for colors in ([[level], line, line], [line, [level], line], [line, line, [level]]):
            pixels = (
                np.stack(np.meshgrid(*colors, indexing="ij")).astype(np.uint8).reshape(1, 3, -1, 1)
            )
            ab = rgb_to_lab(torch.from_numpy(pixels))[0, 1:, :, 0]
            code = ((ab / 10).round().int() + 16).mul(torch.tensor([[32], [1]])).sum(0).unique()
            result |= {(10 * (value // 32 - 16), 10 * (value % 32 - 16)) for value in code.tolist()}
    assert result == known


def test_a_color_is_spread_over_its_ten_nearest_bins_by_a_gaussian() -> None:
    bins = color_bins()
    anywhere = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 200 - 100
    ab = torch.cat(
        (torch.tensor([[0.0, 0.0], [97.0, 90.0], [-4.9, 4.9], [127.0, -127.0]]), anywhere)
    )
    index, shares = soft_bins(ab, bins, near_bins())
    for place, (a, b) in enumerate(ab.tolist()):
        squares = sorted((a - x) ** 2 + (b - y) ** 2 for x, y in bins.tolist())[:10]
        weights = [math.exp(-(square - squares[0]) / (2 * 5.0**2)) for square in squares]
        expected = [weight / sum(weights) for weight in weights]
        assert torch.allclose(shares[place], torch.tensor(expected), atol=1e-4)
        distances = ((bins[index[place]] - ab[place]) ** 2).sum(1)
        assert torch.allclose(distances, torch.tensor(squares), rtol=1e-4, atol=1e-3)
        assert len(index[place].unique()) == 10


def test_rebalancing_weighs_rare_colors_more_and_one_on_average() -> None:
    prior = torch.tensor([0.5, 0.3, 0.2, 0.0])
    weights = rebalancing_weights(prior, alpha=1.0, gamma=0.5)
    raw = [1 / (0.5 * share + 0.5 / 4) for share in prior.tolist()]
    mean = sum(share * weight for share, weight in zip(prior.tolist(), raw, strict=True))
    assert torch.allclose(weights, torch.tensor([weight / mean for weight in raw]))
    assert math.isclose((prior * weights).sum(), 1, rel_tol=1e-5)
    assert torch.allclose(rebalancing_weights(prior, alpha=0.0, gamma=0.5), torch.ones(4))
    assert torch.allclose(rebalancing_weights(prior, alpha=1.0, gamma=1.0), torch.ones(4))


def test_shares_counted_by_the_unit_are_those_of_the_pixels_themselves() -> None:
    spread = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [30.0, 20.0]
    )
    ab = spread.clamp(-100, 90)
    bins = color_bins()
    shares = bin_shares(count_colors(ab))
    index, soft = soft_bins(ab, bins, near_bins())
    plain = torch.zeros(len(bins)).index_add(0, index.flatten(), soft.flatten()) / len(ab)
    assert math.isclose(shares.sum(), 1, rel_tol=1e-5)
    assert (shares - plain).abs().max() < 0.002


def test_the_loss_is_a_weighted_cross_entropy_pixel_by_pixel(tmp_path: Path) -> None:
    task, images = stage(stride=8), noise_images(3, 16)
    images[2] = gray_images(1, 16)[0]
    network = prepared(task, images, tmp_path).eval()
    with torch.no_grad():
        loss, figures = task.loss(network, images, PerImageRng(0, torch.arange(3)))
        logits = network["head"](
            network["backbone"].layers(normalize(images, task.normalization), ["conv4"])["conv4"]
        )
    assert logits.shape == (3, 261, 2, 2)
    bins, weights = color_bins(), network["colors"].weights
    total, right, counted = 0.0, 0.0, 0.0
    for image in range(2):  # the third has no colors
        for row in range(2):
            for column in range(2):
                pixel = images[image, :, 4 + 8 * row, 4 + 8 * column]
                ab = rgb_to_lab(pixel[None, :, None, None])[0, 1:, 0, 0]
                index, shares = (
                    result[0].tolist() for result in soft_bins(ab[None], bins, near_bins())
                )
                chances = logits[image, :, row, column].double().softmax(0)
                weight = weights[index[0]].item()
                entropy = -sum(
                    share * chances[bin].log().item()
                    for bin, share in zip(index, shares, strict=True)
                )
                total += weight * entropy
                counted += weight
                right += weight * (int(chances.argmax()) == index[0])
    assert math.isclose(loss, total / 12, rel_tol=1e-4)
    assert math.isclose(figures["accuracy"], right / counted, abs_tol=1e-6)


def test_weighting_the_loss_is_weighting_its_gradient(tmp_path: Path) -> None:
    task, images = stage(stride=8), noise_images(2, 16)
    network = prepared(task, images, tmp_path)
    loss, _ = task.loss(network, images, PerImageRng(0, torch.arange(2)))
    loss.backward()
    bias = network["head"][-1].bias.grad.clone()
    with torch.no_grad():
        shown = network["backbone"].layers(normalize(images, task.normalization), ["conv4"])[
            "conv4"
        ]
        chances = network["head"](shown).movedim(1, -1).flatten(0, 2).softmax(1)
        index, shares = soft_bins(task.ab(images).flatten(0, 2), color_bins(), near_bins())
        goal = torch.zeros_like(chances).scatter(1, index, shares)
        weights = network["colors"].weights[index[:, 0]]
        expected = (weights[:, None] * (chances - goal)).sum(0) / len(weights)
    assert torch.allclose(bias, expected, atol=1e-5)


def test_colors_are_counted_on_the_set_and_rare_ones_weigh_more(tmp_path: Path) -> None:
    images = torch.zeros(10, 3, SIZE, SIZE, dtype=torch.uint8)
    images[:8, 0], images[8:, 2] = 200, 200  # eight red, two blue
    network = prepared(stage(), images, tmp_path)
    weights, bins = network["colors"].weights, color_bins()
    red, blue = (
        soft_bins(rgb_to_lab(images[value : value + 1, :, :1, :1])[:, 1:, 0, 0], bins, near_bins())[
            0
        ][0, 0]
        for value in (0, 9)
    )
    assert weights[blue] > 2 * weights[red]
    unseen = weights == weights.max()
    assert unseen.sum() > 200
    assert network["colors"].best in (red, blue)


def test_gray_images_teach_nothing(tmp_path: Path) -> None:
    task, images = stage(), noise_images(4)
    mixed = torch.cat((images, gray_images(4)))
    network = prepared(task, mixed, tmp_path).eval()
    with torch.no_grad():
        alone, _ = task.loss(network, images, PerImageRng(0, torch.arange(4)))
        among, _ = task.loss(network, mixed, PerImageRng(0, torch.arange(8)))
        gray, figures = task.loss(network, gray_images(4), PerImageRng(0, torch.arange(4)))
    assert math.isclose(among, alone / 2, rel_tol=1e-5)
    assert gray == 0
    assert figures["accuracy"] == 0


def test_a_set_of_gray_images_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"all 8 images are gray .* another pretext"):
        prepared(stage(), gray_images(8), tmp_path)


def test_naming_the_best_bin_is_guessing(tmp_path: Path) -> None:
    task, images = stage(), noise_images()
    network = prepared(task, images, tmp_path)
    with torch.no_grad():
        network["head"][-1].weight.zero_()
        network["head"][-1].bias.zero_()[network["colors"].best] = 1
        _, figures = task.loss(network, images, PerImageRng(0, torch.arange(8)))
    assert figures["accuracy"] == figures["guessing"]
    assert 0 < figures["guessing"] < 1


def test_the_colors_asked_are_those_of_single_pixels_of_the_crop() -> None:
    task, images = stage(stride=4), noise_images(2, 30)
    asked = task.ab(images)
    assert asked.shape == (2, task.side(30), task.side(30), 2) == (2, 7, 7, 2)
    lab = rgb_to_lab(images)
    assert torch.equal(asked[1, 3, 5], lab[1, 1:, 14, 22])


def test_an_image_whose_pixels_are_all_between_those_asked_is_refused() -> None:
    def plan(size: int) -> Any:
        return namespace(images={"images": namespace(stage=namespace(size=size, count=4))})

    stage(stride=32).validate_plan(plan(32))
    with pytest.raises(InvalidOption, match="use 32 or less"):
        stage(stride=64).validate_plan(plan(32))


def test_lightness_is_the_same_in_all_channels_and_of_about_unit_deviation() -> None:
    seen = normalize(noise_images(64), Normalization(lightness=True))
    assert torch.equal(seen[:, 0], seen[:, 1])
    assert torch.equal(seen[:, 0], seen[:, 2])
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    assert torch.allclose(
        normalize(ends, Normalization(lightness=True))[:, 0, 0, 0],
        torch.tensor([-2.0, 2.0]),
        atol=1e-3,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(normalize(noise_images(64), Normalization(lightness=True)), seen)


def test_whatever_is_read_from_a_model_of_this_task_ignores_colors(tmp_path: Path) -> None:
    value, other = equally_light(6, SIZE)
    assert np.abs(value.astype(int) - other).mean() > 40
    sets = {
        name: pack_images(tmp_path / name, pixels)
        for name, pixels in (("one", value), ("other", other))
    }
    task = stage(epochs=1, batch_size=2, optimizer="adamw", learning_rate=1e-2)
    model = run_stage(task, tmp_path / "model", {"images": sets["one"]})
    assert model.normalization == Normalization(lightness=True)

    def features(name: str) -> torch.Tensor:
        extract = ExtractNetwork(model="model", layer="conv4", dtype="float32")
        folder = tmp_path / f"features of {name}, lightness {model.normalization.lightness}"
        made = run_stage(extract, folder, {"images": sets[name]}, model=model)
        return torch.cat([torch.from_numpy(block) for _, block in made.blocks()])

    lightness = (features("one") - features("other")).abs().max() / features("one").std()
    card = read_json(model.folder / "model.json")
    write_json(
        model.folder / "model.json", card | {"normalization": dataclasses.asdict(Normalization())}
    )
    model = Model(model.folder)
    color = (features("one") - features("other")).abs().max() / features("one").std()
    assert lightness < 0.01
    assert color > 0.3


def test_models_made_before_there_was_lightness_can_still_be_read(tmp_path: Path) -> None:
    model = run_stage(
        stage(epochs=0),
        tmp_path,
        {"images": pack_images(tmp_path / "set", equally_light(4, SIZE)[0])},
    )
    card = read_json(model.folder / "model.json")
    del card["normalization"]["lightness"]
    write_json(model.folder / "model.json", card)
    assert not Model(model.folder).normalization.lightness


def test_mixed_precision_changes_little(tmp_path: Path) -> None:
    task, images, losses = stage(crop=0.5), noise_images(), []
    for mixed in (False, True):
        network = prepared(task, images, tmp_path / str(mixed))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            losses.append(task.loss(network, images, PerImageRng(0, torch.arange(8)))[0].item())
    assert math.isclose(*losses, rel_tol=0.01)


def test_what_is_seen_has_no_color_and_what_is_asked_has_the_crops() -> None:
    images = noise_images()
    pictures = stage().preview(images, PerImageRng(0, torch.arange(8)))
    assert torch.equal(pictures["input"][:, 0], pictures["input"][:, 2])
    light, target = (rgb_to_lab(pictures[name])[:, 0] for name in ("crop", "target"))
    assert (light - target).abs().median() < 1
