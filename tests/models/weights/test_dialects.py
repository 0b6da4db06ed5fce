"""Weights under the names of other code arrive in the right tensors, through a pipeline file."""

from __future__ import annotations

import argparse
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from tests.conftest import Said
from transfer.artifacts import Model
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.models.weights.torchvision_names import residual_name
from transfer.pipeline.loader import load_plan
from transfer.storage.store import Store

State = dict[str, Tensor]
SMALL = "{name: resnet18, width: 0.0625, stem: small}"
CIFAR = "{name: resnet8, width: 0.5}"
PIPELINE = """
data: {card: drawings, limit: 8}
stages:
  model: {uses: pretext/pretrained, backbone: BACKBONE, weights: w.pth, size: 32OPTIONS}
"""
ONE = torch.tensor(1.0)
HEAD = {"fc.weight": torch.zeros(10, 32), "fc.bias": torch.zeros(10)}


def drawn(options: Any, seed: int) -> State:
    """Return a state dict in which every tensor has other values."""
    generator = torch.Generator().manual_seed(seed)
    state = build_network(backbone(options), seed).state_dict()
    return {
        name: torch.rand(value.shape, generator=generator) + 0.5 if value.ndim else value
        for name, value in state.items()
    }


def resnet(seed: int = 0) -> State:
    return drawn({"name": "resnet18", "width": 0.0625, "stem": "small"}, seed)


def torchvision(state: State) -> State:
    return {residual_name(name): value for name, value in state.items()}


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def theirs(seed: int = 0, head: bool = True) -> State:
    return torchvision(resnet(seed)) | (HEAD if head else {})


def other(seed: int = 1) -> State:
    return theirs(seed)


