"""A network taught with labels, whole or from some layer on, and what it then gets right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.training.inference import fitted, in_order
from transfer.training.trainer import epoch_order, train
from transfer.transforms.normalize import normalise
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Model
    from transfer.models.network import Network
    from transfer.stage.context import Work
    from transfer.training.recipe import Trained
    from transfer.transforms.per_image_rng import Draw


@dataclass(frozen=True)
class Lesson:
    """What is taught, in which way."""

    recipe: Trained
    crop: Callable[
        [Tensor, Draw, int], Tensor
    ]  # uint8 images, draw, size -> float (B, 3, size, size)
    classes: int
    locked: tuple[str, ...] = ()  # layers that keep their weights and statistics
    curve: bool = False  # score the test split after every epoch


def taught(
    work: Work, name: str, lesson: Lesson, network: Network, model: Model, rows: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Teach `network` the labels of some rows of `train`: (right, curve).

    right: (N,) 100 where it names a test image right, 0 elsewhere. curve: percent after 0, 1, ... epochs, or empty.
    `name` tells lessons of a stage apart: each is resumed, and one that has ended is not taught again.
    """
    kept = work.checkpoints / f"{name}.npz"
    if (before := _load(kept)) is not None:
        return before
    folder = work.checkpoints / name
    folder.mkdir(exist_ok=True)
    work.save_progress(f"in {name}")
    inner = replace(work, checkpoints=folder, label=f"{work.label}, {name}", figures={})
    found = _teach(inner, lesson, network, model, rows)
    draft = kept.with_suffix(".draft")
    with open(draft, "wb") as file:
        np.savez(file, right=found[0], curve=found[1])
    draft.replace(kept)
    rmtree(folder, ignore_errors=True)
    work.save_progress(f"{name} done")
    return found


def _teach(
    work: Work, lesson: Lesson, network: Network, model: Model, rows: numpy.ndarray
) -> tuple[numpy.ndarray, numpy.ndarray]:
    images, test, recipe = work.images["train"], work.images["test"], lesson.recipe
    size, device = model.card["size"], work.machine.device
    for layer in lesson.locked:
        network.get_submodule(layer).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(work.seed_for("head"))
        whole = nn.ModuleDict(
            {"backbone": network, "head": nn.Linear(network.width(size), lesson.classes)}
        )
    if lesson.curve:
        whole.register_buffer("curve", torch.zeros(recipe.epochs + 1))
    wanted = torch.from_numpy(images.labels).to(device)

    def logits(seen: Tensor) -> Tensor:
        return whole["head"](
            whole["backbone"](normalise(seen, model.normalisation)).flatten(1)
        ).float()

    def loss(_: nn.Module, batch: Tensor, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        for layer in lesson.locked:
            whole["backbone"].get_submodule(layer).eval()
        found = logits(lesson.crop(batch, draw, size))
        right = (found.argmax(1) == wanted[draw.ids]).float().mean()
        return F.cross_entropy(found, wanted[draw.ids]), {"accuracy": right}

    def score() -> numpy.ndarray:
        whole.eval()
        named = []
        with torch.no_grad(), work.machine.autocast():
            for _, batch in in_order(test, work.machine):
                named.append(logits(fitted(batch, size)).argmax(1).cpu().numpy())
        whole.train()
        return 100.0 * (np.concatenate(named) == test.labels)

    def before_epoch(epoch: int) -> list[nn.Module]:
        whole.curve[epoch] = float(score().mean())
        return []

    def order(epoch: int) -> numpy.ndarray:
        return rows[epoch_order(work.seed_for("order", epoch), len(rows))]

    train(
        work,
        recipe,
        whole,
        loss,
        images,
        order,
        before_epoch=before_epoch if lesson.curve else None,
    )
    right = score()
    if not lesson.curve:
        return right, np.empty(0, np.float32)
    whole.curve[-1] = float(right.mean())
    return right, whole.curve.cpu().numpy()


def _load(path: Path) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """What an earlier start of this stage found; None where there is nothing that can be read."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return saved["right"], saved["curve"]
    except Exception:  # a damaged archive raises many things; it is only a shortcut
        return None
