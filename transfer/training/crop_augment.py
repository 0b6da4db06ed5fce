"""Random resized crops, the augmentation that several trained stages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.stage.base import Stage
from transfer.stage.options import option
from transfer.transforms.geometry import random_resized_crop

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng


class RandomResizedCropAugment(Stage):
    """A mixin for stages whose network is trained on random crops, which may be mirrored."""

    crop: float = option(
        0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images that are mirrored", ge=0, le=1)

    def augment(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """Return a random crop of each image, resized to the network's input size.

        (B, 3, S, S) uint8 -> (B, 3, side, side) float in [0, 1]; `side` is `input_size()`, or S.
        """
        side = self.input_size() or images.shape[-1]
        return random_resized_crop(images, rng, side, (self.crop, 1.0), flip=self.flip)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """The image, and crops of it as different epochs draw them."""
        crops = {f"crop {i + 1}": self.augment(images, rng) for i in range(3)}
        return {"image": images, **crops}
