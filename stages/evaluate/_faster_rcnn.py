"""torchvision's Faster R-CNN on the layers of a network, on one map, each image drawing its own examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from stages.evaluate._frozen_batchnorm import Trunk

if TYPE_CHECKING:
    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng
    from transfer.utils.runtime import Runtime

RATIOS = (0.5, 1.0, 2.0)  # height to width of anchors
REGION = 7  # side that regions are pooled to, where the network has no fully connected layers that say theirs
UNITS = 1024  # of the two fully connected layers that stand behind regions then


class SampledRegions:
    """Which anchors or regions are learned from: so many an image, at most a share of them objects, drawn at random."""

    def __init__(self, count: int, share: float):
        self.count, self.share = count, share
        self.rng: PerImageRng  # of the images that are learned from next

    def __call__(self, matched: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """(n,) an image, 1 and more for an object, 0 for none, below for neither; to masks of what was drawn."""
        orders = self.rng.uniform(max(map(len, matched)))
        objects, grounds = [], []
        for found, order in zip(matched, orders, strict=True):
            order = order[: len(found)]
            chosen = _lowest(order, found >= 1, int(self.count * self.share))
            objects.append(chosen)
            grounds.append(_lowest(order, found == 0, self.count - int(chosen.sum())))
        return objects, grounds


def _lowest(order: Tensor, allowed: Tensor, count: int) -> Tensor:
    """(n,) uint8: 1 for the allowed entries of lowest order, so many at most."""
    places = order.masked_fill(~allowed, 2.0).argsort(stable=True)[: min(count, int(allowed.sum()))]
    return torch.zeros_like(allowed, dtype=torch.uint8).index_fill_(0, places, 1)


def detector(
    network: Network,
    layer: str,
    classes: int,
    size: int,
    runtime: Runtime,
    anchors: Sequence[float],
    regions: int,
    least_score: float,
    seed: int,
) -> FasterRCNN:
    """For square images of `size` px that are normalized already; anchors: their sides as shares of the image's.

    A network with fc6 and fc7, and the map that they were trained on, has them behind its regions, as in Fast R-CNN.
    """
    trunk = Trunk(network, layer, runtime)
    channels = trunk.out_channels = network.shapes(size)[layer][0]
    head, width, side = _fully_connected(network, channels)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if head is None:
            head, width, side = TwoMLPHead(channels * REGION**2, UNITS), UNITS, REGION
        made = FasterRCNN(
            trunk,
            min_size=size,
            max_size=size,
            size_divisible=1,
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_anchor_generator=AnchorGenerator(
                (tuple(share * size for share in anchors),), (RATIOS,)
            ),
            box_roi_pool=MultiScaleRoIAlign(["0"], side, 2),
            box_head=head,
            box_predictor=_Predictor(width, classes + 1),
            rpn_post_nms_top_n_test=300,
            box_score_thresh=least_score,
            box_nms_thresh=0.3,
        )
    made.rpn.fg_bg_sampler, made.roi_heads.fg_bg_sampler = (
        SampledRegions(256, 0.5),
        SampledRegions(regions, 0.25),
    )
    return made


class _Predictor(nn.Module):
    """(R, D) to the scores of the classes and, for each class, how a region's corners move; drawn as in Fast R-CNN."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.scores, self.moves = nn.Linear(width, classes), nn.Linear(width, 4 * classes)
        for layer, deviation in ((self.scores, 0.01), (self.moves, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        regions = regions.flatten(1)
        return self.scores(regions), self.moves(regions)


def _fully_connected(network: Network, channels: int) -> tuple[nn.Module | None, int, int]:
    """fc6 and fc7, what they put out, and the side of the map that they take; None where they do not fit."""
    if not {"fc6", "fc7"} <= {*network.layer_names}:
        return None, 0, 0
    both = nn.Sequential(network.get_submodule("fc6"), network.get_submodule("fc7"))
    first, last = [one for one in both.modules() if isinstance(one, nn.Linear)]
    side = round((first.in_features / channels) ** 0.5)
    return (
        (both, last.out_features, side) if channels * side**2 == first.in_features else (None, 0, 0)
    )
