from __future__ import annotations

from typing import Any

import torch

from stages.pretext.rotation import Rotation
from tests.stages.pretext.support import make_stage
from transfer.stage.image_input import DatasetInfo
from transfer.transforms.per_image_rng import PerImageRng

SIZE = 32


def stage(**options: object) -> Rotation:
    return make_stage(Rotation, backbone="conv4", **{"hidden_dim": 16, **options})


def images(count: int = 8, size: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def network(task: Rotation) -> Any:
    return task._build(DatasetInfo(SIZE, 8, 0), seed=0)


def test_a_copy_turned_back_is_the_image_to_the_bit() -> None:
    copies = stage().copies(images(), PerImageRng(0, torch.arange(8))).unflatten(0, (4, 8))
    for turn in range(4):
        assert torch.equal(torch.rot90(copies[turn], -turn, (-2, -1)), copies[0])
    assert not torch.equal(copies[0], copies[1])


def test_label_one_is_a_quarter_turn_counter_clockwise() -> None:
    corner = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8)
    corner[..., 0, 0] = 255
    copies = stage(crop=1.0, flip=0.0).copies(corner, PerImageRng(0, torch.arange(1)))
    marked = [
        tuple(copy[0].flatten().argmax().item() // x % SIZE for x in (SIZE, 1)) for copy in copies
    ]
    assert marked == [(0, 0), (SIZE - 1, 0), (SIZE - 1, SIZE - 1), (0, SIZE - 1)]


def test_all_four_copies_of_each_image_are_fed_and_a_batch_counts_images() -> None:
    task, fed = stage(), []
    net = network(task)
    net["backbone"].register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0].shape))
    task.loss(net, images(), PerImageRng(0, torch.arange(8)))
    assert fed == [(32, 3, SIZE, SIZE)]


def test_no_pixel_is_computed_anew_by_a_turn() -> None:
    copies = stage().copies(images(), PerImageRng(3, torch.arange(8))).unflatten(0, (4, 8))
    values = copies.flatten(3).sort(dim=-1).values
    assert all(torch.equal(values[turn], values[0]) for turn in range(4))


def test_loss_and_accuracy_are_those_of_a_plain_loop_over_images_and_turns() -> None:
    task = stage(crop=1.0, flip=0.0)
    net = network(task).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        loss, figures = task.loss(net, images(), PerImageRng(0, torch.arange(8)))
        losses, right = [], []
        for image in images():
            for turn in range(4):
                seen = (torch.rot90(image, turn, (1, 2)).float() / 255 - mean[:, None, None]) / std[
                    :, None, None
                ]
                logits = net["head"](net["backbone"](seen[None]).flatten(1))[0]
                losses.append(logits.exp().sum().log() - logits[turn])
                right.append(float(logits.argmax() == turn))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert figures["accuracy"] == sum(right) / len(right)


def test_random_weights_guess() -> None:
    task = stage()
    _, figures = task.loss(network(task), images(64), PerImageRng(0, torch.arange(64)))
    assert task.chance(DatasetInfo(SIZE, 64, 0)) == 0.25
    assert abs(figures["accuracy"] - 0.25) < 0.1


def test_an_image_has_the_same_copies_in_any_batch_and_others_in_another_epoch() -> None:
    task, ids = stage(), torch.arange(8)
    whole = task.copies(images(), PerImageRng(7, ids)).unflatten(0, (4, 8))
    part = task.copies(images()[[5, 2]], PerImageRng(7, ids[[5, 2]])).unflatten(0, (4, 2))
    assert torch.equal(whole[:, [5, 2]], part)
    assert not torch.equal(whole, task.copies(images(), PerImageRng(8, ids)).unflatten(0, (4, 8)))


def test_mixed_precision_gives_about_the_same_loss() -> None:
    task, ids = stage(), torch.arange(8)
    exact, _ = task.loss(network(task), images(), PerImageRng(0, ids))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded, _ = task.loss(network(task), images(), PerImageRng(0, ids))
    assert abs(exact - rounded) < 0.05


def test_the_head_has_two_hidden_layers_or_none() -> None:
    assert [type(part).__name__ for part in network(stage(hidden_dim=0))["head"]] == ["Linear"]
    widths = [
        part.out_features for part in network(stage())["head"] if hasattr(part, "out_features")
    ]
    assert widths == [16, 16, 4]


def test_the_picture_shows_the_image_and_its_four_copies() -> None:
    columns = stage().preview(images(), PerImageRng(0, torch.arange(8)))
    assert list(columns) == ["image", *(f"rotated {angle} degrees" for angle in (0, 90, 180, 270))]
    assert all(column.shape == (8, 3, SIZE, SIZE) for column in columns.values())
