"""Finds the library whose class loads a state dict strictly: torchvision, timm, or this one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.models.alexnet import AlexNet
from transfer.models.backbone import Backbone
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.vgg import VGG
from transfer.models.weights.torchvision_names import torchvision_names
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Compatibility:
    """Which class loads a state dict, and why torchvision's does not."""

    names: dict[str, str]  # our name -> name in the file
    torchvision_name: str | None = None  # torchvision's name of the network
    # Torchvision's tensors that our network lacks: zeros in the file.
    absent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    mismatch: str = ""  # why torchvision's class does not load it
    belongs: str = ""  # what loads it instead, as a sentence


def find_compatible(spec: Backbone, state: dict[str, Tensor]) -> Compatibility:
    """Compare a state dict with torchvision's network, which is built without memory.

    Args:
        spec: the description of our network.
        state: its state dict.
    """
    mismatch = _architecture_mismatch(spec)
    if mismatch and isinstance(spec, Timm):
        belongs = f"`{spec.constructor_call()}` loads it"
        return Compatibility(torchvision_names(spec, state), mismatch=mismatch, belongs=belongs)
    if mismatch:
        own, belongs = {name: name for name in state}, "What `model.network()` returns loads it"
        return Compatibility(own, mismatch=mismatch, belongs=belongs)
    model_name = f"{spec.name}_bn" if isinstance(spec, VGG) and spec.batch_norm else spec.name
    model_name = "alexnet" if isinstance(spec, AlexNet) else model_name  # its presets too
    names, expected = torchvision_names(spec, state), torchvision_model(model_name).state_dict()
    different = [
        ours
        for ours, theirs in names.items()
        if theirs not in expected or expected[theirs].shape != state[ours].shape
    ]
    if different:  # a bug here: `_architecture_mismatch` should have detected it
        tensors = ", ".join(different)
        raise TransferError(f"{tensors} of {spec.name} do not fit torchvision's {model_name}")
    known = set(names.values())
    absent = {name: tuple(value.shape) for name, value in expected.items() if name not in known}
    return Compatibility(names, model_name, absent)


def _architecture_mismatch(spec: Backbone) -> str:
    """Describe how the architecture differs from torchvision's; empty if it does not."""
    if isinstance(spec, Timm):
        return f"the network is timm's {spec.model}"
    if not isinstance(spec, AlexNet | VGG | ResNet):
        return f"torchvision has no {spec.name}"
    if spec.width != 1:
        return f"torchvision's {spec.name} has width 1, and this one {spec.width:g}"
    if spec.stem != "imagenet":
        return f"torchvision's {spec.name} has no stem for small images"
    if isinstance(spec, AlexNet):
        return _alexnet_mismatch(spec)
    return ""


def _alexnet_mismatch(spec: AlexNet) -> str:
    """Describe the first option in which an AlexNet differs from torchvision's; empty if none."""
    if spec.layout != "torchvision":
        return f"torchvision's alexnet has another layout than {spec.layout}"
    if spec.batch_norm:
        return "torchvision's alexnet has no batch normalization"
    options = {"conv1_stride": 4, "groups": 1, "lrn": False, "input": "rgb"}
    for option, value in options.items():
        if getattr(spec, option) != value:
            return f"torchvision's alexnet has {option} {value}, not {getattr(spec, option)}"
    return ""


def torchvision_model(name: str) -> nn.Module:
    """Return torchvision's network in eval mode, without memory for its weights."""
    import torchvision

    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None).eval()


def describe(fit: Compatibility) -> tuple[str, str]:
    """Describe which library loads the state dict strictly, as plain text and as Markdown."""
    load = 'torch.load("state_dict.pt", weights_only=True)'
    if fit.torchvision_name is None:
        return (
            f"a PyTorch state dict, not for torchvision: {fit.mismatch}",
            f"`state_dict.pt` is not for torchvision: {fit.mismatch}. "
            f"{fit.belongs}, strictly: `{load}`.",
        )
    name = fit.torchvision_name
    zeros = ", ".join(sorted({tensor.rpartition(".")[0] for tensor in fit.absent}))
    return (
        f"a PyTorch state dict: torchvision's {name} loads it strictly; {zeros}: zeros, the model "
        "has none",
        f"`state_dict.pt` is for torchvision's {name}:\n\n"
        "```python\n"
        "import torch, torchvision\n\n"
        f"network = torchvision.models.{name}().eval()\n"
        f"network.load_state_dict({load}, strict=True)\n"
        "```\n\n"
        f"**{zeros}**: zeros, because this model lacks these layers. Until they are trained, all "
        "outputs of the whole network are zero; the layers before them are the model's own.",
    )
