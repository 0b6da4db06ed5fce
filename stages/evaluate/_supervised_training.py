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

from transfer.training.inference import iter_batches, resize_to
from transfer.training.trainer import epoch_order, train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Model
    from transfer.models.network import Network
    from transfer.stage.context import StageContext
    from transfer.training.recipe import TrainableStage
    from transfer.transforms.per_image_rng import PerImageRng


@dataclass(frozen=True)
class FinetuneConfig:
    """What is taught, in which way."""

    recipe: TrainableStage
    crop: Callable[
        [Tensor, PerImageRng, int], Tensor
    ]  # uint8 images, draw, size -> float (B, 3, size, size)
    classes: int
    locked: tuple[str, ...] = ()  # layers that keep their weights and statistics
    curve: bool = False  # score the test split after every epoch


def finetune(
    context: StageContext,
    name: str,
    lesson: FinetuneConfig,
    network: Network,
    model: Model,
    rows: numpy.ndarray,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Teach `network` the labels of some rows of `train`: (right, curve).

    right: (N,) 100 where it names a test image right, 0 elsewhere. curve: percent after 0, 1, ... epochs, or empty.
    `name` tells lessons of a stage apart: each is resumed, and one that has ended is not taught again.
    """
    kept = context.checkpoints / f"{name}.npz"
    if (before := _load(kept)) is not None:
        return before
    folder = context.checkpoints / name
    folder.mkdir(exist_ok=True)
    context.save_progress(f"in {name}")
    inner = replace(context, checkpoints=folder, label=f"{context.label}, {name}", figures={})
    found = _teach(inner, lesson, network, model, rows)
    draft = kept.with_suffix(".draft")
    with open(draft, "wb") as file:
        np.savez(file, right=found[0], curve=found[1])
    draft.replace(kept)
    rmtree(folder, ignore_errors=True)
    context.save_progress(f"{name} done")
    return found


def _teach(
    context: StageContext,
    lesson: FinetuneConfig,
    network: Network,
    model: Model,
    rows: numpy.ndarray,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    images, test, recipe = context.images["train"], context.images["test"], lesson.recipe
    size, device = model.card.size, context.runtime.device
    for layer in lesson.locked:
        network.get_submodule(layer).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(context.seed_for("head"))
        whole = nn.ModuleDict(
            {"backbone": network, "head": nn.Linear(network.width(size), lesson.classes)}
        )
    if lesson.curve:
        whole.register_buffer("curve", torch.zeros(recipe.epochs + 1))
    wanted = torch.from_numpy(images.labels).to(device)

    def logits(seen: Tensor) -> Tensor:
        return whole["head"](
            whole["backbone"](normalize(seen, model.normalization)).flatten(1)
        ).float()

    def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
        for layer in lesson.locked:
            whole["backbone"].get_submodule(layer).eval()
        found = logits(lesson.crop(batch, rng, size))
        right = (found.argmax(1) == wanted[rng.ids]).float().mean()
        return F.cross_entropy(found, wanted[rng.ids]), {"accuracy": right}

    def score() -> numpy.ndarray:
        whole.eval()
        named = []
        with torch.no_grad(), context.runtime.autocast():
            for _, batch in iter_batches(test, context.runtime):
                named.append(logits(resize_to(batch, size)).argmax(1).cpu().numpy())
        whole.train()
        return 100.0 * (np.concatenate(named) == test.labels)

    def before_epoch(epoch: int) -> list[nn.Module]:
        whole.curve[epoch] = float(score().mean())
        return []

    def order(epoch: int) -> numpy.ndarray:
        return rows[epoch_order(context.seed_for("order", epoch), len(rows))]

    train(
        context,
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
