"""The published linear probes: what is read, how the head is trained, which crops are scored.

The figures of two probes differ by two to four points for the same network, so they are not
compared with one another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Preset:
    """The settings of a probe.

    A crop is a share of an image's side, or `resized`: random areas (0.08 to 1) and shapes.
    """

    source: str
    # All layers with a ReLU of their own; those of them that are maps; the last one.
    layers: Literal["all", "maps", "last"]
    pooling: Literal["average", "bilinear"]  # to the largest grid with at most `dimensions` values
    dimensions: int
    norm: Literal["exact", "batch", "affine", "none", "l2"]  # see `Head`
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "nesterov", "adam"]  # momentum 0.9
    learning_rate: float
    weight_decay: float
    # Shares of the training after which the learning rate falls to a tenth.
    milestones: tuple[float, ...] | Literal["cosine"]
    # Share of the training images that chooses the layer; 0: the test split does, as published.
    held_out: float = 0.0
    # None: whole images, which go through the network once.
    train_crop: float | Literal["resized"] | None = None
    test_crop: float = 1.0
    ten_crops: bool = False
    size: int | None = None  # published side of the network's input, px; None: any


# facebookresearch/vissl, configs/config/benchmark/linear_image_classification/imagenet1k/:
# eval_alexnet_8gpu_transfer_in1k_linear.yaml, eval_resnet_8gpu_transfer_in1k_linear.yaml.
_VISSL_ALEXNET = Preset(
    source="Goyal et al., ICCV 2019, and VISSL's configuration for AlexNet: batch norm with "
    "scale and shift, and a linear layer; random crops; one center crop",
    layers="maps",
    pooling="average",
    dimensions=9600,
    norm="affine",
    epochs=28,
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.01,
    weight_decay=5e-4,
    milestones=(8 / 28, 16 / 28, 24 / 28),
    train_crop=224 / 256,
    test_crop=224 / 256,
    size=224,
)

PRESETS = {
    "pooled": Preset(
        source="ours: layers and heads as in Zhang et al. 2016, but whole images, which go through "
        "the network once",
        layers="all",
        pooling="average",
        dimensions=9216,
        norm="exact",
        epochs=40,
        batch_size=256,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=5e-4,
        milestones="cosine",
        held_out=0.1,
    ),
    "zhang2016": Preset(
        source="Zhang, Isola & Efros, ECCV 2016: 140,000 steps, a tenth of the rate each 40,000; "
        "one center crop",
        layers="maps",
        pooling="bilinear",
        dimensions=9600,
        norm="batch",
        epochs=28,
        batch_size=256,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=5e-4,
        milestones=(2 / 7, 4 / 7, 6 / 7),
        train_crop=227 / 256,
        test_crop=227 / 256,
        size=227,
    ),
    "deepcluster": Preset(
        source="Caron et al., ECCV 2018: no norm before the classifier; softmax averaged over ten "
        "crops",
        layers="maps",
        pooling="average",
        dimensions=9600,
        norm="none",
        epochs=90,
        batch_size=256,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=1e-7,
        milestones=(),
        train_crop=224 / 256,
        test_crop=224 / 256,
        ten_crops=True,
        size=224,
    ),
    "vissl_alexnet": _VISSL_ALEXNET,
    "vissl_resnet": replace(
        _VISSL_ALEXNET,
        source="Goyal et al., ICCV 2019, and VISSL's configuration for ResNets: as for AlexNet, "
        "but random areas and shapes in training, and Nesterov's momentum",
        optimizer="nesterov",
        train_crop="resized",
    ),
    "relational2020": Preset(
        source="Patacchiola & Storkey, NeurIPS 2020: the last layer, no augmentation; the last "
        "epoch counts",
        layers="last",
        pooling="average",
        dimensions=9216,
        norm="none",
        epochs=100,
        batch_size=128,
        optimizer="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        milestones=(),
    ),
    "compress": Preset(
        source="Abbasi Koohpayegani et al., NeurIPS 2020: the last layer at unit length, then "
        "standardized",
        layers="last",
        pooling="average",
        dimensions=9216,
        norm="l2",
        epochs=40,
        batch_size=256,
        optimizer="sgd",
        learning_rate=0.01,
        weight_decay=1e-4,
        milestones=(15 / 40, 30 / 40),
        train_crop="resized",
        test_crop=224 / 256,
        size=224,
    ),
}
