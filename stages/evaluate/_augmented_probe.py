"""Linear heads trained with augmentation: new crops of every image in every epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.evaluate._layer_features import grid_side, pool_to_grid
from stages.evaluate._linear_head import Head, learning_rate_at, make_optimizer
from stages.evaluate._probe_crops import fixed_crops, random_crop
from stages.evaluate._probe_presets import Preset
from transfer.models.blocks import fuse_batchnorm
from transfer.training.inference import iter_batches
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images, Model
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class ProbeRecipe(TrainableStage):
    """The training of all heads at once, by a preset."""

    preset: Preset

    def make_optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the preset's optimizer over all heads."""
        optimizer = make_optimizer(self.preset, network)
        for group in optimizer.param_groups:
            group.update(scale=1.0, constant=False)
        return optimizer

    def learning_rate_at(self, epoch: float) -> float:
        """Return the preset's learning rate after `epoch` epochs."""
        return learning_rate_at(self.preset, epoch / max(1, self.epochs))


class AugmentedProbe:
    """A frozen network and the preset by which heads are trained on crops of images."""

    def __init__(self, context: StageContext, model: Model, layers: list[str], preset: Preset):
        """Load the network.

        Args:
            context: the stage that runs.
            model: the network.
            layers: the layers to probe.
            preset: the protocol; it has a `train_crop`.
        """
        self.context, self.model, self.layers, self.preset = context, model, layers, preset
        self.size: int = model.card.size
        self.network = model.network()
        fuse_batchnorm(self.network)
        self.network.to(
            context.runtime.device,
            memory_format=torch.channels_last,  # pyright: ignore[reportCallIssue]  # no overload
        )

    def features(self, crops: Tensor) -> list[Tensor]:
        """Return the (B, D) features of each layer of (B, 3, S, S) float crops."""
        with torch.no_grad():
            inputs = normalize(crops, self.model.normalization)
            activations = self.network.layers(inputs, self.layers)
        return [
            pool_to_grid(activations[layer], self.preset.dimensions, self.preset.pooling)
            for layer in self.layers
        ]

    def train(self, heads: list[Head], images: Images, labels: numpy.ndarray) -> None:
        """Train all heads, each on its layer of the same crops.

        Args:
            heads: a head for each layer, trained in place.
            images: N training images.
            labels: (N,) int64.
        """
        preset, size = self.preset, self.size
        train_crop = preset.train_crop
        assert train_crop is not None, "a probe of whole images does not train on crops"
        targets = torch.from_numpy(labels).to(self.context.runtime.device)

        def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
            features = self.features(random_crop(batch, rng, train_crop, size))
            target = targets[rng.ids]
            logits = [head(values) for head, values in zip(heads, features, strict=True)]
            losses = [F.cross_entropy(values, target) for values in logits]
            accuracies = [(values.argmax(1) == target).float().mean() for values in logits]
            return torch.stack(losses).sum(), {"accuracy": torch.stack(accuracies).max()}

        recipe = ProbeRecipe(
            epochs=preset.epochs,
            batch_size=preset.batch_size,
            learning_rate=preset.learning_rate,
            preset=preset,
        )
        train(self.context, recipe, nn.ModuleList(heads), loss, images)

    def per_image_accuracy(
        self, heads: list[Head], images: Images, labels: numpy.ndarray
    ) -> list[numpy.ndarray]:
        """Return for each head (N,): 100 where it is correct, 0 elsewhere.

        Of several crops, the mean softmax decides.

        Args:
            heads: trained heads.
            images: N images.
            labels: (N,) int64.
        """
        predicted: list[list[Tensor]] = [[] for _ in heads]
        with self.context.progress("scoring", len(images), "images") as progress, torch.no_grad():
            for _, batch in iter_batches(images, self.context.runtime):
                for parts, sums in zip(predicted, self._softmax_sums(heads, batch), strict=True):
                    parts.append(sums.argmax(1).cpu())
                progress.advance(len(batch))
                self.context.pause_point()
        return [100.0 * (torch.cat(parts).numpy() == labels) for parts in predicted]

    def _softmax_sums(self, heads: list[Head], batch: Tensor) -> list[Tensor]:
        """Return for each head the (B, classes) softmax, summed over the crops."""
        sums: list[Tensor] = []
        preset = self.preset
        for crops in fixed_crops(batch, preset.test_crop, self.size, preset.ten_crops):
            with self.context.runtime.autocast():
                features = self.features(crops)
            outputs = [
                head(values).float().softmax(1)
                for head, values in zip(heads, features, strict=True)
            ]
            sums = (
                [total + output for total, output in zip(sums, outputs, strict=True)]
                if sums
                else outputs
            )
        return sums


def layer_widths(model: Model, layers: list[str], dimensions: int) -> list[int]:
    """Return D of each layer's features.

    Args:
        model: the network.
        layers: the layers.
        dimensions: the largest D of a map.
    """
    widths = []
    for layer in layers:
        channels, *sides = model.layers[layer]
        side = grid_side(model.layers[layer], dimensions)
        widths.append(int(np.prod([channels, *(min(side, length) for length in sides)])))
    return widths
