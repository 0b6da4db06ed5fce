"""Heads that learn beside the augmentation: the network sees new crops of every image in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.evaluate._layer_features import grid, pool_to_grid
from stages.evaluate._linear_head import Head, learning_rate_at, make_optimizer
from stages.evaluate._probe_crops import fixed_crops, random_crop
from transfer.models.blocks import fuse_batchnorm
from transfer.training.inference import iter_batches
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from stages.evaluate._probe_presets import Preset
    from transfer.artifacts import Images, Model
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class ProbeRecipe(TrainableStage):
    """The training of all heads at once by a preset."""

    preset: object

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        optimizer = make_optimizer(self.preset, network)
        for group in optimizer.param_groups:
            group["scale"] = 1.0
        return optimizer

    def learning_rate_at(self, epoch: float) -> float:
        return learning_rate_at(self.preset, epoch / max(1, self.epochs))


class AugmentedProbe:
    """A frozen network, its heads, and the preset that says which crops they see."""

    def __init__(self, context: StageContext, model: Model, layers: list[str], preset: Preset):
        self.context, self.model, self.layers, self.preset = context, model, layers, preset
        self.network = model.network()
        fuse_batchnorm(self.network)
        self.network.to(context.runtime.device, memory_format=torch.channels_last)

    def features(self, crops: Tensor) -> list[Tensor]:
        """(B, 3, S, S) float crops to the (B, D) features of each layer."""
        with torch.no_grad():
            found = self.network.layers(normalize(crops, self.model.normalization), self.layers)
        return [
            pool_to_grid(found[layer], self.preset.dimensions, self.preset.pooling)
            for layer in self.layers
        ]

    def train(self, heads: list[Head], images: Images, labels: numpy.ndarray) -> None:
        """All heads, each on its layer of the same crops."""
        wanted, size = (
            torch.from_numpy(labels).to(self.context.runtime.device),
            self.model.card.size,
        )

        def loss(
            network: nn.Module, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            seen = self.features(random_crop(batch, rng, self.preset.train_crop, size))
            logits = [head(one) for head, one in zip(network, seen, strict=True)]
            losses = [F.cross_entropy(one, wanted[rng.ids]) for one in logits]
            rights = [(one.argmax(1) == wanted[rng.ids]).float().mean() for one in logits]
            return torch.stack(losses).sum(), {"accuracy": torch.stack(rights).max()}

        preset = self.preset
        recipe = ProbeRecipe(
            epochs=preset.epochs,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate,
            preset=preset,
        )
        train(self.context, recipe, nn.ModuleList(heads), loss, images)

    def right(
        self, heads: list[Head], images: Images, labels: numpy.ndarray
    ) -> list[numpy.ndarray]:
        """For each head (N,): 100 where it names the image right, 0 elsewhere; of ten crops the mean softmax counts."""
        named: list[list[Tensor]] = [[] for _ in heads]
        preset, size = self.preset, self.model.card.size
        with self.context.progress("scoring", len(images), "images") as progress, torch.no_grad():
            for _, batch in iter_batches(images, self.context.runtime):
                sums: list[Tensor | float] = [0.0] * len(heads)
                for crops in fixed_crops(batch, preset.test_crop, size, preset.ten_crops):
                    with self.context.runtime.autocast():
                        seen = self.features(crops)
                    logits = [head(one) for head, one in zip(heads, seen, strict=True)]
                    sums = [
                        total + one.float().softmax(1)
                        for total, one in zip(sums, logits, strict=True)
                    ]
                for each, total in zip(named, sums, strict=True):
                    each.append(total.argmax(1).cpu())
                progress.advance(len(batch))
                self.context.pause_point()
        return [100.0 * (torch.cat(each).numpy() == labels) for each in named]


def layer_widths(model: Model, layers: list[str], dimensions: int) -> list[int]:
    """D of each layer's features."""
    found = []
    for layer in layers:
        shape = model.layers[layer]
        side = grid(shape, dimensions)
        found.append(int(np.prod([shape[0], *(min(side, one) for one in shape[1:])])))
    return found
