"""The effect of each family's options, and the errors for wrong ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from transfer.models import VGG, backbone, backbone_names, family
from transfer.models.build import build_network
from transfer.models.network import Network


def built(**options: object) -> Network:
    return build_network(backbone({"width": 0.125} | options), 0)


def test_names_and_layers_are_read_without_torch() -> None:
    script = """
import importlib, pkgutil, sys
import transfer.models as networks
for module in pkgutil.iter_modules(networks.__path__):
    if module.name not in ("network", "blocks", "alexnet_modules", "timm_modules"):
        importlib.import_module("transfer.models." + module.name)
for name in networks.backbone_names():
    described = networks.backbone(name)
    described.resolve_layer(described.default_layer())
heavy = {"torch", "torchvision", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_published_channels_at_224_px() -> None:
    alexnet = build_network(backbone("alexnet"), 0).shapes(224)
    assert alexnet["conv1"] == (64, 55, 55)
    assert alexnet["conv5"] == (256, 13, 13)
    assert alexnet["pool5"] == (256, 6, 6)
    assert alexnet["fc6"] == alexnet["fc7"] == (4096,)
    assert build_network(backbone("vgg16"), 0).shapes(224)["pool5"] == (512, 7, 7)
    resnet = build_network(backbone("resnet50"), 0).shapes(224)
    assert resnet["pool1"] == (64, 56, 56)
    assert resnet["layer4"] == (2048, 7, 7)
    assert resnet["avgpool"] == (2048,)


def test_published_channels_at_32_px() -> None:
    conv4 = build_network(backbone("conv4"), 0).shapes(32)
    assert list(conv4.values()) == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 4, 4), (64,)]
    resnet = build_network(backbone("resnet8"), 0)
    shapes = resnet.shapes(32)
    assert list(shapes.values()) == [(16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8), (64,)]
    # conv1, two convolutions in each of three blocks, and two shortcuts with a projection.
    assert sum(value.ndim == 4 for value in resnet.parameters()) == 1 + 3 * 2 + 2


@pytest.mark.parametrize("name", ["resnet32", "resnet56"])
def test_depth_of_the_cifar_resnets_is_their_number(name) -> None:
    kernels = [value.shape[-1] for value in built(name=name).parameters() if value.ndim == 4]
    # The last layer that the number counts is the classifier, which a backbone has not.
    assert kernels.count(3) + 1 == int(name.removeprefix("resnet"))


def test_width_multiplies_channels_and_leaves_one_at_least() -> None:
    assert build_network(backbone({"name": "conv4", "width": 2}), 0).shapes(32)["avgpool"] == (128,)
    assert build_network(backbone({"name": "conv4", "width": 0.01}), 0).shapes(32)["avgpool"] == (
        1,
    )
    assert built(name="alexnet").shapes(64)["fc7"] == (512,)


@pytest.mark.parametrize("size", [16, 17, 32])
def test_small_stem_of_vgg_takes_tiles(size) -> None:
    network = built(name="vgg16", stem="small").eval()
    outputs = network.layers(torch.rand(1, 3, size, size), ["conv5", "pool5"])
    assert outputs["conv5"].shape[-1] == (2 if size > 16 else 1)
    assert outputs["pool5"].shape == (1, 64, 1, 1)


def test_small_stem_of_alexnet_and_resnet() -> None:
    alexnet = built(name="alexnet", stem="small")
    assert alexnet.shapes(32)["conv1"] == (8, 16, 16)
    linear = alexnet.get_submodule("fc6.3")
    assert linear.in_features == 32 * 3 * 3
    resnet = built(name="resnet18", stem="small")
    assert "pool1" not in resnet.layer_names
    assert resnet.shapes(32)["layer1"] == (8, 32, 32)
    assert resnet.shapes(32)["layer4"] == (64, 4, 4)


