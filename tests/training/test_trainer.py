from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.stages.handmade import StopsAt, make_work, pack_images
from transfer.errors import Interrupted, TransferError
from transfer.training.checkpoint import load_checkpoint, save_checkpoint
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import epoch_order, train
from transfer.transforms.color import to_float
from transfer.transforms.per_image_rng import PerImageRng

PIXELS = np.random.RandomState(0).randint(0, 256, (70, 8, 8, 3)).astype(np.uint8)
IMAGES = pack_images(Path(tempfile.mkdtemp()) / "set", PIXELS)
LABELS = torch.from_numpy(PIXELS.reshape(70, -1).mean(axis=1) > 127.5).long()


def network() -> nn.ModuleDict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3),  # the layout of its weights depends on the memory format
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(96, 2),
        )
        return nn.ModuleDict({"backbone": layers})


def loss(net: nn.ModuleDict, images: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
    noisy = to_float(images) + 0.1 * rng.uniform(3, 8, 8)
    logits = net["backbone"](noisy)
    return nn.functional.cross_entropy(logits, LABELS[rng.ids]), {
        "accuracy": (logits.argmax(1) == LABELS[rng.ids]).float().mean()
    }


def recipe(**options: Any) -> TrainableStage:
    return TrainableStage(**{"epochs": 4, "batch_size": 16, "learning_rate": 0.05, **options})


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("stop_at", [2, 4, 5, 11, 16])
def test_stopped_and_resumed_equals_undisturbed_to_the_last_bit(
    stop_at: int, optimizer: str, tmp_path: Path
) -> None:
    straight = network()
    history = train(make_work(tmp_path / "a"), recipe(optimizer=optimizer), straight, loss, IMAGES)
    first: Any = make_work(tmp_path / "b")
    first.__class__, first.stop_at = StopsAt, stop_at
    with pytest.raises(Interrupted):
        train(first, recipe(optimizer=optimizer), network(), loss, IMAGES)
    assert (first.checkpoints / "training.safetensors").exists()
    resumed = network()
    again = train(make_work(tmp_path / "b"), recipe(optimizer=optimizer), resumed, loss, IMAGES)
    assert again == history
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_seconds_are_those_of_all_runs_of_a_stage(tmp_path: Path) -> None:
    first = make_work(tmp_path)
    first.started -= 60  # it has been running for a minute
    first.save_progress("epoch 1 of 2")
    second = make_work(tmp_path)
    second.started -= 5
    assert second.seconds == pytest.approx(65, abs=1)
    second.save_progress("epoch 2 of 2")
    assert make_work(tmp_path).seconds == pytest.approx(65, abs=1)
    assert make_work(tmp_path / "other").seconds == pytest.approx(0, abs=1)


def test_the_loss_falls_and_the_history_has_an_entry_an_epoch(tmp_path: Path) -> None:
    work = make_work(tmp_path)
    history = train(work, recipe(epochs=12), network(), loss, IMAGES, chance=0.5)
    assert [entry["epoch"] for entry in history] == list(range(1, 13))
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert work.figures["images/s"] > 0
    assert work.figures["waiting for data"].endswith("%")


def test_the_seed_decides_everything_and_global_state_nothing(tmp_path: Path) -> None:
    torch.manual_seed(5)
    one = train(make_work(tmp_path / "a"), recipe(), network(), loss, IMAGES)
    torch.manual_seed(6)
    two = train(make_work(tmp_path / "b"), recipe(), network(), loss, IMAGES)
    other = train(make_work(tmp_path / "c", seed=1), recipe(), network(), loss, IMAGES)
    assert one == two != other


def test_accumulated_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    def plain(
        net: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return nn.functional.cross_entropy(
            net["backbone"](to_float(images).flatten(1)), LABELS[rng.ids]
        ), {}

    results = []
    for parts in (1, 4):
        linear = nn.Linear(192, 2)
        net = nn.ModuleDict({"backbone": linear})
        nn.init.zeros_(linear.weight), nn.init.zeros_(linear.bias)
        train(
            make_work(tmp_path / str(parts)), recipe(accumulation_steps=parts), net, plain, IMAGES
        )
        results.append(linear.weight.detach())
    assert torch.allclose(*results, atol=1e-6)


def test_a_loss_that_is_no_number_is_an_error_that_says_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match="lower `learning_rate`"):
        train(
            make_work(tmp_path),
            recipe(),
            network(),
            lambda *a: (loss(*a)[0] * float("nan"), {}),
            IMAGES,
        )


def test_a_task_still_at_chance_says_so_in_the_log_and_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="transfer")

    def stuck(
        net: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, _ = loss(net, images, rng)
        return value * 0, {"accuracy": torch.tensor(0.5)}

    work = make_work(tmp_path / "a")
    train(work, recipe(epochs=10), network(), stuck, IMAGES, chance=0.5)
    (note,) = work.notes
    assert "still at chance after 10 of 10 epochs" in note
    assert "still at chance after 1 of 10 epochs" in caplog.text
    work = make_work(tmp_path / "c")
    losses = iter([stuck] * 4)

    def late(
        net: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, figures = next(losses, loss)(net, images, rng)
        return value, {"accuracy": figures["accuracy"]}

    train(work, recipe(epochs=10), network(), late, IMAGES, chance=0.001)
    assert work.notes == []
    work = make_work(tmp_path / "b")
    train(work, recipe(epochs=10, learning_rate=0.1), network(), loss, IMAGES, chance=0.001)
    assert work.notes == []


def test_a_set_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    history = train(
        make_work(tmp_path),
        recipe(batch_size=256, epochs=1),
        network(),
        loss,
        pack_images(tmp_path / "five", PIXELS[:5]),
    )
    assert len(history) == 1


def test_bfloat16_trains_too(tmp_path: Path) -> None:
    work = make_work(tmp_path, precision_name="bfloat16")
    history = train(work, recipe(epochs=12), network(), loss, IMAGES)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_an_epoch_is_every_image_once_in_an_order_that_never_drifts() -> None:
    assert sorted(epoch_order(3, 100)) == list(range(100))
    assert epoch_order(3, 8).tolist() == [5, 7, 4, 6, 3, 1, 0, 2]
    assert not np.array_equal(epoch_order(3, 100), epoch_order(4, 100))


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({"schedule": "cosine"}, {0: 1.0, 5: 0.5, 10: 0.0}),
        ({"schedule": "cosine", "warmup_epochs": 2.0}, {0: 0.0, 1: 0.5, 2: 1.0, 6: 0.5, 10: 0.0}),
        ({"schedule": "step", "milestones": [0.3, 0.6]}, {0: 1.0, 2.9: 1.0, 3: 0.1, 6: 0.01}),
        ({"schedule": "constant", "warmup_epochs": 4.0}, {1: 0.25, 4: 1.0, 10: 1.0}),
    ],
)
def test_learning_rates_follow_their_schedule(
    options: dict[str, Any], rates: dict[float, float]
) -> None:
    planned = TrainableStage(epochs=10, learning_rate=1.0, **options)
    assert {
        epoch: pytest.approx(planned.learning_rate_at(epoch), abs=1e-9) for epoch in rates
    } == rates


