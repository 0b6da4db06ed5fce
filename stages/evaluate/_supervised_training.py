"""Supervised training of a network, whole or from some layer on, and its accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.evaluate._label_checks import true_labels
from transfer.training.inference import iter_batches, resize_to
from transfer.training.trainer import epoch_order, train
from transfer.transforms.normalize import normalize
from transfer.utils.files import write_atomic
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, Model
    from transfer.models.network import Network
    from transfer.stage.context import StageContext
    from transfer.training.recipe import TrainableStage
    from transfer.transforms.per_image_rng import PerImageRng


@dataclass(frozen=True)
class FinetuneConfig:
    """What is trained, and how."""

    recipe: TrainableStage
    # (B, 3, S, S) uint8 images, random numbers, size -> (B, 3, size, size) float
    crop: Callable[[Tensor, PerImageRng, int], Tensor]
    classes: int
    frozen: tuple[str, ...] = ()  # layers that keep their weights and statistics
    curve: bool = False  # score the test split after every epoch


def finetune(
    context: StageContext,
    name: str,
    config: FinetuneConfig,
    network: Network,
    model: Model,
    rows: numpy.ndarray,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Train `network` on rows of `train`, and score it on `test`.

    A stopped training is resumed; a finished one is read from its file.

    Args:
        context: the stage that runs.
        name: of the training among those of the stage, in files and messages.
        config: what is trained, and how.
        network: trained in place.
        model: how the network is fed.
        rows: of the training split.

    Returns:
        Two arrays: (N,), 100 where a test image is correct, 0 elsewhere; and the accuracy in
        percent after 0, 1, ... epochs, empty without `config.curve`.
    """
    path = context.checkpoints / f"{name}.npz"
    if (finished := _load(path)) is not None:
        return finished
    folder = context.checkpoints / name
    folder.mkdir(exist_ok=True)
    context.save_progress(f"in {name}")
    inner = replace(context, checkpoints=folder, label=f"{context.label}, {name}", figures={})
    accuracy, curve = _train(inner, config, network, model, rows)

    def save(draft: Path) -> None:
        with open(draft, "wb") as file:  # numpy adds a suffix to the name of a path
            np.savez(file, right=accuracy, curve=curve)

    write_atomic(path, save)
    rmtree(folder, ignore_errors=True)
    context.save_progress(f"{name} done")
    return accuracy, curve


class _Classifier(nn.Module):
    """A backbone with a linear head, and the learning curve so far."""

    curve: Tensor

    def __init__(self, backbone: Network, head: nn.Linear, model: Model):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.normalization = model.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, classes) float32 logits of (B, 3, S, S) images."""
        features = self.backbone(normalize(images, self.normalization))
        return self.head(features.flatten(1)).float()


def _train(
    context: StageContext,
    config: FinetuneConfig,
    network: Network,
    model: Model,
    rows: numpy.ndarray,
) -> tuple[numpy.ndarray, numpy.ndarray]:
    images, test, recipe = context.images["train"], context.images["test"], config.recipe
    size: int = model.card["size"]
    frozen = [network.get_submodule(layer) for layer in config.frozen]
    for module in frozen:
        module.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(context.seed_for("head"))
        head = nn.Linear(network.width(size), config.classes)
    classifier = _Classifier(network, head, model)
    if config.curve:
        # A buffer, so that checkpoints contain it.
        classifier.register_buffer("curve", torch.zeros(recipe.epochs + 1))
    targets = torch.from_numpy(true_labels(images)).to(context.runtime.device)

    def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
        for module in frozen:
            module.eval()
        logits = classifier(config.crop(batch, rng, size))
        target = targets[rng.ids]
        accuracy = (logits.argmax(1) == target).float().mean()
        return F.cross_entropy(logits, target), {"accuracy": accuracy}

    def before_epoch(epoch: int) -> list[nn.Module]:
        accuracy = _test_accuracy(context, classifier, test, size)
        classifier.curve[epoch] = float(accuracy.mean())
        return []

    def order(epoch: int) -> numpy.ndarray:
        return rows[epoch_order(context.seed_for("order", epoch), len(rows))]

    train(
        context,
        recipe,
        classifier,
        loss,
        images,
        order,
        before_epoch=before_epoch if config.curve else None,
    )
    accuracy = _test_accuracy(context, classifier, test, size)
    if not config.curve:
        return accuracy, np.empty(0, np.float32)
    classifier.curve[-1] = float(accuracy.mean())
    return accuracy, classifier.curve.cpu().numpy()


def _test_accuracy(
    context: StageContext, classifier: _Classifier, test: Images, size: int
) -> numpy.ndarray:
    """Return (N,): 100 where a test image is correct, 0 elsewhere."""
    classifier.eval()
    predicted = []
    with torch.no_grad(), context.runtime.autocast():
        for _, batch in iter_batches(test, context.runtime):
            predicted.append(classifier(resize_to(batch, size)).argmax(1).cpu().numpy())
    classifier.train()
    return 100.0 * (np.concatenate(predicted) == true_labels(test))


def _load(path: Path) -> tuple[numpy.ndarray, numpy.ndarray] | None:
    """Return the result of an earlier run of this stage; None where no file can be read."""
    try:
        with np.load(path, allow_pickle=False) as saved:
            return saved["right"], saved["curve"]
    except Exception:  # a damaged archive raises many types; without it, the training is repeated
        return None
