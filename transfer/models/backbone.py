"""The base of all families of backbones: a checked description of a network and its layers.

A description is plain data. It is read and checked, and lists its layers, without torch, so that
commands that only read a pipeline answer at once. `build_network` makes the weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from transfer.utils.lazy_imports import nn


class Backbone(BaseModel):
    """A network without its head: a chain of named layers from an image (3, S, S) to features."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    names: ClassVar[tuple[str, ...]] = ()

    name: str = Field(description="which network of the family")
    width: float = Field(
        default=1.0,
        gt=0,
        le=4,
        description="factor of every layer's channels; at least one is left",
    )

    if TYPE_CHECKING:  # pydantic adds it to frozen models, which type checkers do not know

        def __hash__(self) -> int: ...

    @abstractmethod
    def layer_names(self) -> list[str]:
        """Return the layers in the order in which they run."""

    @abstractmethod
    def default_layer(self) -> str:
        """Return the deepest convolutional layer, which features and pretext heads read."""

    @abstractmethod
    def make_layers(self) -> dict[str, nn.Module]:
        """Make the layers with weights from torch's global generator; call `build_network`."""

    def without_dense_layers(self) -> Backbone:
        """Return the description without fully connected layers behind `default_layer`."""
        return self

    def for_transfer(self) -> Backbone:
        """Return the description of the trained network where a later stage reads it."""
        return self

    def has_large_stem(self) -> bool:
        """Whether `stem: small` would let the network take smaller images."""
        return False

    def aliases(self) -> dict[str, str]:
        """Return other accepted names -> the layers that they stand for."""
        return {}

    def resolve_layer(self, name: str) -> str:
        """Return the layer of a name or alias; ValueError with the nearest names if unknown."""
        if name in self.layer_names():
            return name
        aliases = self.aliases()
        if name not in aliases:
            raise unknown(f"layer of {self.name}", name, [*self.layer_names(), *aliases])
        return aliases[name]

    def channels(self, count: int) -> int:
        """Return a published number of channels, scaled by `width`."""
        return max(1, round(count * self.width))


def unknown(kind: str, name: str, valid: Iterable[str]) -> ValueError:
    """Return the error for an unknown name, with the nearest valid names, or all if none is near.

    Args:
        kind: the noun of what is named.
        name: the unknown name.
        valid: the valid names.
    """
    valid = list(valid)
    near = get_close_matches(str(name), valid, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(valid)}"
    return ValueError(f"no {kind} is called {name!r}; {hint}")
