"""The published layouts of AlexNet: shapes, weights and options, beside their sources."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import Said
from transfer.models import AlexNet, backbone
from transfer.models.build import build_network

# Outputs in the sources, from the sizes that their prototxt files or code feed.
SHAPES = {
    ("alexnet_bvlc", 227): {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
    },
    # A tile of 64 px at stride 2. Caffe's pools round up: 27 -> 13 -> 6 -> 3.
    ("alexnet_cfn", 64): {
        "conv1": (96, 27, 27),
        "pool1": (96, 13, 13),
        "pool2": (256, 6, 6),
        "conv5": (256, 6, 6),
        "pool5": (256, 3, 3),
    },
    ("alexnet_deepcluster", 224): {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "conv4": (384, 13, 13),
        "pool5": (256, 6, 6),
        "fc7": (4096,),
    },
    ("alexnet_lci", 64): {
        "conv1": (96, 16, 16),
        "pool1": (96, 8, 8),
        "pool2": (256, 4, 4),
        "conv5": (256, 4, 4),
    },
    ("alexnet_compress", 224): {"conv1": (64, 55, 55), "pool5": (256, 6, 6), "fc7": (4096,)},
}
# Weights and biases of a layer: kernel area * inputs of a group * outputs + outputs.
GROUPED = {
    "conv1": 34_944,
    "conv2": 307_456,
    "conv3": 885_120,
    "conv4": 663_936,
    "conv5": 442_624,
    "fc6": 37_752_832,
    "fc7": 16_781_312,
}


@pytest.mark.parametrize(("name", "size"), SHAPES)
def test_shapes_are_those_of_the_source(name: str, size: int) -> None:
    shapes = build_network(backbone(name), 0).shapes(size)
    assert {layer: shapes[layer] for layer in SHAPES[name, size]} == SHAPES[name, size]


@pytest.mark.parametrize("name", ["alexnet_bvlc", "alexnet_cfn"])
def test_grouped_layouts_have_the_weights_of_caffe(name: str) -> None:
    network = build_network(backbone(name), 0)
    counts = dict.fromkeys(GROUPED, 0)
    for parameter, values in network.named_parameters():
        counts[parameter.partition(".")[0]] += values.numel()
    if name == "alexnet_cfn":  # the released column has another fc6, of 1,024 units
        assert {layer: counts[layer] for layer in list(GROUPED)[:5]} == dict(
            list(GROUPED.items())[:5]
        )
    else:
        assert counts == GROUPED
        assert sum(counts.values()) + 4097 * 1000 == 60_965_224  # with the classifier


def test_the_column_of_jigsaw_gives_2304_values_a_tile() -> None:
    assert build_network(backbone("alexnet_cfn"), 0).width(64, "pool5") == 2304


def test_a_network_is_trained_at_stride_2_and_read_at_stride_4() -> None:
    trained = backbone("alexnet_cfn")
    assert isinstance(trained, AlexNet)
    read = trained.for_transfer()
    assert (trained.conv1_stride, read.conv1_stride) == (2, 4)
    assert build_network(read, 0).shapes(227)["pool5"] == (256, 6, 6)
    network = build_network(read, 1)
    network.load_state_dict(build_network(trained, 0).state_dict(), strict=True)
    assert read.for_transfer() == read


def test_sobel_has_the_gradients_of_the_mean_of_the_channels() -> None:
    spec = backbone({"name": "alexnet_deepcluster", "width": 0.125})
    network = build_network(spec, 0)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)  # grows by 1 from column to column
    gradients = network.get_submodule("conv1.sobel")(ramp)
    # Along a row: 1 - 3 = -2 for each weight 1, 2, 1; along a column: 0.
    assert gradients[0, 0, 1:-1, 1:-1].eq(-8).all()
    assert gradients[0, 1, 1:-1, 1:-1].eq(0).all()
    assert not any("sobel" in name for name in network.state_dict())
    assert network.get_parameter("conv1.conv.weight").shape[1] == 2


def test_lrn_is_caffes() -> None:
    # One channel of value x among five: x / (1 + 1e-4 / 5 * x * x) ** 0.75.
    network = build_network(backbone({"name": "alexnet_cfn", "width": 0.25}), 0)
    norm = network.get_submodule("pool1.1")
    assert isinstance(norm, nn.LocalResponseNorm)
    maps = torch.zeros(1, 5, 1, 1)
    maps[0, 2] = 100.0
    assert norm(maps)[0, 2].item() == pytest.approx(100 / (1 + 1e-4 / 5 * 1e4) ** 0.75)


def test_initial_weights_are_those_of_the_sources() -> None:
    caffe = build_network(backbone("alexnet_bvlc"), 0)
    assert caffe.get_parameter("conv3.conv.weight").std().item() == pytest.approx(0.01, rel=0.02)
    assert caffe.get_parameter("conv2.conv.bias").eq(1).all()
    assert caffe.get_parameter("conv3.conv.bias").eq(0).all()
    he = build_network(backbone("alexnet_deepcluster"), 0)
    deviation = (2 / (5 * 5 * 256)) ** 0.5
    assert he.get_parameter("conv2.conv.weight").std().item() == pytest.approx(deviation, rel=0.02)
    lci = build_network(backbone("alexnet_lci"), 0)
    assert lci.get_parameter("conv3.conv.weight").abs().max().item() <= 0.02


def test_same_padding_is_tensorflows() -> None:
    from transfer.models.alexnet_modules import SamePad

    # ceil(64 / 4) = 16 outputs need (16 - 1) * 4 + 11 = 71 px: 3 before, 4 behind.
    padded = SamePad(11, 4)(torch.ones(1, 1, 64, 64))
    assert padded.shape[-2:] == (71, 71)
    assert padded[0, 0, 2, 10].item() == 0
    assert padded[0, 0, 3, 10].item() == 1
    assert padded[0, 0, 66, 10].item() == 1
    assert padded[0, 0, 67, 10].item() == 0
    assert SamePad(3, 2)(torch.ones(1, 1, 7, 7)).shape[-2:] == (9, 9)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("{name: alexnet_cfn, lrn: false}", "alexnet_cfn has lrn True"),
        ("{name: alexnet_deepcluster, input: rgb}", "alexnet_deepcluster has input sobel"),
        ("{name: alexnet_compress, dropout: 0.5}", "alexnet_compress has dropout 0.0"),
        ("{name: alexnet, groups: 2, width: 0.07}", "which two groups cannot share"),
        ("{name: alexnet, stem: small, conv1_stride: 2}", "the small stem has stride 2"),
        ("{name: alexnet, layout: caffe}", "layout"),
        ("{name: alexnet, groups: 3}", "groups"),
    ],
)
def test_contradictory_options_are_refused_with_their_place(
    invoke, tmp_path: Path, options: str, problem: str
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        f"data: drawings\nstages:\n  net: {{uses: pretext/random, backbone: {options}}}\n"
    )
    result: Said = invoke("run", str(file), "--dry-run", check=2)
    assert problem in result.err
    assert f"{file}:3:" in result.err


def test_a_pretext_refuses_fc_layers_that_it_would_leave_random(invoke, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    stage = "{uses: pretext/rotation, backbone: {name: alexnet, stem: small, fc: true}}"
    file.write_text(f"data: drawings\nstages:\n  net: {stage}\n")
    result: Said = invoke("run", str(file), "--dry-run", check=2)
    assert "fc6 and fc7 would stay random" in result.err
    file.write_text(
        "data: {card: drawings, limit: 64}\n"
        "stages:\n"
        "  net: {uses: pretext/rotation, epochs: 0, backbone: {name: alexnet, stem: small}}\n"
        "  score: {uses: evaluate/knn, model: net, layer: fc7}\n"
    )
    result = invoke("run", str(file), "--dry-run", check=2)
    assert "fc7" in result.err
