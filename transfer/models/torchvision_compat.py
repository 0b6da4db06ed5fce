"""Whose class loads the state dict of a network strictly: torchvision's, timm's, or only our own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.models.alexnet import AlexNet
from transfer.models.backbone import Backbone
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.vgg import VGG
from transfer.models.weight_conversion import torchvision_names
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Compatibility:
    """How a state dict is to be loaded: into whose class, or why not into torchvision's."""

    names: dict[str, str]  # ours -> the names in the file
    torchvision_name: str | None = None  # torchvision's name of the network
    absent: dict[str, tuple[int, ...]] = field(
        default_factory=dict
    )  # torchvision's that we lack: zeros in the file
    mismatch: str = ""  # not torchvision's
    belongs: str = ""  # whose it is then, in words


def find_compatible(spec: Backbone, state: dict[str, Tensor]) -> Compatibility:
    """Whether torchvision has this very network, found by building its own without memory."""
    why_not = _other_architecture(spec)
    if why_not and isinstance(spec, Timm):
        belongs = f"`{spec.constructor_call()}` loads it"
        return Compatibility(torchvision_names(spec, state), mismatch=why_not, belongs=belongs)
    if why_not:
        own = {name: name for name in state}
        return Compatibility(
            own, mismatch=why_not, belongs="What `model.network()` returns loads it"
        )
    theirs = f"{spec.name}_bn" if isinstance(spec, VGG) and spec.batch_norm else spec.name
    names, wanted = torchvision_names(spec, state), torchvision_model(theirs).state_dict()
    odd = [
        ours
        for ours, name in names.items()
        if name not in wanted or wanted[name].shape != state[ours].shape
    ]
    if odd:  # a fault of ours, for `_other_architecture` should have known
        raise TransferError(f"{', '.join(odd)} of {spec.name} do not fit torchvision's {theirs}")
    had = set(names.values())
    return Compatibility(
        names,
        theirs,
        {name: tuple(value.shape) for name, value in wanted.items() if name not in had},
    )


def _other_architecture(spec: Backbone) -> str:
    if isinstance(spec, Timm):
        return f"the network is timm's {spec.model}"
    if not isinstance(spec, AlexNet | VGG | ResNet):
        return f"torchvision has no {spec.name}"
    if spec.width != 1:
        return f"torchvision's {spec.name} has width 1, and this one {spec.width:g}"
    if spec.stem != "imagenet":
        return f"torchvision's {spec.name} has no stem for small images"
    if isinstance(spec, AlexNet) and spec.batch_norm:
        return "torchvision's alexnet has no batch normalization"
    return ""


def torchvision_model(name: str) -> nn.Module:
    """Torchvision's network in eval mode, without memory for its weights."""
    import torchvision

    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None).eval()


def describe(fit: Compatibility) -> tuple[str, str]:
    """Whose class loads the state dict strictly: for the screen, and as Markdown for the card."""
    load = 'torch.load("state_dict.pt", weights_only=True)'
    if fit.torchvision_name is None:
        return (
            f"a PyTorch state dict, not for torchvision: {fit.mismatch}",
            f"`state_dict.pt` is not for torchvision: {fit.mismatch}. {fit.belongs}, strictly: `{load}`.",
        )
    zeros = ", ".join(sorted({name.rpartition(".")[0] for name in fit.absent}))
    return (
        f"a PyTorch state dict: torchvision's {fit.torchvision_name} loads it strictly; {zeros}: zeros, the model has none",
        f"`state_dict.pt` is for torchvision's {fit.torchvision_name}:\n\n```python\nimport torch, torchvision\n\n"
        f"network = torchvision.models.{fit.torchvision_name}().eval()\nnetwork.load_state_dict({load}, strict=True)\n```\n\n"
        f"**{zeros}**: zeros, for this model has no such layers. Until they are trained, all outputs of the whole "
        f"network are zero; what lies before them is the model's own.",
    )
