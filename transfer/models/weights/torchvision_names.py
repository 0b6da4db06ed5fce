"""Names of our tensors in torchvision and timm.

| ours                                           | torchvision's                                |
|------------------------------------------------|----------------------------------------------|
| AlexNet, VGG: conv1.conv, conv1.norm           | features.0, features.1 (*)                   |
| AlexNet: fc6.3, fc7.1; VGG: fc6.2, fc7.0       | classifier.1, .4; classifier.0, .3           |
| ResNet: conv1.conv, conv1.norm                 | conv1, bn1                                   |
| layer2.0.body.1.conv, layer2.0.body.1.norm     | layer2.0.conv2, layer2.0.bn2                 |
| layer2.0.shortcut.conv, layer2.0.shortcut.norm | layer2.0.downsample.0, layer2.0.downsample.1 |
| timm: features.model.NAME                      | NAME, in timm                                |

(*) Convolutions, norms, ReLUs and pools are numbered in the order in which they run. Backbones lack
the last layer, the classifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transfer.models.alexnet import AlexNet
from transfer.models.backbone import Backbone
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.vgg import VGG

RESIDUAL = (
    (r"^conv1\.norm", "bn1"),
    (r"^conv1\.conv", "conv1"),
    (r"\.body\.(\d)\.conv", lambda match: f".conv{int(match[1]) + 1}"),
    (r"\.body\.(\d)\.norm", lambda match: f".bn{int(match[1]) + 1}"),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.norm", ".downsample.1"),
)


def torchvision_names(spec: Backbone, names: Iterable[str]) -> dict[str, str]:
    """Return our name -> torchvision's (or timm's) name of the same tensor.

    It is empty for families that neither library has.

    Args:
        spec: the description of a network.
        names: the keys of the network's state dict.
    """
    if isinstance(spec, Timm):
        return {name: name.removeprefix("features.model.") for name in names}
    if isinstance(spec, ResNet):
        return {name: residual_name(name) for name in names}
    if not isinstance(spec, AlexNet | VGG):
        return {}
    modules = _numbered_modules(spec)
    theirs = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        theirs[name] = f"{modules[module]}.{tensor}"
    return theirs


def residual_name(name: str) -> str:
    """Return torchvision's name of a tensor of a ResNet."""
    for pattern, replacement in RESIDUAL:
        name = re.sub(pattern, replacement, name)
    return name


def _numbered_modules(spec: AlexNet | VGG) -> dict[str, str]:
    """Return our module -> torchvision's, whose layers are numbered as they run."""
    if isinstance(spec, AlexNet):
        modules = {"fc6.3": "classifier.1", "fc7.1": "classifier.4"}
    else:
        modules = {"fc6.2": "classifier.0", "fc7.0": "classifier.3"}
    number = 0
    for layer in spec.layer_names():
        if layer.startswith("conv"):
            modules[f"{layer}.conv"] = f"features.{number}"
            modules[f"{layer}.norm"] = f"features.{number + 1}"
            number += 3 if spec.batch_norm else 2
        else:
            number += 1
    return modules
