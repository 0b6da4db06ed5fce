"""Use a trained model: `transfer.load_model("exported").embed("photo.jpg")`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from transfer.artifacts import Model
from transfer.datasets.packed.decode import as_rgb, decode_file, square, upright
from transfer.datasets.spec import MAX_PIXELS, DecodeOptions
from transfer.errors import BadImage, UsageError
from transfer.models.network import Network
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.pooling import pool_features
from transfer.utils.argument_checks import path_argument

BLOCK = 64  # images of a forward pass, so that memory does not grow with their number

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"


class PixelEmbedding(nn.Module):
    """A module from pixels uint8 (B, 3, S, S) to embeddings float32 (B, D); it normalizes them.

    An embedding is a layer averaged over its map, as the protocol `knn` reads it. A flat layer is
    used unchanged.
    """

    def __init__(self, network: Network, layer: str, normalization: Normalization):
        """Use the layers of `network` up to `layer`.

        Args:
            network: the backbone.
            layer: the layer of the embeddings.
            normalization: of the pixels.
        """
        super().__init__()
        # Deeper layers are left out: AlexNet's fc6 and fc7 would be nine tenths of a program.
        needed = network.layer_names[: network.layer_names.index(layer) + 1]
        self.network = Network({name: network.get_submodule(name) for name in needed}, network.spec)
        self.layer, self.normalization = layer, normalization

    def forward(self, images: Tensor) -> Tensor:
        """Embed uint8 (B, 3, S, S) as float32 (B, D)."""
        outputs = self.network.layers(normalize(images, self.normalization), [self.layer])
        return pool_features(outputs[self.layer], 1, "average")


class LoadedModel(Model):
    """A Model with its network in memory, on the CPU, in eval mode."""

    @cached_property
    def _network(self) -> Network:
        return self.network()

    def embedding(self, layer: str | None = None) -> PixelEmbedding:
        """Return the module from pixels to embeddings.

        `layer` replaces the card's `default_layer`; UsageError for an unknown layer.
        """
        try:
            name = self.backbone.resolve_layer(layer or self.card.default_layer)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return PixelEmbedding(self._network, name, self.normalization).eval().requires_grad_(False)

    def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        layer: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> np.ndarray:
        """Compute the embeddings of images.

        The other images of a call may change an embedding by rounding: by 1e-5 of its length.

        Args:
            images: one image or several, of any size: paths of pictures, PIL images, or uint8
                arrays (H, W, 3). An array (N, H, W, 3) is several. Each becomes a square of the
                network's size, in the same way as the training images.
            layer: replaces the card's `default_layer`.
            max_pixels: files with larger pictures are refused.

        Returns:
            float32 (D,) of one image, (N, D) of several.

        Raises:
            UsageError: an image cannot be decoded, or has another type.
        """
        sequence, is_single = _as_sequence(images)
        module, remaining = self.embedding(layer), iter(sequence)
        embeddings = []
        while block := list(islice(remaining, BLOCK)):
            with torch.inference_mode():
                embeddings.append(module(self.pixels(block, max_pixels)).numpy())
        if not embeddings:
            raise UsageError("no images to embed")
        return embeddings[0][0] if is_single else np.concatenate(embeddings)

    def pixels(self, images: Sequence[ImageLike], max_pixels: int = MAX_PIXELS) -> Tensor:
        """Decode images into squares, as image sets are packed: uint8 (N, 3, S, S)."""
        size, fit = self.card.size, self.card.fit
        options = DecodeOptions(max_pixels, self.card.value_range)
        squares = [square(_decode(image, options), size, fit) for image in images]
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def _as_sequence(
    images: ImageLike | Iterable[ImageLike],
) -> tuple[Iterable[ImageLike], bool]:
    """Return the images, and whether there was a single one."""
    if isinstance(images, np.ndarray):
        is_single = images.ndim < 4
        return ([images] if is_single else images), is_single
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images], True
    return images, False


def _decode(image: ImageLike, options: DecodeOptions) -> np.ndarray:
    """Return (H, W, 3) uint8; UsageError for an argument that is not an image."""
    if isinstance(image, Image.Image):
        try:
            return np.asarray(as_rgb(upright(image), options.value_range))
        except Exception as error:  # PIL decodes late, and its decoders raise many kinds
            reason = " ".join(str(error).split())
            raise UsageError(f"an image cannot be decoded: {reason}") from error
    if isinstance(image, str | os.PathLike):
        try:
            return decode_file(Path(image).expanduser(), options)
        except BadImage as error:
            raise UsageError(f"{os.fspath(image)}: {error}") from error
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"{type(image).__name__} is not an image; pass paths, PIL images or uint8 arrays "
            "(H, W, 3)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(
            f"an array of {image.dtype} {image.shape} is not an image; pass uint8 (H, W, 3)"
        )
    return image


def load_model(folder: str | os.PathLike[str]) -> LoadedModel:
    """Load a model that `transfer export` wrote, or a Model of a store; UsageError without one."""
    folder = path_argument("folder", folder).expanduser()
    absent = [name for name in Model.required if not (folder / name).is_file()]
    if absent:
        raise UsageError(
            f"no model in {folder}: {' and '.join(absent)} not found; `transfer export` writes them"
        )
    return LoadedModel(folder)
