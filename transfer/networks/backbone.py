"""What all families of backbones share: a checked description that names its layers and builds a network.

A description is plain data. It reads, checks and lists its layers without torch, so that a command that only
looks at a pipeline answers at once; `build` is the one method that makes weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from transfer.lazy import nn, torch

if TYPE_CHECKING:
    from transfer.networks.network import Network


class Backbone(BaseModel):
    """One network without its head: a chain of named layers from an image (3, S, S) to features."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    names: ClassVar[tuple[str, ...]] = ()

    name: str = Field(description="which network of the family")
    width: float = Field(1.0, gt=0, le=4, description="multiplies every layer's channels; one is left at least")

    @abstractmethod
    def layer_names(self) -> list[str]:
        """The layers in the order in which they run."""

    @abstractmethod
    def default_layer(self) -> str:
        """The deepest convolutional layer: what features and a pretext's head are read from."""

    @abstractmethod
    def chain(self) -> dict[str, nn.Module]:
        """The layers with fresh weights, drawn from torch's global generator; `build` is what to call."""

    def aliases(self) -> dict[str, str]:
        """Other accepted names of layers, and the layers that they mean."""
        return {}

    def resolve_layer(self, name: str) -> str:
        """The layer that `name`, its own or an alias, means; `ValueError` with the nearest names if none."""
        if name in self.layer_names():
            return name
        aliases = self.aliases()
        if name not in aliases:
            raise unknown(f"layer of {self.name}", name, [*self.layer_names(), *aliases])
        return aliases[name]

    def channels(self, count: int) -> int:
        """The published number of channels, scaled by `width`."""
        return max(1, round(count * self.width))

    def shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """Each layer's output shape for images of `size` px, without weights: what `Network.shapes` says, kept."""
        return _shapes(self, size)

    def build(self, seed: int) -> Network:
        """The network on the CPU, in training mode.

        The same seed gives the same weights, byte for byte on one machine with the same torch.
        """
        from transfer.networks.network import Network

        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            # torch.manual_seed would also seed the GPUs, whose state fork_rng does not give back here.
            torch.default_generator.manual_seed(seed)
            return Network(self.chain(), spec=self)


@lru_cache(maxsize=64)
def _shapes(backbone: Backbone, size: int) -> dict[str, tuple[int, ...]]:
    return backbone.build(0).shapes(size)


def unknown(kind: str, name: str, valid: Iterable[str]) -> ValueError:
    """The error for a name that is none of `valid`: it says the nearest ones, or all if none is near."""
    valid = list(valid)
    near = get_close_matches(str(name), valid, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(valid)}"
    return ValueError(f"no {kind} is called {name!r}; {hint}")
