"""A network that is trained on with new parts behind it: its batch norms stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from transfer.models.blocks import fuse_batchnorm
from transfer.models.build import layer_shapes

if TYPE_CHECKING:
    from transfer.artifacts import Model
    from transfer.models.backbone import Backbone
    from transfer.stage.base import PlannedStage
    from transfer.utils.runtime import Runtime


class FrozenBatchNormNetwork(nn.ModuleDict):
    """Parts that are trained together. Batch norms keep their statistics, as batches are small and their images few."""

    def __init__(self, parts: Mapping[str, nn.Module], frozen: Sequence[nn.Module] = ()):
        """frozen: what is not trained at all, dropout and norms included."""
        super().__init__(parts)
        self._frozen = tuple(frozen)  # in a tuple: they are no parts of their own
        for one in frozen:
            one.requires_grad_(False)
        for norm in self._norms():
            norm.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNormNetwork:
        super().train(mode)
        for one in (*self._frozen, *self._norms()):
            one.train(False)
        return self

    def _norms(self) -> list[nn.Module]:
        return [one for one in self.modules() if isinstance(one, _BatchNorm)]


class Trunk(nn.Module):
    """The layers of a network up to one that gives a map: (B, 3, S, S) to float32 (B, C, H, W)."""

    def __init__(self, network: nn.Module, layer: str, runtime: Runtime):
        super().__init__()
        self._machine = runtime
        self.names = network.layer_names[
            : network.layer_names.index(network.spec.resolve_layer(layer)) + 1
        ]
        for name in self.names:
            self.add_module(name, network.get_submodule(name))

    def forward(self, images: Tensor) -> Tensor:
        """In mixed precision where the machine has it; what follows computes places, which that would round."""
        with self._machine.autocast():
            for name in self.names:
                images = self.get_submodule(name)(images)
        last = self.get_submodule(self.names[-1])
        return (last.as_feature_map(images) if hasattr(last, "as_feature_map") else images).float()


def with_fused_batchnorm(model: Model) -> nn.Module:
    """The network of a model, its batch norms multiplied into the convolutions before them where they can be."""
    network = model.network()
    fuse_batchnorm(network)
    return network.requires_grad_(True)


def init_normal(layer: nn.Module, deviation: float, bias: float = 0.0, seed: int = 0) -> nn.Module:
    """`layer` with weights drawn from a normal distribution, and one value for its biases."""
    draw = torch.Generator().manual_seed(seed)
    nn.init.normal_(layer.weight, std=deviation, generator=draw)
    nn.init.constant_(layer.bias, bias)
    return layer


def map_layer(
    spec: Backbone, shapes: Mapping[str, Sequence[int]], asked: str | None, pools: bool
) -> str:
    """The layer asked for, or the deepest that gives a map (with `pools`, a pooling may be that); ValueError if none.

    shapes: layer -> its output's, without the batch, from the first to the last.
    """
    maps = [
        name for name, shape in shapes.items() if len(shape) == 3 and (pools or "pool" not in name)
    ]
    if asked is None and maps:
        return maps[-1]
    layer = None if asked is None else spec.resolve_layer(asked)
    if layer not in maps:
        what = (
            f"layer {layer} of {spec.name} gives no map of places"
            if layer
            else f"no layer of {spec.name} does"
        )
        raise ValueError(
            f"{what}, which this protocol needs; there is: {', '.join(maps) or 'none'}"
        )
    return layer


def validate_map(planned: PlannedStage, asked: str | None, pools: bool) -> None:
    """ValueError where the network that is planned has no such map for the images that are planned."""
    backbone = planned.inputs["model"].stage.backbone_spec()
    if backbone is not None:
        size = planned.images["train"].stage.size
        map_layer(backbone, layer_shapes(backbone, size), asked, pools)