def children(state: State) -> State:
    """As `nn.Sequential(*list(resnet.children())[:-1])` numbers the layers, as lightly does."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    parts = {name: name.partition(".") for name in state}
    return {f"{numbers[parts[name][0]]}.{parts[name][2]}": value for name, value in state.items()}


def optimizer() -> dict[str, Any]:
    layer = nn.Linear(2, 2)
    made = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.ones(1, 2)).sum().backward()
    made.step()
    return made.state_dict()


# Layout -> the file, and what the run says of it. The sources are named in `dialects.py`.
LAYOUTS: dict[str, tuple[Callable[[], Any], str]] = {
    "torchvision": (theirs, "left out, as features do not need it: fc.* (2)"),
    "DistributedDataParallel": (lambda: prefixed("module.", theirs()), ""),
    "torch.compile of it": (lambda: prefixed("_orig_mod.module.", theirs()), ""),
    "DataParallel within": (
        lambda: {re.sub(r"^(layer\d)", r"\1.module", name): v for name, v in theirs().items()},
        "",
    ),
    "MoCo v1 and v2": (
        lambda: {
            "epoch": 200,
            "arch": "resnet50",
            "state_dict": prefixed("module.encoder_k.", other())
            | prefixed("module.encoder_q.", theirs())
            | {"module.queue": torch.zeros(8, 4), "module.queue_ptr": torch.zeros(1)},
            "optimizer": optimizer(),
        },
        "names that begin with `module.encoder_q.`",
    ),
    "MoCo v3": (
        lambda: {
            "state_dict": prefixed("module.base_encoder.", theirs())
            | prefixed("module.momentum_encoder.", other())
            | {"module.predictor.0.weight": torch.zeros(2)},
            "scaler": {"scale": 65536.0},
        },
        "names that begin with `module.base_encoder.`",
    ),
    "DINO": (
        lambda: {
            "student": prefixed("module.backbone.", other()),
            "teacher": prefixed("backbone.", theirs(head=False))
            | {"head.mlp.0.weight": torch.zeros(2), "head.last_layer.weight_g": torch.zeros(2)},
            "optimizer": optimizer(),
            "epoch": 100,
            "args": argparse.Namespace(arch="resnet50", output_dir=Path("x")),
            "dino_loss": {"center": torch.zeros(1, 4)},
        },
        "entry `teacher`, names that begin with `backbone.`",
    ),
    "VISSL": (
        lambda: {
            "type": "consolidated",
            "classy_state_dict": {
                "base_model": {
                    "model": {
                        "trunk": prefixed("_feature_blocks.", theirs(head=False)),
                        "heads": {"0.clf.0.weight": torch.zeros(2)},
                    },
                    "meters": {},
                },
                "optimizer": optimizer(),
            },
        },
        "entry `classy_state_dict.base_model.model.trunk`",
    ),
    "SwAV": (
        lambda: (
            prefixed("module.", theirs(head=False))
            | {
                "module.projection_head.0.weight": torch.zeros(2),
                "module.prototypes.weight": HEAD["fc.bias"],
            }
        ),
        "left out, as features do not need it: projection_head.*, prototypes.*",
    ),
    "Barlow Twins": (
        lambda: {
            "epoch": 1000,
            "model": prefixed("module.backbone.", theirs(head=False))
            | {
                "module.projector.0.weight": torch.zeros(2),
                "module.bn.running_mean": torch.zeros(2),
            },
        },
        "names that begin with `module.backbone.`",
    ),
    "SimSiam": (
        lambda: {
            "state_dict": prefixed("module.encoder.", theirs(head=False))
            | {
                "module.encoder.fc.0.weight": torch.zeros(2),
                "module.predictor.0.weight": HEAD["fc.bias"],
            }
        },
        "names that begin with `module.encoder.`",
    ),
    "BYOL of lucidrains": (
        lambda: (
            prefixed("net.", theirs())
            | prefixed("online_encoder.net.", theirs())
            | prefixed("target_encoder.net.", other())
        ),
        "names that begin with `online_encoder.net.`",
    ),
    "Lightning": (
        lambda: {
            "pytorch-lightning_version": "2.0",
            "state_dict": prefixed("online_network.encoder.", theirs())
            | prefixed("target_network.encoder.", other()),
            "hyper_parameters": OrderedDict(lr=0.1),
            "optimizer_states": [optimizer()],
        },
        "names that begin with `online_network.encoder.`",
    ),
    "lightly": (
        lambda: {
            "state_dict": prefixed("backbone.", children(theirs(head=False)))
            | prefixed("backbone_momentum.", children(theirs(1, head=False)))
        },
        "names of a Sequential with layer1 at 4",
    ),
    "timm's training": (
        lambda: {"state_dict": other(), "state_dict_ema": theirs(), "optimizer": optimizer()},
        "entry `state_dict_ema`",
    ),
    "an average beside the model": (lambda: {"model": other(), "model_ema": theirs()}, "model_ema"),
    "torch's AveragedModel": (
        lambda: {"model": other(), "ema": prefixed("module.", theirs()) | {"n_averaged": ONE}},
        "entry `ema`",
    ),
    "a temperature beside the model": (lambda: theirs() | {"logit_scale": ONE}, "logit_scale"),
    "kuangliu's": (
        lambda: {
            "net": {
                f"module.{re.sub('downsample', 'shortcut', name)}": value
                for name, value in theirs(head=False).items()
            }
            | {"module.linear.weight": torch.zeros(10, 4)},
            "acc": 95.1,
        },
        "names of kuangliu/pytorch-cifar",
    ),
    "this package's own": (resnet, ""),
}


def loaded(folder: Path) -> State:
    return load_file(next(folder.glob(".transfer/pretext/pretrained/*/model.safetensors")))


def written(pipeline: Callable[..., Path], name: str = SMALL, options: str = "") -> Path:
    return pipeline(PIPELINE.replace("BACKBONE", name).replace("OPTIONS", options))


def assert_equal(state: State, expected: State) -> None:
    assert state.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(state[name], expected[name])] == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_known_without_options(
    layout: str, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    make, words = LAYOUTS[layout]
    torch.save(make(), tmp_path / "w.pth")
    output = invoke("run", written(pipeline), "--threads", 1)
    assert words in output.out
    assert_equal(loaded(tmp_path), resnet())


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        ("DINO", ", entry: student"),
        ("MoCo v1 and v2", ", entry: state_dict, prefix: module.encoder_k."),
        ("MoCo v3", ", prefix: module.momentum_encoder."),
        ("timm's training", ", entry: state_dict"),
        ("BYOL of lucidrains", ", prefix: target_encoder.net."),
        ("an average beside the model", ", entry: model"),
    ],
)
def test_the_other_network_in_a_file_is_taken_at_the_users_wish(
    layout: str,
    options: str,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    torch.save(LAYOUTS[layout][0](), tmp_path / "w.pth")
    invoke("run", written(pipeline, options=options), "--threads", 1)
    assert_equal(loaded(tmp_path), resnet(1))


@pytest.mark.parametrize("layout", ["DINO", "MoCo v1 and v2"])
def test_the_manifest_and_show_say_which_network_was_taken(
    layout: str, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save(LAYOUTS[layout][0](), tmp_path / "w.pth")
    file = written(pipeline)
    invoke("run", file, "--threads", 1)
    manifest = next(tmp_path.glob(".transfer/pretext/pretrained/*/manifest.json")).read_text()
    assert LAYOUTS[layout][1] in manifest
    assert LAYOUTS[layout][1] in invoke("show", file, "model").out


def test_the_names_of_open_lth(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    own = drawn({"name": "resnet8", "width": 0.5}, 0)
    names = [residual_name(name) for name in own]
    for number in (1, 2, 3):
        names = [name.replace(f"layer{number}.0", f"blocks.{number - 1}") for name in names]
    names = [re.sub("^conv1", "conv", re.sub("^bn1", "bn", name)) for name in names]
    names = [name.replace("downsample", "shortcut") for name in names]
    torch.save(dict(zip(names, own.values(), strict=True)) | HEAD, tmp_path / "w.pth")
    assert (
        "facebookresearch/open_lth" in invoke("run", written(pipeline, CIFAR), "--threads", 1).out
    )
    assert_equal(loaded(tmp_path), own)


def test_the_names_of_relational_reasoning(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    own = drawn("conv4", 0)
    names = [name.replace("norm", "bn").replace("conv", "layer", 1) for name in own]
    names = [name if ".bn" in name else re.sub(r"\.\w+\.", ".conv.", name) for name in names]
    assert names[:2] == ["layer1.conv.weight", "layer1.bn.weight"]
    content = {"backbone": dict(zip(names, own.values(), strict=True)), "relation": HEAD}
    torch.save(content, tmp_path / "w.pth")
    output = invoke("run", written(pipeline, "conv4"), "--threads", 1).out
    assert "entry `backbone`, names of mpatacchiola/self-supervised-relational-reasoning" in output
    assert_equal(loaded(tmp_path), own)


def efficientnet_names() -> list[str]:
    """Return the names of EfficientNet-B0 in EfficientNet-PyTorch, in their order."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{part}" for part in norm)]
    for block in range(16):
        modules: list[tuple[str, tuple[str, ...]]] = [
            *((("_expand_conv", ("weight",)), ("_bn0", norm)) if block else ()),
            ("_depthwise_conv", ("weight",)),
            ("_bn1", norm),
            ("_se_reduce", ("weight", "bias")),
            ("_se_expand", ("weight", "bias")),
            ("_project_conv", ("weight",)),
            ("_bn2", norm),
        ]
        names += [f"_blocks.{block}.{name}.{part}" for name, parts in modules for part in parts]
    return [*names, "_conv_head.weight", *(f"_bn1.{part}" for part in norm)]


