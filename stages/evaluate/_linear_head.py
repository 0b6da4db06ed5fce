"""Linear heads on frozen features: their normalization, training and accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from stages.evaluate._probe_presets import Preset

BLOCK = 1024  # rows that are read at once
UNIT_EPS = 1e-5  # added to the variances of rows of unit length


class Head(nn.Module):
    """A linear classifier on (B, D) features. Its weights start at zero.

    The features are normalized first:
    - `exact`: standardized with the statistics of all training features. This is a batch norm
      without scale and shift for a network that does not change.
    - `batch`: such a batch norm itself; `affine`: one with scale and shift, which do not decay.
    - `l2`: scaled to unit length, then as `exact`, with 1e-5 added to each variance.
    - `none`: not at all.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, norm: str, mean: Tensor, scale: Tensor, classes: int, channels: int = 0):
        """Make a head with zero weights.

        Args:
            norm: see the class.
            mean: (D,) of the training features, after `l2`.
            scale: (D,) inverse standard deviation of the same; 0 for a constant.
            classes: the number of classes.
            channels: of the map that the features are the grid of. `batch` and `affine` normalize
                each channel over its whole grid.
        """
        super().__init__()
        self.norm = norm
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.batch = None
        if norm in ("batch", "affine"):
            self.batch = nn.BatchNorm1d(channels, affine=norm == "affine")
        self.linear = nn.Linear(len(mean), classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, classes) float32 logits; heads learn in float32, as published."""
        with torch.autocast(features.device.type, enabled=False):
            return self._logits(features.float())

    def _logits(self, features: Tensor) -> Tensor:
        if self.batch is not None:
            grid = features.unflatten(1, (self.batch.num_features, -1))
            return self.linear(self.batch(grid).flatten(1))
        if self.norm == "none":
            return self.linear(features)
        if self.norm == "l2":
            features = F.normalize(features, dim=1)
        # The weights are standardized instead of the features, as they are fewer.
        weight = self.linear.weight * self.scale
        return F.linear(features, weight, self.linear.bias - weight @ self.mean)


def make_optimizer(preset: Preset, head: nn.Module) -> torch.optim.Optimizer:
    """Return the preset's optimizer, with weight decay on weights and none on biases."""
    parameters = list(head.parameters())
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    biases = [parameter for parameter in parameters if parameter.ndim == 1]
    groups = [
        {"params": weights, "weight_decay": preset.weight_decay},
        {"params": biases, "weight_decay": 0.0},
    ]
    if preset.optimizer == "adam":
        return torch.optim.Adam(groups, preset.learning_rate, fused=True)
    nesterov = preset.optimizer == "nesterov"
    return torch.optim.SGD(
        groups, preset.learning_rate, momentum=0.9, nesterov=nesterov, fused=True
    )


def learning_rate_at(preset: Preset, share: float) -> float:
    """Return the learning rate after `share` of the training, from 0 to 1."""
    if preset.milestones == "cosine":
        return preset.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    passed = sum(share >= milestone - 1e-9 for milestone in preset.milestones)
    return preset.learning_rate * 0.1**passed


def fit_head(
    head: Head,
    preset: Preset,
    features: numpy.ndarray,
    labels: numpy.ndarray,
    order: Callable[[int], numpy.ndarray],
    device: torch.device,
) -> Iterator[int]:
    """Train a head, and yield the number of each epoch when it is done.

    Args:
        head: the head, trained in place.
        preset: the recipe.
        features: (N, D), mapped from a file or in memory.
        labels: (N,) int64.
        order: returns the rows of an epoch in their order, always equally many.
        device: where the head is trained.
    """
    head.to(device).train()
    optimizer = make_optimizer(preset, head)
    targets = torch.from_numpy(labels).to(device)
    step, steps = 0, preset.epochs * -(-len(order(0)) // preset.batch_size)
    for epoch in range(preset.epochs):
        rows = order(epoch)
        for start in range(0, len(rows), preset.batch_size):
            batch = np.sort(rows[start : start + preset.batch_size])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(preset, step / steps)
            inputs = torch.from_numpy(np.ascontiguousarray(features[batch])).to(device)
            F.cross_entropy(head(inputs), targets[batch]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        yield epoch
    head.eval()


def per_image_accuracy(
    head: Head, features: numpy.ndarray, labels: numpy.ndarray, rows: numpy.ndarray
) -> numpy.ndarray:
    """Return (len(rows),): 100 where the head is correct, 0 elsewhere.

    Args:
        head: a trained head.
        features: (N, D).
        labels: (N,) int64.
        rows: the rows to classify.
    """
    device, correct = head.mean.device, []
    with torch.inference_mode():
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            inputs = torch.from_numpy(np.ascontiguousarray(features[block])).to(device)
            correct.append(head(inputs).argmax(1).cpu().numpy() == labels[block])
    return 100.0 * np.concatenate(correct)


def feature_statistics(
    features: numpy.ndarray, rows: numpy.ndarray, norm: str
) -> tuple[Tensor, Tensor]:
    """Return the (D,) mean and the inverse standard deviation of features over some rows.

    A constant feature gets scale 0, so it does not affect the head. `l2` adds 1e-5 to the variance
    instead, as CompRess does (UMBCvision/CompRess, eval_linear.py, FullBatchNorm): at unit length
    many variances are below that.

    Args:
        features: (N, D).
        rows: the rows to use.
        norm: the norm of the head. `exact` and `l2` alone need statistics; others get 0 and 1.
    """
    width = features.shape[1]
    if norm in ("batch", "affine", "none"):
        return torch.zeros(width), torch.ones(width)
    total = np.zeros(width, dtype=np.float64)
    squares = total.copy()
    for start in range(0, len(rows), BLOCK):
        block = features[rows[start : start + BLOCK]].astype(np.float64)
        if norm == "l2":
            block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    if norm == "l2":
        scale = 1 / np.sqrt(variance + UNIT_EPS)
    else:
        scale = np.where(variance > 1e-10, 1 / np.sqrt(np.maximum(variance, 1e-10)), 0)
    return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()
