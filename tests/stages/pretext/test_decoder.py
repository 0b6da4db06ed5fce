from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from stages.pretext._decoder import decoder, deepest_map, deepest_map_shape, doublings
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from tests.stages.pretext.support import gradient
from transfer.models import backbone
from transfer.models.build import build_network

SIDES = (3, 7, 30, 32, 63, 64, 100)


@pytest.mark.parametrize("shape", [(16,), (8, 1, 1), (8, 4, 4), (8, 6, 6), (8, 9, 9)])
@pytest.mark.parametrize("side", SIDES)
def test_a_vector_or_a_map_becomes_an_image_of_any_size(shape: tuple[int, ...], side: int) -> None:
    made = decoder(shape, side, outputs=5, width=2)(torch.randn(2, *shape))
    assert made.shape == (2, 5, side, side)
    assert made.isfinite().all()


@pytest.mark.parametrize("start", [1, 2, 4, 6, 7])
@pytest.mark.parametrize("side", [*SIDES, 224, 227, 255])
def test_sides_double_or_miss_that_by_one(start: int, side: int) -> None:
    sides = doublings(start, side)
    assert sides[-1] == side
    assert all(after in (2 * before, 2 * before - 1) for before, after in pairwise(sides))
    if side >= start:
        assert start <= sides[0] < 2 * start


def test_the_layout_for_64_px_is_dcgans() -> None:
    layers = decoder((100,), 64)
    ups = [layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)]
    assert layers[0].out_features == 512 * 4 * 4
    assert [(up.in_channels, up.out_channels) for up in ups] == [
        (512, 256),
        (256, 128),
        (128, 64),
        (64, 3),
    ]
    assert {up.kernel_size + up.stride for up in ups} == {(4, 4, 2, 2)}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in list(layers)[-2:])


def test_every_weight_of_a_decoder_gets_a_gradient() -> None:
    for shape in ((16,), (8, 6, 6)):
        made = decoder(shape, 30, width=2)
        made(torch.randn(4, *shape)).square().sum().backward()
        assert all(gradient(weight).abs().any() for weight in made.parameters())


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({"name": "conv4"}, "conv4"),
        ({"name": "vgg11", "width": 0.125, "stem": "small"}, "pool5"),
        ({"name": "resnet18", "width": 0.25, "stem": "small"}, "layer4"),
        ({"name": "alexnet", "width": 0.125, "stem": "small"}, "pool5"),
    ],
)
def test_the_deepest_map_is_the_last_output_with_places(
    options: dict[str, object], layer: str
) -> None:
    network = build_network(backbone(options), 0).eval()
    images = torch.randn(2, 3, 64, 64)
    result = deepest_map(network, images)
    assert tuple(result.shape[1:]) == deepest_map_shape(network, 64)
    assert torch.equal(result, network.layers(images, [layer])[layer])


@pytest.mark.parametrize("side", [2, 4, 7, 32, 63, 64])
def test_a_trunk_says_how_wide_it_is(side: int) -> None:
    body, width = trunk(side, 4)
    assert body(torch.randn(3, 3, side, side)).shape == (3, width)


def test_the_discriminators_layout_for_64_px_is_dcgans() -> None:
    body, width = trunk(64, 64)
    convolutions = [layer for layer in body if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512]
    assert width == 512 * 4 * 4
    assert not isinstance(body[1], nn.BatchNorm2d)


def test_a_frozen_part_gives_the_same_with_gradients_for_its_inputs_alone() -> None:
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    inputs = torch.randn(3, 4, requires_grad=True)
    made = call_with_frozen_weights(part, inputs)
    assert torch.equal(made, part(inputs))
    made.sum().backward()
    assert all(weight.grad is None for weight in part.parameters())
    (expected,) = torch.autograd.grad(part(inputs).sum(), inputs)
    assert torch.equal(gradient(inputs), expected)


def test_judgements_are_the_logarithms_of_the_odds() -> None:
    logits = torch.tensor([[2.0], [-1.0]])
    share = torch.sigmoid(logits)
    assert torch.allclose(gan_bce(logits, real=True), -share.log().mean())
    assert torch.allclose(gan_bce(logits, real=False), -(1 - share).log().mean())
    assert (
        discriminator_accuracy(torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [-2.0]]))
        == 0.75
    )