@pytest.mark.parametrize(
    ("options", "smallest", "layer", "advice"),
    [
        ({"name": "vgg16"}, 32, "pool5", "`stem: small`, or bigger images"),
        ({"name": "alexnet"}, 63, "pool5", "`stem: small`, or bigger images"),
        ({"name": "alexnet", "stem": "small"}, 29, "pool5", "use bigger images"),
        ({"name": "conv4"}, 8, "conv3", "use bigger images"),
    ],
)
def test_too_small_images_are_refused_with_the_layer_and_a_way_out(
    options, smallest, layer, advice
) -> None:
    network = built(**options)
    network.shapes(smallest)
    with pytest.raises(
        ValueError, match=f"layer {layer} of {options['name']} .*{smallest - 1} px.*{advice}"
    ):
        network.shapes(smallest - 1)


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="takes images of 3 channels, not 1"):
        built(name="conv4").shapes(32, channels=1)


def test_shapes_of_a_half_precision_network() -> None:
    assert built(name="resnet8").bfloat16().shapes(32) == built(name="resnet8").shapes(32)


def test_short_names_of_vgg_mean_the_last_convolution_of_a_block() -> None:
    described = backbone("vgg16")
    assert described.resolve_layer("conv5") == "conv5_3"
    assert described.resolve_layer("conv1") == "conv1_2"
    assert described.resolve_layer("pool3") == "pool3"
    assert backbone("vgg11").resolve_layer("conv1") == "conv1_1"
    network = built(name="vgg11").eval()
    outputs = network.layers(torch.rand(1, 3, 32, 32), ["conv3", "conv3_2"])
    assert torch.equal(outputs["conv3"], outputs["conv3_2"])
    assert outputs["conv3"].min() >= 0


def test_reading_stops_after_the_deepest_layer_wanted() -> None:
    network = built(name="vgg11", fc=True)
    ran = []
    for name in network.layer_names:
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    assert list(network.layers(torch.rand(1, 3, 32, 32), ["pool2", "conv1_1"])) == [
        "pool2",
        "conv1_1",
    ]
    assert ran == ["conv1_1", "pool1", "conv2_1", "pool2"]
    assert network.layers(torch.rand(1, 3, 32, 32), []) == {}


def test_fully_connected_layers_are_an_option() -> None:
    assert backbone("vgg16").layer_names()[-1] == "pool5"
    assert backbone({"name": "vgg16", "fc": True}).layer_names()[-2:] == ["fc6", "fc7"]
    assert backbone("alexnet").layer_names()[-2:] == ["fc6", "fc7"]
    assert backbone({"name": "alexnet", "fc": False}).layer_names()[-1] == "pool5"
    with pytest.raises(ValidationError, match="small stem has no fully connected layers"):
        backbone({"name": "vgg16", "fc": True, "stem": "small"})


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'vgg17'; did you mean .*vgg16"):
        backbone("vgg17")
    with pytest.raises(ValueError, match=r"choose from vgg11, .*conv4"):
        family("transformer")
    with pytest.raises(
        ValueError, match=r"layer of vgg16 is called 'conv5_4'; did you mean .*conv5_3"
    ):
        backbone("vgg16").resolve_layer("conv5_4")
    with pytest.raises(ValueError, match=r"did you mean .*layer4"):
        built(name="resnet18").layers(torch.rand(1, 3, 32, 32), ["layer5"])


@pytest.mark.parametrize("value", [{"width": 0.5}, 16, None, ["vgg16"]])
def test_a_backbone_without_a_name_is_refused(value) -> None:
    with pytest.raises(ValueError, match="a backbone must be a name, or options with a `name`"):
        backbone(value)


@pytest.mark.parametrize(
    "options",
    [
        {"name": "vgg16", "width": 0},
        {"name": "vgg16", "width": 5},
        {"name": "vgg16", "depth": 3},
        {"name": "vgg16", "stem": "tiny"},
        {"name": "resnet18", "batch_norm": False},
        {"name": "conv4", "stem": "small"},
        {"name": "resnet8", "stem": "small"},
        {"name": "alexnet", "dropout": 1.5},
    ],
)
def test_wrong_options_are_refused(options) -> None:
    with pytest.raises(ValidationError):
        backbone(options)


def test_a_description_is_frozen_and_can_be_a_key() -> None:
    described = backbone("vgg16")
    assert family("vgg16") is VGG
    assert hash(described) == hash(backbone({"name": "vgg16"}))
    with pytest.raises(ValidationError):
        described.width = 2.0


def test_every_option_says_what_it_does() -> None:
    for name in backbone_names():
        assert all(field.description for field in family(name).model_fields.values())
