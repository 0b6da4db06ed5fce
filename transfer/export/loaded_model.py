"""A trained model put to use: `transfer.load_model("exported").embed("photo.jpg")`."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from transfer.errors import BadImage, UsageError
from transfer.models.network import Network
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.pooling import pool_features

BLOCK = 64  # images a forward pass: memory does not grow with their number

ImageLike: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"


class PixelEmbedding(nn.Module):
    """Pixels to embeddings, normalization included: uint8 (B, 3, S, S) to float32 (B, D).

    What a layer says, averaged over its map, as the protocol `knn` reads it; a flat layer is its own embedding.
    """

    def __init__(self, network: Network, layer: str, normalization: Normalization):
        super().__init__()
        # Deeper layers are no part of it: AlexNet's fc6 and fc7 would be nine tenths of an exported program.
        needed = network.layer_names[: network.layer_names.index(layer) + 1]
        self.network = Network({name: network.get_submodule(name) for name in needed}, network.spec)
        self.layer, self.normalization = layer, normalization

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, S, S) to float32 (B, D)."""
        found = self.network.layers(normalize(images, self.normalization), [self.layer])
        return pool_features(found[self.layer], 1, "average")


class LoadedModel(Model):
    """A Model with its network in memory, on the CPU, in eval mode."""

    @cached_property
    def _network(self) -> Network:
        return self.network()

    def embedding(self, layer: str | None = None) -> PixelEmbedding:
        """The module that turns pixels into embeddings; layer: another than the card's `default_layer`."""
        try:
            name = self.backbone.resolve_layer(layer or self.card.default_layer)
        except ValueError as error:
            raise UsageError(str(error)) from error
        return PixelEmbedding(self._network, name, self.normalization).eval().requires_grad_(False)

    def embed(
        self, images: ImageLike | Sequence[ImageLike], layer: str | None = None
    ) -> np.ndarray:
        """Embeddings of pictures: (D,) float32 of one, (N, D) of several. UsageError names what is no picture.

        images: paths (JPEG, PNG, WebP), PIL images, or uint8 arrays (H, W, 3), one or several, of any size; an array
        (N, H, W, 3) is several. Each is made a square of the network's size as it was when the model learned.

        The pictures beside a picture may change its values by rounding: by 1e-5 of its length.
        """
        one = isinstance(images, str | os.PathLike | Image.Image) or (
            isinstance(images, np.ndarray) and images.ndim < 4
        )
        module, rest, found = self.embedding(layer), iter([images] if one else images), []
        while block := list(islice(rest, BLOCK)):
            with torch.inference_mode():
                found.append(module(self.pixels(block)).numpy())
        if not found:
            raise UsageError("no images to embed")
        return found[0][0] if one else np.concatenate(found)

    def pixels(self, images: Sequence[ImageLike]) -> Tensor:
        """uint8 (N, 3, S, S) of pictures, decoded and made squares as image sets are packed."""
        size, fit = self.card.size, self.card.fit
        squares = [square(_decoded(image), size, fit) for image in images]
        return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).contiguous()


def _decoded(image: ImageLike) -> np.ndarray:
    """(H, W, 3) uint8."""
    if isinstance(image, Image.Image):
        try:
            return np.asarray(as_rgb(upright(image)))
        except (
            Exception
        ) as error:  # decoders raise almost anything, and PIL decodes when the pixels are asked for
            raise UsageError(
                f"a picture that cannot be decoded: {' '.join(str(error).split())}"
            ) from error
    if isinstance(image, str | os.PathLike):
        try:
            return decode_file(Path(image).expanduser())
        except BadImage as error:
            raise UsageError(f"{os.fspath(image)}: {error}") from error
    if not isinstance(image, np.ndarray):
        raise UsageError(
            f"a {type(image).__name__} is no picture: give paths, PIL images or uint8 arrays (H, W, 3)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(
            f"an array of {image.dtype} {image.shape} is no picture: it must be uint8 (H, W, 3)"
        )
    return image


def load_model(folder: str | os.PathLike[str]) -> LoadedModel:
    """The model that `transfer export` wrote, or a Model of a store; UsageError where there is none."""
    folder = Path(folder).expanduser()
    absent = [name for name in Model.required if not (folder / name).is_file()]
    if absent:
        raise UsageError(
            f"no model in {folder}: {' and '.join(absent)} not found; `transfer export` writes them"
        )
    return LoadedModel(folder)
