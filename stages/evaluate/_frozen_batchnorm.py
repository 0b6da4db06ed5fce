"""Networks that are trained further with new parts, while their batch norms stay fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from transfer.models.blocks import fuse_batchnorm
from transfer.models.build import layer_shapes
from transfer.models.network import as_feature_map

if TYPE_CHECKING:
    from transfer.artifacts import Model
    from transfer.models.backbone import Backbone
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.utils.runtime import Runtime

LinearLayer = TypeVar("LinearLayer", nn.Linear, nn.Conv2d)


class FrozenBatchNormNetwork(nn.ModuleDict):
    """Parts that are trained together, with fixed statistics of batch norms.

    Batches of the VOC protocols are too small, and their images too few, for new statistics.
    """

    def __init__(self, parts: Mapping[str, nn.Module], frozen: Sequence[nn.Module] = ()):
        """Join the parts; modules in `frozen` are not trained, dropout and norms included."""
        super().__init__(parts)
        self._frozen = tuple(frozen)  # a tuple, so that they are not registered again
        for module in frozen:
            module.requires_grad_(False)
        for norm in self._norms():
            norm.requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNormNetwork:
        """Set the mode of all modules except frozen ones and norms, which stay in eval mode."""
        super().train(mode)
        for module in (*self._frozen, *self._norms()):
            module.train(False)
        return self

    def _norms(self) -> list[nn.Module]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]


class Trunk(nn.Module):
    """The layers of a network up to one that is a map: (B, 3, S, S) to float32 (B, C, H, W)."""

    out_channels: int  # C, which Faster R-CNN asks for

    def __init__(self, network: Network, layer: str, runtime: Runtime):
        """Take the layers of a network, with their weights.

        Args:
            network: the network.
            layer: the last layer to take.
            runtime: the precision.
        """
        super().__init__()
        self._runtime = runtime
        end = network.layer_names.index(network.spec.resolve_layer(layer)) + 1
        self.names = network.layer_names[:end]
        for name in self.names:
            self.add_module(name, network.get_submodule(name))

    def forward(self, images: Tensor) -> Tensor:
        """Return the map, computed in mixed precision where the runtime has it.

        The result is float32, because the parts behind it compute positions, which mixed precision
        would round.
        """
        with self._runtime.autocast():
            for name in self.names:
                images = self.get_submodule(name)(images)
        return as_feature_map(self.get_submodule(self.names[-1]), images).float()


def with_fused_batchnorm(model: Model) -> Network:
    """Return the network of a model, its batch norms fused into convolutions where possible."""
    network = model.network()
    fuse_batchnorm(network)
    return network.requires_grad_(True)


def init_normal(
    layer: LinearLayer, deviation: float, bias: float = 0.0, seed: int = 0
) -> LinearLayer:
    """Return `layer` with new weights and biases.

    Args:
        layer: the layer, changed in place.
        deviation: standard deviation of the normal distribution of weights.
        bias: the value of all biases.
        seed: of the weights.
    """
    assert layer.bias is not None, "the layer has biases"
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(layer.weight, std=deviation, generator=generator)
    nn.init.constant_(layer.bias, bias)
    return layer


def map_layer(
    spec: Backbone, shapes: Mapping[str, Sequence[int]], requested: str | None, pools: bool
) -> str:
    """Return the requested layer, or the deepest one that is a map.

    Args:
        spec: the network.
        shapes: layer -> shape of its output without the batch, from the first to the last.
        requested: the name of a layer; None for the deepest.
        pools: whether a pooling may be the deepest.

    Raises:
        ValueError: the layer is not a map, or no layer is one.
    """
    maps = [
        name for name, shape in shapes.items() if len(shape) == 3 and (pools or "pool" not in name)
    ]
    if requested is None:
        if not maps:
            raise ValueError(
                f"{spec.name} has no layer that is a map, which this protocol needs; "
                "choose another network"
            )
        return maps[-1]
    layer = spec.resolve_layer(requested)
    if layer not in maps:
        raise ValueError(
            f"layer {layer} of {spec.name} is not a map, which this protocol needs; "
            f"choose from: {', '.join(maps) or 'none'}"
        )
    return layer


def validate_map(planned: PlannedStage[Any], requested: str | None, pools: bool) -> None:
    """Check that the planned network has the map for the planned images.

    Args:
        planned: the stage of the protocol.
        requested: the name of a layer; None for the deepest.
        pools: whether a pooling may be the deepest.

    Raises:
        ValueError: it has not.
    """
    backbone = planned.inputs["model"].stage.backbone_spec()
    if backbone is not None:
        size = planned.images["train"].stage.size
        # A frozen pydantic model has a hash, which type checkers do not see.
        shapes = layer_shapes(backbone, size)
        map_layer(backbone, shapes, requested, pools)