@pytest.mark.parametrize("name", ["efficientnet_b0", "tf_efficientnet_b0"])
def test_the_names_of_efficientnet_pytorch(
    name: str, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    own = drawn(f"timm:{name}", 0)
    state = dict(zip(efficientnet_names(), own.values(), strict=True))
    torch.save(state | {"_fc.weight": torch.zeros(2)}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline, f"timm:{name}"), "--threads", 1).out
    assert ("TensorFlow's padding" in output) == (name == "efficientnet_b0")
    assert_equal(loaded(tmp_path), own)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "theirs_name"),
    [("efficientnet_b0", "efficientnet_b0"), ("mobilenetv2_100", "mobilenet_v2")],
)
@pytest.mark.parametrize("options", ["", ", match: order"])
def test_torchvisions_weights_compute_the_same_in_timms_network(
    name: str,
    theirs_name: str,
    options: str,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    pytest.importorskip("timm")
    torch.manual_seed(0)
    model: Any = models.get_model(theirs_name, weights=None).eval()
    for value in model.state_dict().values():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    invoke("run", written(pipeline, f"timm:{name}", options), "--threads", 1)
    network = Model(next(tmp_path.glob(".transfer/pretext/pretrained/*"))).network()
    model.classifier = nn.Identity()
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), model(images))


