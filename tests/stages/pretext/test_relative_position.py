from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from stages.pretext.relative_position import NEIGHBORS, RelativePosition, resharpen
from tests.stages.pretext.support import make_stage, namespace
from transfer.errors import InvalidOption
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 64


def stage(**options: object) -> RelativePosition:
    return make_stage(
        RelativePosition, backbone="conv4", **{"embedding_dim": 16, "hidden_dim": 16, **options}
    )


def images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def corners(
    task: RelativePosition, count: int, size: int = SIZE
) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, 1 + pairs, 2) upper left pixels of the patches, and the labels."""
    line = torch.arange(size, dtype=torch.uint8)[:, None].expand(count, 3, size, size)
    rows, labels = task.patches(line, PerImageRng(1, torch.arange(count)))
    columns, _ = task.patches(line.transpose(2, 3), PerImageRng(1, torch.arange(count)))
    return torch.stack((rows[..., 0, 0, 0], columns[..., 0, 0, 0]), dim=-1).int(), labels


def test_the_published_layout_follows_from_the_published_patch() -> None:
    assert stage(patch_size=96).layout(398) == (96, 48, 7, 0)
    assert stage().layout(64) == (16, 7, 1, 0)
    assert stage(patch_size=12).layout(64) == (12, 6, 1, 14)


def test_the_second_patch_lies_where_the_label_says() -> None:
    task = stage(patch_size=12)
    patch, gap, jitter, _ = task.layout(SIZE)
    result, labels = corners(task, 500)
    names = {
        0: (-1, -1),
        1: (-1, 0),
        2: (-1, 1),
        3: (0, -1),
        4: (0, 1),
        5: (1, -1),
        6: (1, 0),
        7: (1, 1),
    }
    expected = torch.tensor([names[label] for label in labels.flatten().tolist()]).view(
        500, 8, 2
    ) * (patch + gap)
    moved = result[:, 1:] - result[:, :1] - expected
    assert moved.abs().max() == 2 * jitter  # each of the two is moved
    assert (labels.sort(dim=1).values == torch.arange(8)).all()
    assert len(NEIGHBORS) == 8


@pytest.mark.parametrize("size", [32, 64, 96, 255])
def test_patches_lie_in_the_image_and_never_touch(size: int) -> None:
    task = stage()
    patch, *_ = task.layout(size)
    result, _ = corners(task, 200, size)
    assert result.min() >= 0
    assert result.max() + patch <= size
    apart = (result[:, 1:] - result[:, :1]).abs().amax(dim=-1)
    assert apart.min() > patch


def test_the_place_of_the_first_patch_does_not_tell_the_neighbor() -> None:
    result, labels = corners(stage(patch_size=10, pairs=1), 8000)
    center = result[:, 0].float()
    means = torch.stack([center[labels[:, 0] == label].mean(0) for label in range(8)])
    assert center.std(0).min() > 4  # it uses all of the room
    assert (means - center.mean(0)).abs().max() < 1
    assert torch.allclose(torch.bincount(labels[:, 0]) / 8000, torch.full((8,), 1 / 8), atol=0.02)


@pytest.mark.parametrize(
    ("size", "options", "option", "message"),
    [
        (64, {"patch_size": 24}, "patch_size", "use patches of 16 px or less"),
        (20, {"patch_size": 7}, "patch_size", "use patches of 4 px or less, or bigger images"),
        (64, {"patch_size": 8, "gap": 4, "jitter": 2}, "gap", "a gap of 5 px or more"),
        (64, {"gap": 16}, "patch_size", "use patches of 10 px or less"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_what_would(
    size: int, options: dict[str, int], option: str, message: str
) -> None:
    task = stage(**options)
    planned = namespace(images={"images": namespace(stage=namespace(size=size, count=9))})
    with pytest.raises(InvalidOption, match=message) as error:
        task.validate_plan(planned)
    assert error.value.option == option
    if option == "patch_size":
        advised = int(message.split()[3])
        assert stage(**{**options, "patch_size": advised}).layout(size)[0] == advised


def test_down_sampling_is_by_areas_and_up_sampling_bilinear() -> None:
    patches = torch.rand(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    result = resharpen(patches, torch.arange(1, 13))
    for side in range(1, 13):
        small = (
            F.interpolate(patches[side - 1 : side], size=side, mode="area")
            if 12 % side == 0
            else None
        )
        if small is not None:
            expected = F.interpolate(small, size=12, mode="bilinear")
            assert torch.allclose(result[side - 1 : side], expected, atol=1e-5), side
    assert torch.equal(result[11], patches[11])
    assert torch.allclose(result.mean(dim=(2, 3)), patches.mean(dim=(2, 3)), atol=0.05)


def test_a_third_of_the_patches_is_down_sampled() -> None:
    ids, task = torch.arange(400), stage(color="keep")
    patches, _ = task.patches(images(400), PerImageRng(0, ids))
    sharp = stage(color="keep", downsample=0.0).disguise(patches, PerImageRng(2, ids))
    same = (task.disguise(patches, PerImageRng(2, ids)) - sharp).abs().amax(dim=(2, 3, 4)) == 0
    assert abs(same.float().mean() - 0.67) < 0.03


def test_two_colors_of_each_patch_become_faint_noise_and_each_color_is_kept_equally_often() -> None:
    task, ids = stage(downsample=0.0), torch.arange(500)
    patches, _ = task.patches(images(500), PerImageRng(0, ids))
    seen = task.disguise(patches, PerImageRng(2, ids))
    spread = seen.std(dim=(3, 4))
    assert ((spread < 0.02).sum(dim=2) == 2).all()
    kept = spread.argmax(dim=2)
    assert torch.allclose(
        torch.bincount(kept.flatten()) / kept.numel(), torch.full((3,), 1 / 3), atol=0.02
    )
    assert (kept[:, :1] != kept[:, 1:]).any(dim=1).float().mean() > 0.9  # each patch by itself
    clear = patches.float()[0, 0, kept[0, 0]].flatten()
    assert torch.corrcoef(torch.stack((clear, seen[0, 0, kept[0, 0]].flatten())))[0, 1] > 0.999
    for other in {0, 1, 2} - {int(kept[0, 0])}:
        dropped = torch.stack((patches.float()[0, 0, other].flatten(), seen[0, 0, other].flatten()))
        assert abs(torch.corrcoef(dropped)[0, 1]) < 0.25
    assert seen.flatten(2).mean(dim=2).abs().max() < 1e-3
    assert torch.allclose(seen.flatten(2).std(dim=2, correction=0), torch.ones(500, 9), atol=1e-3)


def test_projection_removes_the_direction_of_green_against_magenta() -> None:
    task = stage(color="project")
    patches, _ = task.patches(images(), PerImageRng(0, torch.arange(8)))
    seen = task.disguise(patches, PerImageRng(2, torch.arange(8)))
    direction = torch.tensor([-1.0, 2.0, -1.0])
    assert torch.einsum("bpchw,c->bphw", seen, direction).abs().max() < 1e-4
    kept = stage(color="keep").disguise(patches, PerImageRng(2, torch.arange(8)))
    assert torch.einsum("bpchw,c->bphw", kept, direction).abs().max() > 1


def test_loss_and_accuracy_are_those_of_a_plain_loop_over_pairs() -> None:
    task, ids = stage(pairs=5), torch.arange(8)
    net = task._build(DatasetInfo(SIZE, 8, 0), seed=0).eval()
    with torch.no_grad():
        loss, figures = task.loss(net, images(), PerImageRng(0, ids))
        rng = PerImageRng(0, ids)
        patches, labels = task.patches(images(), rng)
        seen = task.disguise(patches, rng)
        losses, right = [], []
        for image in range(8):
            embedded = [net["embed"](net["backbone"](patch[None])) for patch in seen[image]]
            for pair in range(5):
                logits = net["head"](torch.cat((embedded[0], embedded[1 + pair]), dim=1))[0]
                losses.append(logits.exp().sum().log() - logits[labels[image, pair]])
                right.append(float(logits.argmax() == labels[image, pair]))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert abs(figures["accuracy"] - sum(right) / len(right)) < 1e-6


def test_random_weights_guess() -> None:
    task = stage()
    net = task._build(DatasetInfo(SIZE, 64, 0), seed=0)
    _, figures = task.loss(net, images(64), PerImageRng(0, torch.arange(64)))
    assert task.chance(DatasetInfo(SIZE, 64, 0)) == 1 / 8
    assert abs(figures["accuracy"] - 1 / 8) < 0.05


def test_an_image_has_the_same_patches_in_any_batch() -> None:
    task, ids = stage(), torch.arange(8)

    def seen(batch: torch.Tensor, rng: PerImageRng) -> torch.Tensor:
        return task.disguise(task.patches(batch, rng)[0], rng)

    whole = seen(images(), PerImageRng(7, ids))
    assert torch.allclose(
        seen(images()[[5, 2]], PerImageRng(7, ids[[5, 2]])), whole[[5, 2]], atol=1e-5
    )
    assert not torch.allclose(seen(images(), PerImageRng(8, ids)), whole, atol=1e-2)


def test_mixed_precision_gives_about_the_same_loss_and_the_same_inputs() -> None:
    task, ids, result, seen = stage(color="project"), torch.arange(8), [], []
    for enabled in (False, True):
        net = task._build(DatasetInfo(SIZE, 8, 0), seed=0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            rng = PerImageRng(0, ids)
            seen.append(task.disguise(task.patches(images(), rng)[0], rng))
            result.append(task.loss(net, images(), PerImageRng(0, ids))[0].item())
    assert torch.equal(*seen)
    assert abs(result[0] - result[1]) < 0.05


def test_a_flat_patch_gives_numbers() -> None:
    loss, _ = stage().loss(
        stage()._build(DatasetInfo(SIZE, 8, 0), seed=0),
        torch.zeros_like(images()),
        PerImageRng(0, torch.arange(8)),
    )
    assert loss.isfinite()


def test_a_single_pair_needs_more_than_one_image_in_each_part_of_a_batch() -> None:
    planned = namespace(images={"images": namespace(stage=namespace(size=64, count=100))})
    stage(pairs=8, batch_size=4, accumulation_steps=4).validate_plan(planned)
    with pytest.raises(InvalidOption, match="use 2 parts or fewer"):
        stage(pairs=1, batch_size=4, accumulation_steps=4).validate_plan(planned)


def test_the_picture_shows_patches_as_cut_and_as_seen() -> None:
    columns = stage().preview(images(), PerImageRng(0, torch.arange(8)))
    assert len(columns) == 7
    assert columns["center"].shape == columns["center as seen"].shape == (8, 3, 16, 16)
