"""Published linear probes of AlexNet, layer by layer, for plots of the same protocol.

Only rows of Zhang et al.'s own protocol are here. RotNet's and DeepCluster's tables pool, crop or
train differently, which alone makes two to four points. The digits are second-hand, and the page
says so.
"""

from __future__ import annotations

from typing import Any

from transfer.datasets.packed.pack_stage import Pack
from transfer.stage.base import PlannedStage

PROTOCOL = "linear/zhang2016-v2"
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
NOTE = (
    "The published curves (Zhang et al. 2016 and 2017; Noroozi et al. 2017 and 2018; results that "
    "they quote) are of AlexNet on the same images with the same protocol. Their network is "
    "Caffe's, here `alexnet_bvlc`: 96, 256, 384, 384 and 256 channels, two groups; some have local "
    "response normalization. Torchvision's `alexnet` has fewer channels. The digits are "
    "second-hand: check the papers before you quote them."
)
IMAGENET = {
    "labels": (19.3, 36.3, 44.2, 48.3, 50.5),
    "random weights": (11.6, 17.1, 16.9, 16.3, 14.1),
    "context": (16.2, 23.3, 30.2, 31.7, 29.6),
    "colorization": (12.5, 24.5, 30.4, 31.5, 30.3),
    "BiGAN": (17.7, 24.5, 31.0, 29.9, 28.0),
    "split-brain": (17.7, 29.3, 35.4, 35.2, 32.8),
    "counting": (18.0, 30.6, 34.3, 32.5, 25.7),
    "Jigsaw++ of VGG-16, transferred": (19.2, 32.0, 37.3, 37.1, 34.6),
}
CARD = "imagenet"
COUNTS = {"train": 1_281_167, "test": 50_000}  # all of ImageNet
NETWORKS = ("alexnet", "alexnet_bvlc", "alexnet_cfn")
# Of the networks as the probe reads them.
PUBLISHED_OPTIONS = {
    "width": 1.0,
    "batch_norm": False,
    "stem": "imagenet",
    "conv1_stride": 4,
    "input": "rgb",
}


def published_results(score: PlannedStage[Any], protocol: str) -> dict[str, tuple[float, ...]]:
    """Name -> a figure for each of LAYERS; empty for another protocol, network or image set."""
    backbones = [planned.stage.backbone_spec() for planned in score.inputs.values()]
    backbone = backbones[0] if backbones else None
    if protocol != PROTOCOL or backbone is None or backbone.name not in NETWORKS:
        return {}
    if any(getattr(backbone, name) != value for name, value in PUBLISHED_OPTIONS.items()):
        return {}
    packs = {role: pack.stage for role, pack in score.images.items()}
    if {role: pack.count for role, pack in packs.items()} != COUNTS:
        return {}
    cards = {pack.spec.card for pack in packs.values() if isinstance(pack, Pack)}
    return IMAGENET if cards == {CARD} else {}