def test_norms_and_biases_have_no_weight_decay() -> None:
    optimizer = recipe(weight_decay=0.1).make_optimizer(network())
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim > 1 for p in decayed["params"])
    assert all(p.ndim <= 1 for p in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(network().parameters()))


@pytest.mark.parametrize("damage", ["", "not a checkpoint", None])
def test_a_checkpoint_that_cannot_be_read_is_no_checkpoint(
    damage: str | None, tmp_path: Path
) -> None:
    net, path = network(), tmp_path / "training.safetensors"
    optimizer = recipe().make_optimizer(net)
    save_checkpoint(path, net, optimizer, {"step": 3})
    assert load_checkpoint(path, net, optimizer) == {"step": 3}
    if damage is None:
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_text(damage)
    assert load_checkpoint(path, net, optimizer) is None


def test_a_checkpoint_of_another_network_is_no_checkpoint(tmp_path: Path) -> None:
    other = nn.ModuleDict({"backbone": nn.Linear(3, 2)})
    save_checkpoint(tmp_path / "c", other, recipe().make_optimizer(other), {"step": 1})
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert load_checkpoint(tmp_path / "c", net, recipe().make_optimizer(net)) is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_checkpoint_with_one_foreign_tensor_leaves_network_and_optimizer_alone(
    tmp_path: Path,
) -> None:
    other, net = network(), network()
    optimizer = recipe().make_optimizer(other)
    sum(weight.sum() for weight in other.parameters()).backward()
    optimizer.step()
    name, last = list(other.named_parameters())[-1]
    save_checkpoint(tmp_path / "c", other, optimizer, {"step": 1})
    owner = other.get_submodule(name.rpartition(".")[0])
    setattr(owner, name.rpartition(".")[2], nn.Parameter(torch.zeros(last.shape[0] + 1)))
    save_checkpoint(tmp_path / "d", other, optimizer, {"step": 1})
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fresh = recipe().make_optimizer(net)
    assert load_checkpoint(tmp_path / "d", net, fresh) is None
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not fresh.state_dict()["state"]
    assert load_checkpoint(tmp_path / "c", net, fresh) == {"step": 1}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_a_gpu_learns_as_on_the_cpu(tmp_path: Path) -> None:
    work = make_work(tmp_path / "gpu", device_name="cuda")
    labels = LABELS.cuda()

    def there(
        net: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return nn.functional.cross_entropy(net["backbone"](to_float(images)), labels[rng.ids]), {}

    history = train(work, recipe(epochs=12), network(), there, IMAGES)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
