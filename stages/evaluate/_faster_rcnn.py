"""torchvision's Faster R-CNN on one map of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign

from stages.evaluate._frozen_batchnorm import Trunk

if TYPE_CHECKING:
    from transfer.models.network import Network
    from transfer.transforms.per_image_rng import PerImageRng
    from transfer.utils.runtime import Runtime

RATIOS = (0.5, 1.0, 2.0)  # height to width of anchors
# For networks without fully connected layers of their own:
REGION_SIDE = 7  # side of the map that a region is pooled to
HIDDEN_UNITS = 1024  # of the two fully connected layers behind regions


class SampledRegions(BalancedPositiveNegativeSampler):
    """Draws the anchors or regions of each image that are learned from.

    The draw of an image depends on the image alone, not on its batch.
    """

    rng: PerImageRng  # of the images that are learned from next

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return two lists of (n,) uint8 masks: drawn objects, and drawn background.

        `matched_idxs` has (n,) for each image: 1 or more for an object, 0 for background, below 0
        for neither.
        """
        priorities = self.rng.uniform(max(map(len, matched_idxs)))
        objects, backgrounds = [], []
        for matched, priority in zip(matched_idxs, priorities, strict=True):
            priority = priority[: len(matched)]
            limit = int(self.batch_size_per_image * self.positive_fraction)
            chosen = _lowest(priority, matched >= 1, limit)
            objects.append(chosen)
            rest = self.batch_size_per_image - int(chosen.sum())
            backgrounds.append(_lowest(priority, matched == 0, rest))
        return objects, backgrounds


def _lowest(priority: Tensor, allowed: Tensor, count: int) -> Tensor:
    """Return (n,) uint8: 1 for the allowed entries of lowest priority, at most `count`."""
    order = priority.masked_fill(~allowed, 2.0).argsort(stable=True)
    chosen = order[: min(count, int(allowed.sum()))]
    return torch.zeros_like(allowed, dtype=torch.uint8).index_fill_(0, chosen, 1)


class Detector(FasterRCNN):
    """Faster R-CNN whose examples are drawn by `SampledRegions`."""

    def set_samplers(self, anchors: SampledRegions, regions: SampledRegions) -> None:
        """Set what draws anchors for the proposal network and regions for the heads."""
        assert isinstance(self.rpn, RegionProposalNetwork)
        assert isinstance(self.roi_heads, RoIHeads)
        self.rpn.fg_bg_sampler, self.roi_heads.fg_bg_sampler = anchors, regions
        self.samplers = (anchors, regions)

    def set_rng(self, rng: PerImageRng) -> None:
        """Set the random numbers of the images that are learned from next."""
        for sampler in self.samplers:
            sampler.rng = rng


def detector(
    network: Network,
    layer: str,
    classes: int,
    size: int,
    runtime: Runtime,
    anchors: Sequence[float],
    regions: int,
    score_threshold: float,
    seed: int,
) -> Detector:
    """Build a detector for square images that are normalized already.

    The layers fc6 and fc7 of a network are used behind its regions, as in Fast R-CNN, if their
    input fits the map of `layer`.

    Args:
        network: the network, whose weights are used.
        layer: the layer whose map is searched.
        classes: the number of classes, without the background.
        size: side of the images, px.
        runtime: the device and precision.
        anchors: sides of the anchors as shares of the image's side.
        regions: regions of an image that are learned from.
        score_threshold: boxes with a lower score are dropped.
        seed: of the weights of new layers.
    """
    trunk = Trunk(network, layer, runtime)
    channels = trunk.out_channels = network.shapes(size)[layer][0]
    head, width, side = _fully_connected(network, channels)
    sides = tuple(share * size for share in anchors)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if head is None:
            head = TwoMLPHead(channels * REGION_SIDE**2, HIDDEN_UNITS)
            width, side = HIDDEN_UNITS, REGION_SIDE
        model = Detector(
            trunk,
            min_size=size,
            max_size=size,
            size_divisible=1,
            image_mean=[0.0] * 3,
            image_std=[1.0] * 3,
            rpn_anchor_generator=AnchorGenerator((sides,), (RATIOS,)),
            box_roi_pool=MultiScaleRoIAlign(["0"], side, 2),
            box_head=head,
            box_predictor=_Predictor(width, classes + 1),
            rpn_post_nms_top_n_test=300,
            box_score_thresh=score_threshold,
            box_nms_thresh=0.3,
        )
    model.set_samplers(SampledRegions(256, 0.5), SampledRegions(regions, 0.25))
    return model


class _Predictor(nn.Module):
    """Class scores and box offsets of each class for (R, D) regions, initialized as Fast R-CNN."""

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
    """Return fc6 and fc7, the width of their output, and the side of the map that they take.

    The first is None where the network lacks them, or where their input does not fit.
    """
    if not {"fc6", "fc7"} <= {*network.layer_names}:
        return None, 0, 0
    both = nn.Sequential(network.get_submodule("fc6"), network.get_submodule("fc7"))
    first, last = [module for module in both.modules() if isinstance(module, nn.Linear)]
    side = round((first.in_features / channels) ** 0.5)
    if channels * side**2 != first.in_features:
        return None, 0, 0
    return both, last.out_features, side
