"""Linear heads on frozen features: what stands before them, how they learn, and what they get right."""

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


class Head(nn.Module):
    """A linear classifier on (B, D) features, of zeros at first, after one of four norms.

    `exact`: standardized by all training features: batch norm without scale and shift, for a network that does not
    change. `batch`: such a batch norm itself. `l2`: unit length, then as `exact`. `none`: nothing.
    """

    def __init__(self, norm: str, mean: Tensor, scale: Tensor, classes: int, channels: int = 0):
        """mean, scale: (D,) of the training features (after `l2`); one over the deviation, 0 for a constant.

        channels: of the map that features are the grid of, for `batch`, which normalizes each over its whole grid.
        """
        super().__init__()
        self.norm = norm
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.batch = nn.BatchNorm1d(channels, affine=False) if norm == "batch" else None
        self.linear = nn.Linear(len(mean), classes)
        nn.init.zeros_(self.linear.weight), nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(
            features.device.type, enabled=False
        ):  # as published: heads learn in float32
            return self._logits(features.float())

    def _logits(self, features: Tensor) -> Tensor:
        if self.batch is not None:
            return self.linear(
                self.batch(features.unflatten(1, (self.batch.num_features, -1))).flatten(1)
            )
        if self.norm == "none":
            return self.linear(features)
        if self.norm == "l2":
            features = F.normalize(features, dim=1)
        # Standardizing the weights instead of the features: there are fewer of them.
        weight = self.linear.weight * self.scale
        return F.linear(features, weight, self.linear.bias - weight @ self.mean)


def make_optimizer(preset: Preset, head: nn.Module) -> torch.optim.Optimizer:
    """Weight decay on weights, none on biases."""
    weights = [one for one in head.parameters() if one.ndim > 1]
    biases = [one for one in head.parameters() if one.ndim == 1]
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
    """The learning rate when `share` of the training is done."""
    if preset.milestones == "cosine":
        return preset.learning_rate * 0.5 * (1 + math.cos(math.pi * share))
    return preset.learning_rate * 0.1 ** sum(share >= drop - 1e-9 for drop in preset.milestones)


def fit_head(
    head: Head,
    preset: Preset,
    features: numpy.ndarray,
    labels: numpy.ndarray,
    order: Callable[[int], numpy.ndarray],
    device: torch.device,
) -> Iterator[int]:
    """Train `head` on rows of (N, D) features, mapped or not; yields after each epoch. `order`: an epoch's rows."""
    head.to(device).train()
    optimizer, wanted = make_optimizer(preset, head), torch.from_numpy(labels).to(device)
    done, total = 0, preset.epochs * -(-len(order(0)) // preset.batch_size)
    for epoch in range(preset.epochs):
        rows = order(epoch)
        for start in range(0, len(rows), preset.batch_size):
            batch = np.sort(rows[start : start + preset.batch_size])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(preset, done / total)
            seen = torch.from_numpy(np.ascontiguousarray(features[batch])).to(device)
            F.cross_entropy(head(seen), wanted[batch]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            done += 1
        yield epoch
    head.eval()


def per_image_accuracy(
    head: Head, features: numpy.ndarray, labels: numpy.ndarray, rows: numpy.ndarray
) -> numpy.ndarray:
    """(len(rows),) 100 where the head names the row right, 0 elsewhere."""
    device, named = head.mean.device, []
    with torch.inference_mode():
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            seen = torch.from_numpy(np.ascontiguousarray(features[block])).to(device)
            named.append(head(seen).argmax(1).cpu().numpy() == labels[block])
    return 100.0 * np.concatenate(named)


def feature_statistics(
    features: numpy.ndarray, rows: numpy.ndarray, norm: str
) -> tuple[Tensor, Tensor]:
    """Mean and one over the deviation of each value, over the given rows; a constant value counts for nothing."""
    width = features.shape[1]
    if norm in ("batch", "none"):
        return torch.zeros(width), torch.ones(width)
    total = np.zeros(width, dtype=np.float64)
    squares = total.copy()
    for start in range(0, len(rows), 1024):
        block = features[rows[start : start + 1024]].astype(np.float64)
        if norm == "l2":
            block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    least = 1e-10 if norm == "exact" else 1e-10 / width  # of values that are 1/sqrt(width) or so
    scale = np.where(variance > least, 1 / np.sqrt(np.maximum(variance, least)), 0)
    return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()