def test_two_networks_of_equal_rank_are_not_chosen_between(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save({"first": theirs(), "second": other()}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline), "--threads", 1, check=2).err
    assert "several networks that fit: choose with `entry: first`; `entry: second`" in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("layer4.1.bn2.running_var"), "missing: layer4.1.bn2: running_var"),
        (lambda state: state.pop("bn1.num_batches_tracked"), ""),
        (
            lambda state: state.update({"bn1.num_batches_tracked": torch.zeros(3)}),
            "shape of bn1.num_batches_tracked: (3,) in the file, () in the network",
        ),
        (
            lambda state: state.update({"layer1.0.se.fc.weight": torch.zeros(3)}),
            "unexpected: layer1.0.se.fc: weight",
        ),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(4, 3, 3, 3, dtype=torch.int8)}),
            "values of conv1.weight: int8 in the file, floating-point in the network",
        ),
        (
            lambda state: state.update({"conv1.weight": state["conv1.weight"].to_sparse()}),
            "not loaded: objects of torch._utils._rebuild_sparse_tensor",
        ),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(4, 1, 3, 3)}),
            "shape of conv1.weight: (4, 1, 3, 3) in the file, (4, 3, 3, 3) in the network",
        ),
    ],
)
def test_what_is_missing_or_unknown_within_the_network_is_an_error(
    change: Callable[[State], Any],
    words: str,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    state = prefixed("", theirs())
    change(state)
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline), "--threads", 1, check=2 if words else 0)
    assert words in output.err


# `match: order` and `rename`


def numbered(state: State) -> State:
    """Names that say nothing but the last word: 0.weight, 1.weight, 1.bias."""
    modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
    return {
        f"m{modules.index(name.rpartition('.')[0])}.{name.rpartition('.')[2]}": value
        for name, value in state.items()
    }


def test_names_that_nothing_knows_are_summed_up_and_matched_by_order(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save({"net": numbered(resnet())}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline), "--threads", 1, check=2).err
    first, *rest = output.splitlines()
    assert first.endswith(
        "does not fit resnet18: 0 of 100 names fit in `entry: net`; same number of tensors, "
        "same shapes, same order"
    )
    assert len(rest) <= 10
    assert "  to take them in this order: `match: order`" in rest
    output = invoke("run", written(pipeline, options=", match: order"), "--threads", 1).out
    assert "100 tensors of entry `net` taken in their order, with equal shapes: m0.weight" in output
    assert_equal(loaded(tmp_path), resnet())


