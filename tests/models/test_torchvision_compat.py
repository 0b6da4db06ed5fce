"""With equal weights, the ImageNet layouts compute what torchvision's do before its classifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from transfer.models import VGG, backbone
from transfer.models.build import build_network
from transfer.models.network import Network
from transfer.models.weights.torchvision_names import torchvision_names

# Both sides pool to a fixed size, so that images of 64 px take the same way as those of 224 px.
SIZE = 64


def reference(name: str) -> Any:
    """Torchvision's network without its last layer; random values, so that a swapped pair shows."""
    generator = torch.Generator().manual_seed(11)
    skip_draws = {"init_weights": False} if name.startswith("vgg") else {}
    network: Any = torchvision.models.get_model(name, **skip_draws).eval()
    if hasattr(network, "fc"):
        network.fc = nn.Identity()
    else:
        network.classifier[-1] = nn.Identity()
    for label, value in network.state_dict().items():
        if value.ndim > 1:
            nn.init.kaiming_normal_(value, generator=generator)
        elif value.ndim == 1:
            middle = 0.0 if label.endswith(("bias", "running_mean")) else 1.0
            value.uniform_(middle - 0.1, middle + 0.1, generator=generator)
    return network


def with_weights_of(network: Network, theirs: nn.Module) -> Network:
    """`network` with the other's values, paired by name; it may have fewer layers at the end."""
    values = theirs.state_dict()
    names = torchvision_names(network.spec, network.state_dict())
    network.load_state_dict({ours: values[name] for ours, name in names.items()}, strict=True)
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("alexnet", {"name": "alexnet"}),
        ("vgg11", {"name": "vgg11", "fc": True}),
        ("vgg13", {"name": "vgg13"}),
        ("vgg16_bn", {"name": "vgg16", "batch_norm": True}),
        ("vgg19", {"name": "vgg19"}),
        ("resnet18", {"name": "resnet18"}),
        ("resnet34", {"name": "resnet34"}),
        ("resnet50", {"name": "resnet50"}),
    ],
)
def test_outputs_are_torchvisions(name, options) -> None:
    theirs = reference(name)
    described = backbone(options)
    ours = with_weights_of(build_network(described, 0), theirs)
    if isinstance(described, VGG) and not described.fc:
        theirs = theirs.features
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected, given = theirs(images), ours(images)
    scale = expected.abs().max().item()
    assert (
        expected[0] - expected[1]
    ).abs().max() > 1e-3 * scale  # the vectors have not drowned the image
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["vgg11", "resnet18", "resnet56", "conv4"])
def test_convolutions_start_he_normal(name) -> None:
    network = build_network(backbone(name), 0)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            spread = (
                2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)
            ) ** 0.5
            assert module.weight.std().item() == pytest.approx(spread, rel=0.05)


def test_fully_connected_layers_of_vgg_start_small_and_without_bias() -> None:
    network = build_network(backbone({"name": "vgg11", "width": 0.125, "fc": True}), 0)
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [module.weight.std().item() for module in linear] == pytest.approx(
        [0.01, 0.01], rel=0.05
    )
    assert not any(module.bias.any() for module in linear)
