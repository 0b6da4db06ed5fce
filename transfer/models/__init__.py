"""Backbones by name: `backbone("vgg16")` describes a network, and `build_network` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transfer.models.alexnet import AlexNet
from transfer.models.backbone import Backbone, unknown
from transfer.models.cifar_resnet import CifarResNet
from transfer.models.conv4 import Conv4
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import PREFIX, SMALL, Timm
from transfer.models.vgg import VGG

FAMILIES: tuple[type[Backbone], ...] = (VGG, AlexNet, ResNet, CifarResNet, Conv4, Timm)


def backbone_names() -> list[str]:
    """Return the names of all backbones by family, except timm's."""
    return [name for members in FAMILIES for name in members.names]


def family(name: str) -> type[Backbone]:
    """Return the family of the network `name`; ValueError with the nearest names if unknown."""
    if name.startswith(PREFIX):
        return Timm
    for candidate in FAMILIES:
        if name in candidate.names:
            return candidate
    if PREFIX + name in SMALL:
        raise ValueError(f"no backbone is called '{name}' without its prefix; write {PREFIX}{name}")
    message = unknown("backbone", name, backbone_names())
    raise ValueError(f"{message}; networks of timm are called {PREFIX}NAME")


def backbone(value: str | Mapping[str, Any] | Backbone) -> Backbone:
    """Return a checked description of a name, or of options: {"name": "vgg16", "width": 0.25}."""
    if isinstance(value, Backbone):
        return value
    options = {"name": value} if isinstance(value, str) else value
    if not isinstance(options, Mapping) or "name" not in options:
        raise ValueError(f"a backbone must be a name, or options with a `name`; got {value!r}")
    return family(options["name"]).model_validate(dict(options))


__all__ = [
    "FAMILIES",
    "VGG",
    "AlexNet",
    "Backbone",
    "CifarResNet",
    "Conv4",
    "ResNet",
    "Timm",
    "backbone",
    "backbone_names",
    "family",
]