def swapped(state: State) -> State:
    """Each bias before its weight, as other frameworks have batch norms."""
    names = list(state)
    for number in range(len(names) - 1):
        if names[number].endswith("weight") and names[number + 1].endswith("bias"):
            names[number : number + 2] = names[number + 1], names[number]
    return {name: state[name] for name in names}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            lambda: numbered(resnet()) | {"x.w": torch.zeros(1)},
            "101 tensors in the file, 100 in the",
        ),
        (lambda: dict(list(numbered(resnet()).items())[1:]), "99 tensors in the file, 100 in the"),
        (lambda: swapped(numbered(resnet())), "tensor 2 is m1.bias (4,) in the file, and"),
        (
            lambda: numbered(resnet()) | {"m0.weight": torch.zeros(4, 3, 1, 1)},
            "tensor 1 is m0.weight (4, 3, 1, 1) in the file, and conv1.conv.weight (4, 3, 3, 3)",
        ),
    ],
)
def test_an_order_of_other_shapes_or_kinds_is_refused(
    content: Callable[[], State],
    words: str,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    torch.save(content(), tmp_path / "w.pth")
    file = written(pipeline, options=", match: order")
    output = invoke("run", file, "--threads", 1, check=2).err
    assert "stages.model.match: " in output
    assert words in output


@pytest.mark.parametrize("entries", [("model", "best_model"), ("a", "b")])
def test_networks_of_equal_rank_are_not_chosen_between_by_order(
    entries: tuple[str, str],
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    first, second = entries
    content = {first: numbered(resnet()), second: numbered(prefixed("", resnet()))}
    torch.save(content, tmp_path / "w.pth")
    output = invoke("run", written(pipeline, options=", match: order"), "--threads", 1, check=2).err
    choices = f"`entry: {first}`; `entry: {second}`"
    assert f"several networks that fit: choose with {choices}" in output
    chosen = f", match: order, entry: {second}"
    output = invoke("run", written(pipeline, options=chosen), "--threads", 1).out
    assert f"100 tensors of entry `{second}` taken in their order" in output


def test_a_network_of_lower_rank_is_named_by_order(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    zeros = {name: torch.zeros_like(value) for name, value in resnet().items()}
    content = {"student": numbered(zeros), "teacher": numbered(resnet())}
    torch.save(content, tmp_path / "w.pth")
    output = invoke("run", written(pipeline, options=", match: order"), "--threads", 1).out
    assert "100 tensors of entry `teacher` taken in their order" in output
    assert "holds other networks that fit; to take another: `entry: student`" in output
    assert_equal(loaded(tmp_path), resnet())


def test_an_order_that_does_not_fit_is_told_of_the_weights_and_not_of_the_optimizer(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    state = {f"{part}.{name}": value for part in "ab" for name, value in resnet().items()}
    moments = {number: {"exp_avg": value} for number, value in enumerate(resnet().values())}
    torch.save({"optimizer": {"state": moments}, "state_dict": state}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline, options=", match: order"), "--threads", 1, check=2).err
    assert "by order: state_dict: 200 tensors in the file, 100 in the network" in output


def test_names_are_replaced_by_patterns_in_their_order(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    state = {
        re.sub(r"^layer(\d)\.(\d)", r"stage\1_block\2", name): value
        for name, value in theirs(head=False).items()
    }
    torch.save({"model": prefixed("encoder.", state)}, tmp_path / "w.pth")
    output = invoke("run", written(pipeline), "--threads", 1, check=2).err
    assert "stage1_block0.conv1 in the file is at the place of layer1.0.conv1" in output
    rename = r", rename: {'_block(\d)': '.\1', 'stage(\d)\.': 'layer\1.'}"
    invoke("run", written(pipeline, options=rename), "--threads", 1)
    assert_equal(loaded(tmp_path), resnet())


def test_ignored_tensors_that_the_network_needs_are_an_error(
    pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    torch.save(theirs(), tmp_path / "w.pth")
    file = written(pipeline, options=", ignore: ['conv1*']")
    output = invoke("run", file, "--threads", 1, check=2).err
    assert "`ignore` leaves out 1 tensor that the network needs" in output


@pytest.mark.parametrize(
    ("rename", "words"),
    [
        ("{'lay(er': x}", "'lay(er' is no regular expression"),
        ("{stage: layer}", "has no name that `rename: stage` matches"),
        (r"{'^layer(\d)': '\2'}", r"replacement '\2' of `^layer(\d)`: invalid group reference"),
        (r"{'layer\d': layer1}", "gives two tensors the name layer1.0.conv1.weight"),
    ],
)
def test_a_pattern_that_cannot_be_is_told_at_its_option(
    rename: str,
    words: str,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    torch.save(theirs(), tmp_path / "w.pth")
    file = written(pipeline, options=f", rename: {rename}")
    output = invoke("run", file, "--threads", 1, check=2).err
    assert "stages.model.rename: " in output
    assert words in output


def test_the_order_of_patterns_is_part_of_the_key(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    torch.save(theirs(), tmp_path / "w.pth")
    keys = []
    for rename in ("{a: b, b: c}", "{b: c, a: b}", "{a: b, b: c}"):
        plan = load_plan(written(pipeline, options=f", rename: {rename}"), Store(tmp_path / "s"))
        keys.append(plan.find("model")[0].key)
    assert keys[0] == keys[2] != keys[1]
