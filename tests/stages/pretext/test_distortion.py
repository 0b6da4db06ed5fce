from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.pretext import _lci as limited
from stages.pretext.distortion import CLASSES, TURNS, Distortion
from tests.stages.handmade import make_work, pack_images, stop_after
from tests.stages.pretext.support import gradient, make_stage, namespace
from transfer.artifacts import Model
from transfer.errors import Interrupted, InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.filters import gaussian_blur
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F

SIZE, COUNT = 64, 12
TEN = CLASSES["ten"]


def stage(**options: object) -> Distortion:
    return make_stage(Distortion, backbone="conv4", **{"hidden_dim": 16, **options})


def noise(count: int = COUNT) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def smooth(count: int = COUNT) -> torch.Tensor:
    """Images in [0, 1] without fine structure."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=SIZE, mode="bicubic").clamp(0, 1)


def made(name: str, images: torch.Tensor, seed: int = 0, **options: object) -> torch.Tensor:
    """What the change `name` makes of the images; the same parts of them for all names."""
    task = stage(**options)
    labels = torch.full((len(images),), task.classes.index(name))
    return task.distort(images, labels, PerImageRng(seed, torch.arange(len(images))))


def spied(task: Distortion, shown: list[tuple[torch.Tensor, torch.Tensor]]) -> Distortion:
    """Return the task; it records images and labels instead of distorting images."""

    class Spied(Distortion):
        def distort(
            self, images: torch.Tensor, labels: torch.Tensor, rng: PerImageRng
        ) -> torch.Tensor:
            shown.append((images, labels))
            side = self.side(images.shape[-1])
            return images[..., :side, :side]

    return Spied(**task.model_dump())


def test_there_are_ten_changes_and_six_with_inpainting() -> None:
    assert len(TEN) == len(set(TEN)) == 10
    assert len(CLASSES["lci"]) == 6
    assert stage().chance(DatasetInfo(SIZE, 64, 0)) == 0.1
    assert stage(variant="lci").chance(DatasetInfo(SIZE, 64, 0)) == 1 / 6


@pytest.mark.parametrize(("name", "quarters"), TURNS.items())
def test_turns_are_exact(name: str, quarters: int) -> None:
    assert torch.equal(
        made(name, smooth()), torch.rot90(made("unchanged", smooth()), quarters, (2, 3))
    )


def test_blur_is_a_gaussian_of_one_to_two_pixels() -> None:
    blurred, clear = made("blurred", smooth()), made("unchanged", smooth())
    low, high = (gaussian_blur(clear, torch.full((COUNT,), sigma), 9) for sigma in (1.0, 2.0))
    apart = [(other - clear).square().sum(dim=(1, 2, 3)) for other in (low, blurred, high)]
    assert (apart[0] <= apart[1]).all()
    assert (apart[1] <= apart[2]).all()


def test_bright_pixels_are_inverted() -> None:
    clear = made("unchanged", smooth())
    assert torch.equal(made("solarized", smooth()), torch.where(clear >= 0.5, 1 - clear, clear))


def test_noise_is_gaussian_of_deviation_a_tenth() -> None:
    gray = torch.full((COUNT, 3, SIZE, SIZE), 0.5)
    result = made("noisy", gray) - made("unchanged", gray)
    assert abs(result.std() - 0.1) < 0.002
    assert abs(result.mean()) < 0.002
    assert abs((result.abs() < 0.1).float().mean() - 0.683) < 0.01
    assert abs(torch.corrcoef(result.flatten(1))[0, 1]) < 0.03


def test_a_gray_box_of_up_to_a_quarter_is_erased() -> None:
    clear, erased = made("unchanged", smooth(100)), made("erased", smooth(100))
    gone = (clear != erased).any(dim=1)
    assert (erased.movedim(1, -1)[gone] == 0.5).all()
    shares = gone.float().mean(dim=(1, 2))
    assert shares.min() > 0.03
    assert shares.max() < 0.29
    assert shares.std() > 0.03


def test_hues_are_turned_and_lightness_stays() -> None:
    clear, turned = made("unchanged", smooth()), made("other hues", smooth())
    assert torch.allclose(clear.amax(1), turned.amax(1), atol=1e-5)
    assert torch.allclose(clear.amin(1), turned.amin(1), atol=1e-5)
    assert (clear - turned).abs().mean() > 0.1


def test_points_are_moved_by_up_to_a_sixteenth_of_the_side() -> None:
    line = torch.linspace(0, 1, SIZE)
    places = torch.stack(
        (line[:, None].expand(SIZE, SIZE), line.expand(SIZE, SIZE), torch.zeros(SIZE, SIZE))
    )
    ramps = places.expand(100, 3, SIZE, SIZE)
    moved = (
        (made("warped", ramps) - made("unchanged", ramps))[:, :2] * (SIZE - 1) / stage().side(SIZE)
    )
    assert moved.abs().max() < 1 / 16 + 1e-3
    assert moved.abs().amax(dim=(1, 2, 3)).min() > 1 / 40
    steps = moved.diff(dim=-1).abs().max() * stage().side(SIZE)
    assert steps < 0.7  # px from one pixel to the next: nothing is folded


def test_a_class_is_not_told_by_its_sharpness() -> None:
    """White noise loses as much of its finest detail unchanged as turned or warped."""
    detail = {}
    for name in ("unchanged", *TURNS, "warped"):
        seen = made(name, noise(200).float() / 255)
        detail[name] = (seen - gaussian_blur(seen, torch.ones(200), 5)).std()
    assert max(detail.values()) < 1.06 * min(detail.values())


def test_no_class_shows_what_lies_beyond_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, sample = [], F.grid_sample
    monkeypatch.setattr(
        F, "grid_sample", lambda images, at, **how: looked.append(at) or sample(images, at, **how)
    )
    for crop in (0.85, 0.8, 0.5):
        made("warped", smooth(500), crop_side=crop)
        made("unchanged", smooth(500), crop_side=crop)
    assert max(at.abs().max() for at in looked) <= 1
    assert looked[2].abs().max() > 0.9  # and all of what is there


def test_half_of_the_images_are_turned_by_a_small_angle_whatever_the_class() -> None:
    line = torch.linspace(0, 1, SIZE)
    ramp = line[:, None].expand(3, SIZE, SIZE).expand(1000, 3, SIZE, SIZE)
    straight = made("unchanged", ramp)[:, 0].diff(dim=-1).abs().amax(dim=(1, 2)) < 1e-5
    assert abs(straight.float().mean() - 0.5) < 0.05


def test_each_image_is_changed_alike_in_any_batch() -> None:
    task, ids = stage(), torch.arange(40)
    labels = torch.arange(40) % 10
    whole = task.distort(smooth(40), labels, PerImageRng(3, ids))
    subset = torch.tensor([31, 4, 26, 13])
    assert torch.allclose(
        task.distort(smooth(40)[subset], labels[subset], PerImageRng(3, ids[subset])),
        whole[subset],
        atol=1e-6,
    )
    assert not torch.allclose(
        task.distort(smooth(40), labels, PerImageRng(4, ids)), whole, atol=1e-2
    )


def test_the_loss_is_cross_entropy_over_the_changes_and_all_are_equally_likely() -> None:
    task, ids = stage(), torch.arange(COUNT)
    net = task._build(DatasetInfo(SIZE, COUNT, 0), seed=0).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        loss, figures = task.loss(net, noise(), PerImageRng(0, ids))
        rng = PerImageRng(0, ids)
        labels = rng.permutations(10)[:, 0]
        seen = task.distort(noise().float() / 255, labels, PerImageRng(0, rng.integers(1 << 53)))
        losses, right = [], []
        for image, label in zip(seen, labels, strict=True):
            fed = (image - mean[:, None, None]) / std[:, None, None]
            logits = net["head"](net["backbone"](fed[None]))[0]
            losses.append(logits.exp().sum().log() - logits[label])
            right.append(float(logits.argmax() == label))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-4)
    assert abs(figures["accuracy"] - sum(right) / COUNT) < 1e-6
    drawn = PerImageRng(1, torch.arange(20_000)).permutations(10)[:, 0]
    assert (torch.bincount(drawn) / 20_000 - 0.1).abs().max() < 0.01


def test_copies_of_an_image_are_changed_differently() -> None:
    shown: list[tuple[torch.Tensor, torch.Tensor]] = []
    task = spied(stage(copies=10), shown)
    task.loss(
        task._build(DatasetInfo(SIZE, COUNT, 0), seed=0),
        noise(),
        PerImageRng(0, torch.arange(COUNT)),
    )
    assert (shown[0][1].view(COUNT, 10).sort(dim=1).values == torch.arange(10)).all()


def test_random_weights_guess() -> None:
    task = stage(copies=10)
    _, figures = task.loss(
        task._build(DatasetInfo(SIZE, 32, 0), seed=0), noise(32), PerImageRng(0, torch.arange(32))
    )
    assert abs(figures["accuracy"] - 0.1) < 0.07


def test_mixed_precision_gives_about_the_same_loss() -> None:
    result = []
    for enabled in (False, True):
        net = stage()._build(DatasetInfo(SIZE, COUNT, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            result.append(stage().loss(net, noise(), PerImageRng(0, torch.arange(COUNT)))[0].item())
    assert abs(result[0] - result[1]) < 0.1


def test_bad_options_are_refused() -> None:
    planned = namespace(images={"images": namespace(stage=namespace(size=64, count=100))})
    stage().validate_plan(planned)
    with pytest.raises(InvalidOption, match="7 different copies of 6 classes: use 6") as error:
        stage(variant="lci", copies=7).validate_plan(planned)
    assert error.value.option == "copies"
    with pytest.raises(InvalidOption, match="use 2 parts or fewer"):
        stage(batch_size=4, accumulation_steps=4).validate_plan(planned)
    planned.images["images"].stage.size = 8
    with pytest.raises(InvalidOption, match="no room for a patch of 8 px"):
        stage(variant="lci").validate_plan(planned)


def test_the_picture_shows_every_change() -> None:
    for variant, names in CLASSES.items():
        columns = stage(variant=variant).preview(noise(), PerImageRng(0, torch.arange(COUNT)))
        assert list(columns) == ["image", *names]


# The variant with Limited Context Inpainting.


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """An inpainter and a discriminator of few channels."""
    monkeypatch.setattr(limited, "WIDTHS", (8, 4))


def lci(**options: object) -> tuple[Distortion, torch.nn.ModuleDict]:
    task = stage(variant="lci", **options)
    return task, task._build(DatasetInfo(SIZE, COUNT, 0), seed=0)


def test_published_sizes_follow_from_images_of_80_px() -> None:
    assert limited.sides(80) == (48, 3)  # 42 px of 48 are hidden
    assert limited.sides(64) == (40, 2)


@pytest.mark.usefixtures("narrow")
def test_the_inpainter_never_sees_what_it_is_to_draw() -> None:
    _, net = lci()
    net.eval()
    ids, patch, border = torch.arange(COUNT), *limited.sides(SIZE)
    first = smooth()
    corners = PerImageRng(5, ids).integers(SIZE - patch + 1, 1, 2)[:, 0] + border
    other = first.clone()
    for image, (y, x) in zip(other, corners.tolist(), strict=True):
        image[:, y : y + patch - 2 * border, x : x + patch - 2 * border] = 0.123
    with torch.no_grad():
        filled, rebuilt, *_ = limited.repaint(net, first, PerImageRng(5, ids))
        refilled, otherwise, *_ = limited.repaint(net, other, PerImageRng(5, ids))
    for image in range(COUNT):
        y, x = (corners[image] - border).tolist()
        cut = (image, slice(None), slice(y, y + patch), slice(x, x + patch))
        assert torch.equal(filled[cut], refilled[cut])
        assert not torch.equal(rebuilt[cut], otherwise[cut])
        outside = torch.ones(SIZE, SIZE, dtype=torch.bool)
        outside[y : y + patch, x : x + patch] = False
        assert torch.equal(filled[image][:, outside], first[image][:, outside])
        assert torch.equal(rebuilt[image][:, outside], first[image][:, outside])


def test_gradients_are_turned_round_and_values_stay_to_the_bit() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    turned = limited.reverse_gradient(values)
    assert torch.equal(turned, values)
    (turned * torch.arange(1000.0)).sum().backward()
    assert torch.equal(gradient(values), -torch.arange(1000.0))


@pytest.mark.usefixtures("narrow")
def test_each_part_gets_its_own_gradients_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients() -> dict[str, torch.Tensor]:
        task, net = lci()
        task.loss(net, noise(), PerImageRng(0, torch.arange(COUNT)))[0].backward()
        return {
            name: torch.cat([gradient(p).flatten() for p in part.parameters()])
            for name, part in net.items()
        }

    whole = gradients()
    assert all(part.abs().max() > 0 for part in whole.values())
    with monkeypatch.context() as patch:  # no loss for fooling the discriminator
        patch.setattr(limited, "call_with_frozen_weights", lambda part, x: torch.zeros(len(x), 1))
        unfooled = gradients()
    with monkeypatch.context() as patch:  # no gradients from the classifier to the inpainter
        patch.setattr(limited, "reverse_gradient", lambda values: values.detach())
        unheard = gradients()
    for name in ("backbone", "head", "discriminator"):
        assert torch.equal(whole[name], unfooled[name]), name
        assert torch.equal(whole[name], unheard[name]), name
    assert not torch.equal(whole["inpainter"], unfooled["inpainter"])
    assert not torch.equal(whole["inpainter"], unheard["inpainter"])


@pytest.mark.usefixtures("narrow")
def test_half_of_the_images_that_are_not_inpainted_hold_a_rebuilt_patch_but_none_that_is_warped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def repainted(network: object, images: torch.Tensor, rng: PerImageRng) -> tuple:
        return torch.full_like(images, 2.0), torch.full_like(images, 1.0), torch.zeros(()), {}

    shown: list[tuple[torch.Tensor, torch.Tensor]] = []
    monkeypatch.setattr("stages.pretext.distortion.repaint", repainted)
    task, net = lci()
    task = spied(task, shown)
    task.loss(
        net, torch.zeros(200, 3, SIZE, SIZE, dtype=torch.uint8), PerImageRng(0, torch.arange(200))
    )
    fed, labels = shown[0]
    result = {
        name: fed[labels == label].flatten(1).mean(dim=1) for label, name in enumerate(task.classes)
    }
    assert all(len(of) == 200 for of in result.values())  # all six of every image
    assert (result["inpainted"] == 2).all()
    assert (result["warped"] == 0).all()
    for name in ("unchanged", *TURNS):
        assert abs(result[name].mean() - 0.5) < 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("narrow")
def test_it_learns_64_images_and_resumed_equals_straight(tmp_path: Path) -> None:
    from transfer.datasets.drawings import render

    images = pack_images(tmp_path / "set", render.render("train", range(64)))
    options = {
        "epochs": 8,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "momentum": 0.9,
        "hidden_dim": 64,
    }
    results = []
    for run, stops in (("a", False), ("b", True)):
        work = make_work(tmp_path / run, {"images": images})
        if stops:
            stop_after(work, 3)
            with pytest.raises(Interrupted):
                stage(variant="lci", **options).run(work)
            work = make_work(tmp_path / run, {"images": images})
        stage(variant="lci", **options).run(work)
        results.append((work.folder / "model.safetensors").read_bytes())
    assert results[0] == results[1]
    history = Model(work.folder).history
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    assert history[-1]["rebuilding"] < 0.9 * history[0]["rebuilding"]
    assert all(np.isfinite(list(entry.values())).all() for entry in history)


@pytest.mark.usefixtures("narrow")
def test_with_inpainting_mixed_precision_gives_about_the_same_loss() -> None:
    result = []
    for enabled in (False, True):
        task, net = lci()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            result.append(task.loss(net, noise(), PerImageRng(0, torch.arange(COUNT)))[0].item())
    assert abs(result[0] - result[1]) < 0.02 * result[0]


def test_lci_has_the_rates_decay_and_betas_of_the_release() -> None:
    # sjenni/LCI: TrainerSSL.py, TrainerBase.py, run_stl10.py.
    task = make_stage(Distortion, backbone="conv4", variant="lci", hidden_dim=8)
    network = task._build(DatasetInfo(80, 64, 0), seed=0)
    groups = task.make_optimizer(network).param_groups
    parts = {id(weight): name.partition(".")[0] for name, weight in network.named_parameters()}
    expected = {
        # learning rate, constant, decay of a weight in a step at the peak, beta 2
        "backbone": (3e-4, False, 1e-4, 0.99),
        "head": (3e-4, False, 1e-4, 0.99),
        "inpainter": (2e-4, True, 0.0, 0.999),
        "discriminator": (8e-4, True, 0.0, 0.999),
    }
    seen = set()
    for group in groups:
        names = {parts[id(weight)] for weight in group["params"]}
        rate = task.peak_rate * group["scale"]
        for name in names:
            seen.add(name)
            peak, constant, decay, beta2 = expected[name]
            assert rate == pytest.approx(peak)
            assert (group["constant"], group["betas"]) == (constant, (0.5, beta2))
            assert rate * group["weight_decay"] == pytest.approx(decay if group["adapt"] else 0)
    assert seen == expected.keys()
