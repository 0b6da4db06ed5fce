"""Properties of every backbone: a sweep over all names, narrow, with the small stem if any."""

from __future__ import annotations

import pytest
import torch

from transfer.models import FAMILIES, Backbone, backbone, backbone_names, family
from transfer.models.blocks import fuse_batchnorm
from transfer.models.build import build_network

SIZE = 32
VARIANTS = [
    {"name": name, "width": 0.25}
    | ({"stem": "small"} if "stem" in family(name).model_fields else {})
    for name in backbone_names()
    if name != "alexnet_cfn"  # it has a stride of its own
] + [
    {"name": "alexnet", "width": 0.25, "stem": "small", "lrn": True, "layout": "bvlc"},
    {"name": "alexnet", "width": 0.125, "stem": "small", "batch_norm": True},
    {"name": "vgg11", "width": 0.125, "batch_norm": True},
    {"name": "vgg11", "width": 0.125, "fc": True},
    {"name": "resnet18", "width": 0.125},
]


def images(count: int = 3, size: int = SIZE) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5))


@pytest.fixture(
    params=VARIANTS, ids=lambda options: "-".join(str(value) for value in options.values())
)
def described(request: pytest.FixtureRequest) -> Backbone:
    return backbone(request.param)


def test_every_name_is_in_one_family() -> None:
    names = [name for members in FAMILIES for name in members.names]
    assert len(set(names)) == len(names) == 17
    assert names == backbone_names()


def test_layers_have_unique_names_that_the_description_knows_without_torch(described) -> None:
    names = described.layer_names()
    assert len(set(names)) == len(names)
    assert build_network(described, 0).layer_names == names
    assert described.default_layer() in names
    assert set(described.aliases().values()) <= set(names)


def test_one_run_gives_what_the_chain_gives_and_what_the_shapes_say(described) -> None:
    network = build_network(described, 0).eval()
    shapes = network.shapes(SIZE)
    x = images()
    chain = {}
    with torch.no_grad():
        for name in network.layer_names:
            x = network.get_submodule(name)(x)
            chain[name] = x.clone()
        read = network.layers(images(), network.layer_names)
        last = network(images())
    assert list(read) == list(shapes) == network.layer_names
    for name, expected in chain.items():
        # Bit for bit: no later layer may have written into an earlier one's output.
        assert torch.equal(read[name], expected)
        assert shapes[name] == tuple(expected.shape[1:])
    assert torch.equal(last, chain[network.layer_names[-1]])


def test_shapes_leave_the_network_and_the_random_state_as_they_are(described) -> None:
    network = build_network(described, 0)
    network.get_submodule(network.layer_names[0]).eval()
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    network.shapes(SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert {value.device.type for value in network.state_dict().values()} == {"cpu"}


def test_the_seed_alone_decides_the_weights(described) -> None:
    state = torch.get_rng_state()
    first = build_network(described, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again, other = (
        build_network(described, 7).state_dict(),
        build_network(described, 8).state_dict(),
    )
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name, value in first.items() if value.ndim > 1]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_gradients_reach_every_parameter(described) -> None:
    network = build_network(described, 0)
    with torch.random.fork_rng(devices=[]):  # dropout draws
        network(images(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A bias before a batch norm has a gradient of zero, so only weights are checked further.
        assert parameter.ndim == 1 or parameter.grad.any(), name


def test_channels_last_gives_the_same(described) -> None:
    network = build_network(described, 0).eval()
    with torch.no_grad():
        expected = network(images())
        network.to(memory_format=torch.channels_last)
        given = network(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_a_description_survives_its_own_plain_data(described) -> None:
    assert backbone(described.model_dump()) == described
    assert backbone(described) is described


def test_a_folded_network_gives_the_same_outputs_without_its_batch_norms(described) -> None:
    network = build_network(described, 0).train()
    network(images())  # so that the running means are something
    network.eval()
    with torch.inference_mode():
        whole = network(images(7))
        fuse_batchnorm(network)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
        torch.testing.assert_close(network(images(7)), whole, rtol=1e-4, atol=1e-5)
