"""Pretrained networks: the names that a file may have, the errors, and the cache key."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.pretext.pretrained import Pretrained
from tests.conftest import Said
from tests.stages.handmade import make_work, run_stage
from tests.stages.pretext.support import make_stage, namespace
from transfer.artifacts import Model
from transfer.errors import InvalidOption, TransferError, UsageError
from transfer.models import Timm, backbone
from transfer.models.build import build_network
from transfer.models.network import Network
from transfer.models.weights.torchvision_names import torchvision_names
from transfer.pipeline.loader import load_plan
from transfer.stage.file_option import OptionFile
from transfer.storage.store import Store

SMALL = {"name": "resnet18", "width": 0.0625, "stem": "small"}
State = dict[str, Tensor]


def drawn(options: Any = SMALL, seed: int = 3) -> Network:
    """A network whose vectors are drawn too, so that a swapped pair would show."""
    network, generator = build_network(backbone(options), seed), torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.ndim == 1:
            value.uniform_(0.9, 1.1, generator=generator) if "bias" not in name else value.normal_(
                0, 0.1
            )
    return network.eval()


def theirs_of(network: Network) -> State:
    """Return the network's weights as a file of torchvision: its names, with a classifier."""
    state, names = network.state_dict(), torchvision_names(network.spec, network.state_dict())
    return {names[name]: value for name, value in state.items()} | {
        "fc.weight": torch.zeros(10, 32),
        "fc.bias": torch.zeros(10),
    }


def saved(path: Path, state: Any) -> OptionFile:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return OptionFile(path=str(path))


def rehearsed(**options: Any) -> str:
    """Return the message of the check before a run."""
    with pytest.raises(ValueError) as caught:
        make_stage(Pretrained, **{"backbone": SMALL, "size": 32} | options).validate_build(
            namespace()
        )
    return str(caught.value)


def same(model: Model, network: Network, size: int = 32) -> bool:
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return torch.equal(model.network()(images), network(images))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_torchvisions_own_resnet_gives_what_torchvision_gives(tmp_path: Path, suffix: str) -> None:
    theirs: Any = torchvision.models.resnet18(weights=None).eval()
    for name, value in theirs.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            value.uniform_(0.5, 1.5)
    weights = saved(tmp_path / f"resnet18{suffix}", theirs.state_dict())
    stage = make_stage(Pretrained, backbone="resnet18", weights=weights, ignore=["fc.*"], size=64)
    stage.validate_build(namespace())
    model = run_stage(stage, tmp_path)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    theirs.fc = nn.Identity()
    with torch.inference_mode():
        expected = theirs(images)
        torch.testing.assert_close(
            model.network()(images), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item()
        )
    assert model.card.size == 64
    assert model.card.layers["avgpool"] == [512]
    assert model.normalization.mean == (0.485, 0.456, 0.406)


def test_a_model_of_the_store_is_taken_as_it_is(tmp_path: Path) -> None:
    network = drawn({"name": "conv4"})
    weights = saved(tmp_path / "model.safetensors", network.state_dict())
    model = run_stage(make_stage(Pretrained, backbone="conv4", weights=weights), tmp_path)
    assert same(model, network)
    assert model.card.size == 224


def test_a_part_of_a_checkpoint_under_a_prefix_is_found(tmp_path: Path) -> None:
    network, other = drawn(), drawn(seed=4)
    state = {f"module.encoder_q.{name}": value for name, value in theirs_of(network).items()}
    state |= {f"module.encoder_k.{name}": value for name, value in theirs_of(other).items()}
    state["module.queue"] = torch.zeros(8, 4)
    weights = saved(
        tmp_path / "moco.pth.tar", {"epoch": 200, "arch": "resnet", "state_dict": state}
    )
    chosen = {
        "weights": weights,
        "entry": "state_dict",
        "prefix": "module.encoder_q.",
        "ignore": ["fc.*"],
    }
    assert same(run_stage(make_stage(Pretrained, backbone=SMALL, **chosen), tmp_path), network)
    assert "no entry 'state_dikt'; did you mean 'state_dict'?" in rehearsed(
        weights=weights, entry="state_dikt"
    )
    assert same(
        run_stage(make_stage(Pretrained, backbone=SMALL, weights=weights), tmp_path), network
    )
    message = rehearsed(weights=weights, entry="state_dict", prefix="module.encoder.")
    assert "begins with 'module.encoder.'; did you mean 'module.encoder" in message


def test_a_file_from_before_batch_norms_counted_their_batches(tmp_path: Path) -> None:
    network = drawn()
    state = {name: value for name, value in theirs_of(network).items() if "num_batches" not in name}
    weights = saved(tmp_path / "old.pth", state)
    assert same(
        run_stage(
            make_stage(Pretrained, backbone=SMALL, weights=weights, ignore=["fc.*"]), tmp_path
        ),
        network,
    )


def test_half_precision_is_taken_to_single(tmp_path: Path) -> None:
    network = drawn().half().float()
    weights = saved(
        tmp_path / "half.safetensors",
        {n: v.half() for n, v in network.state_dict().items() if v.ndim},
    )
    model = run_stage(make_stage(Pretrained, backbone=SMALL, weights=weights), tmp_path)
    assert same(model, network)
    assert model.network().conv1.conv.weight.dtype == torch.float32


def test_every_name_that_does_not_fit_is_told_with_the_nearest(tmp_path: Path) -> None:
    state = theirs_of(drawn())
    state["layer1.0.konv1.weight"] = state.pop("layer1.0.conv1.weight")
    state["bn1.bias"] = torch.zeros(5)
    del state["layer4.1.bn2.running_var"]
    lines = rehearsed(weights=saved(tmp_path / "w.pth", state)).splitlines()
    assert lines[0] == f"{tmp_path / 'w.pth'} does not fit resnet18: 98 of 100 names fit"
    assert [line.strip() for line in lines[1:]] == [
        "missing: layer1.0.conv1: weight; nearest: layer1.0.konv1: weight",
        "missing: layer4.1.bn2: running_var",
        "unexpected: layer1.0.konv1: weight; nearest: layer1.0.conv1: weight",
        "shape of bn1.bias: (5,) in the file, (4,) in the network",
        "to rename tensors of the file: `rename: {'PATTERN': 'REPLACEMENT'}`, as by re.sub",
    ]


def test_what_would_make_a_file_fit_is_said(tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.pth", theirs_of(drawn()))
    assert "has no name that `ignore: fcc.*` matches" in rehearsed(
        weights=weights, ignore=["fc.*", "fcc.*"]
    )
    assert "does not fit conv4: 0 of 20 names fit" in rehearsed(weights=weights, backbone="conv4")
    deeper = theirs_of(drawn()) | {
        "layer1.extra.w": torch.zeros(1),
        "layer1.extra.b": torch.zeros(1),
    }
    message = rehearsed(weights=saved(tmp_path / "d.pth", deeper))
    assert message.endswith("`ignore: ['layer1.extra.*']`")  # not layer1.*, which the network needs


def test_weights_of_a_variant_with_more_tokens_are_not_cut_down_to_fit(
    timm: Any, tmp_path: Path
) -> None:
    state = timm.create_model("test_vit", num_classes=0).state_dict() | {
        "register_tokens": torch.zeros(1, 4, 64)
    }
    message = rehearsed(backbone="timm:test_vit", weights=saved(tmp_path / "w.pth", state))
    assert message.endswith(
        "a network with register_tokens computes with it: these are weights of another variant"
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "vit_tiny_patch16_224",
            {},
            r"normalized as for timm:\S+ \(mean 0.5, 0.5, 0.5\), not as for",
        ),
        ("vit_tiny_patch16_224", {"mean": [0.5] * 3, "std": [0.5] * 3}, ""),
        ("vit_tiny_patch16_224.augreg_in21k", {}, ""),
        ("test_vit", {}, ""),
    ],
)
def test_how_images_are_normalized_is_told_where_a_name_leaves_it_open(
    timm: Any,
    name: str,
    options: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts, published = timm.get_pretrained_cfg, timm.list_pretrained
    if "vit_tiny" in name:  # so that the test does not change with timm's lists
        other = namespace(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), tag="dino")
        monkeypatch.setattr(
            timm, "get_pretrained_cfg", lambda item: other if item == "other" else facts(item)
        )
        monkeypatch.setattr(timm, "list_pretrained", lambda item: [*published(item), "other"])
    weights = saved(tmp_path / "w.pth", timm.create_model(name, num_classes=0).state_dict())
    work = make_work(tmp_path / "made", {}, {})
    make_stage(Pretrained, backbone=f"timm:{name}", weights=weights, **options).run(work)
    (note,) = work.notes or [""]
    assert re.search(message, note)
    assert bool(note) == bool(message)


def test_what_timm_remarks_on_weights_is_told(timm: Any) -> None:
    plain, own = (
        Timm.model_validate({"name": f"timm:vit_base_patch32_clip_{kind}224.openai"})
        for kind in ("", "quickgelu_")
    )
    assert any("QuickGELU" in item for item in plain.timm_notes())
    assert own.timm_notes() == []


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["EVIL"],)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: {"fc": 3}, "holds no tensors by name"),
        (lambda: [torch.zeros(3)], "holds no tensors by name"),
        (lambda: {}, "holds no tensors by name"),
        (lambda: {"args": argparse.Namespace(a=1)}, "holds no tensors by name"),
        (lambda: {"args": Evil()}, "asks for `(posix|nt).mkdir`, which can run programs"),
        (
            lambda: {"state_dict": drawn().state_dict(), "hook": Evil()},
            "asks for `(posix|nt).mkdir`, which can run programs",
        ),
    ],
)
def test_a_file_of_anything_else_is_refused_and_nothing_in_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Callable[[], Any], words: str
) -> None:
    monkeypatch.setenv("EVIL", str(tmp_path / "was here"))
    assert re.search(words, rehearsed(weights=saved(tmp_path / "w.pth", content())))
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[: len(data) // 2], "is (damaged or )?cut short"),
        (lambda data: b"", "is an empty file, not a file of weights"),
        (lambda data: bytes(1000), "is a file of zeros only, not a file of weights"),
        (lambda data: data[5:], "is not a file of weights, or is damaged"),
    ],
)
def test_a_broken_file_is_refused(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes], words: str
) -> None:
    weights = saved(tmp_path / name, drawn().state_dict())
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    assert re.search(words, rehearsed(weights=weights))


def test_what_is_inside_of_an_entry_is_reached_by_dots(tmp_path: Path) -> None:
    network = drawn("conv4")
    inside = {
        "model": {"best": network.state_dict(), "last": drawn("conv4", seed=4).state_dict()},
        "optimizer": {"state": {0: {"step": torch.ones(1)}}},
    }
    weights = saved(tmp_path / "w.pth", {"checkpoint": inside})
    message = rehearsed(weights=weights, backbone="conv4")
    assert message.endswith("`entry: checkpoint.model.best`; `entry: checkpoint.model.last`")
    chosen = make_stage(
        Pretrained, backbone="conv4", weights=weights, entry="checkpoint.model.best"
    )
    assert same(run_stage(chosen, tmp_path), network)


def test_safetensors_are_known_by_what_they_begin_with(tmp_path: Path) -> None:
    network = drawn("conv4")
    weights = saved(tmp_path / "model.safetensors", network.state_dict())
    (tmp_path / "model.safetensors").rename(tmp_path / "model.pth")
    renamed = weights.model_copy(update={"path": str(tmp_path / "model.pth")})
    assert same(
        run_stage(make_stage(Pretrained, backbone="conv4", weights=renamed), tmp_path), network
    )


def test_a_prefix_that_is_cut_short_is_told_whole(tmp_path: Path) -> None:
    state = {f"module.encoder{name}": value for name, value in theirs_of(drawn()).items()}
    weights = saved(
        tmp_path / "w.pth",
        {name.replace("encoder", "encoder."): item for name, item in state.items()},
    )
    assert rehearsed(weights=weights, prefix="module.encoder").endswith(
        "set `prefix: module.encoder.`"
    )


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({}, "weights", "name a file of weights"),
        ({"backbone": "timm:resnet18"}, "backbone", "has no tag"),
        ({"backbone": "timm:resnet18.a1_in1k", "prefix": "x."}, "prefix", "only applies when"),
        ({"weights": "w", "mean": [0.5]}, "mean", "three values"),
        ({"weights": "w", "std": [0.5, 0.5, 0.0]}, "std", "above zero"),
        ({"weights": "w", "per_image": True, "std": [1.0, 1.0, 1.0]}, "std", "its own values"),
    ],
)
def test_options_that_cannot_be_are_found_in_the_plan(
    options: dict[str, Any], option: str, words: str
) -> None:
    with pytest.raises(InvalidOption, match=words) as caught:
        make_stage(Pretrained, **{"backbone": "conv4"} | options).validate_plan(namespace())
    assert caught.value.option == option


def test_normalization_and_size_are_what_is_said(tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.pth", drawn().state_dict())
    options = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3], "size": 48}
    model = run_stage(
        make_stage(Pretrained, backbone=SMALL, weights=weights, **options), tmp_path / "a"
    )
    assert (model.normalization.mean, model.normalization.std) == ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert model.card.size == 48
    assert run_stage(
        make_stage(Pretrained, backbone=SMALL, weights=weights, per_image=True), tmp_path / "b"
    ).normalization.per_image


# The file, through a pipeline.


PIPELINE = """
data: {card: drawings, limit: 32}
stages:
  model: {uses: pretext/pretrained, backbone: {name: conv4}, weights: w.pth, size: 32}
  features: {uses: extract/network, model: model}
"""


@pytest.fixture
def written(pipeline: Callable[..., Path], tmp_path: Path) -> Path:
    """A pipeline file with its weights beside it."""
    saved(tmp_path / "w.pth", drawn("conv4").state_dict())
    return pipeline(PIPELINE)


def key(file: Path, *sets: str) -> str:
    return load_plan(file, Store(file.parent / "store"), sets=sets).find("features")[0].key


def test_a_key_has_the_bytes_of_the_file_and_not_its_place(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = key(written)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w.pth").rename(tmp_path / "elsewhere" / "v.pt")
    assert (
        key(
            Path(shutil.copy(written, tmp_path / "b.yaml")),
            "stages.model.weights=" + str(tmp_path / "elsewhere/v.pt"),
        )
        == first
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (
        key(written, "stages.model.weights=v.pt") == first
    )  # of --set: relative to the working folder
    saved(tmp_path / "w.pth", drawn("conv4", seed=9).state_dict())
    assert key(written) != first


def test_the_result_says_nothing_of_the_place(
    written: Path, invoke: Callable[..., Said], tmp_path: Path
) -> None:
    invoke("run", written, "--threads", 1)
    card = next((tmp_path / ".transfer").glob("pretext/pretrained/*/model.json")).read_text()
    manifest = next((tmp_path / ".transfer").glob("pretext/pretrained/*/manifest.json")).read_text()
    assert str(tmp_path) not in card + manifest
    assert re.fullmatch(r"[0-9a-f]{20}", json.loads(card)["made_by"]["options"]["weights"])


def test_another_file_in_its_place_is_noticed_even_where_nothing_else_was_to_do(
    written: Path, invoke: Callable[..., Said], tmp_path: Path
) -> None:
    invoke("run", written, "--threads", 1)
    os.utime(written)
    assert "up to date" in invoke("status", written).out
    assert "up to date" in invoke("status", written).out
    saved(tmp_path / "w.pth", drawn("conv4", seed=9).state_dict())
    assert re.search(r"model +to run +weights \w+ → \w+", invoke("status", written).out)


def test_a_file_that_is_not_there_or_does_not_fit_is_told_with_its_place(
    written: Path, invoke: Callable[..., Said], tmp_path: Path
) -> None:
    output = invoke(
        "run", written, "--set", "stages.model.backbone.name=resnet8", "--threads", 1, check=2
    ).err
    assert output.startswith(
        f"{written}:4:62: stages.model.weights: {tmp_path / 'w.pth'} does not fit resnet8: "
    )
    (tmp_path / "w.pth").unlink()
    assert f"{written}:4:" in (output := invoke("run", written, check=2).err)
    assert (
        f"stages.model.weights: {tmp_path / 'w.pth'} cannot be read (No such file or directory)"
        in output
    )
    assert (
        "is not a regular file"
        in invoke("status", written, "--set", f"stages.model.weights={tmp_path}", check=2).err
    )
    assert (
        "must be the path of a file"
        in invoke("status", written, "--set", "stages.model.weights=[5]", check=2).err
    )


@pytest.mark.parametrize("flags", [["-n"], ["-n", "--smoke"], ["--smoke"]])
def test_a_file_that_does_not_fit_is_told_by_a_dry_run_and_a_smoke_run(
    written: Path, invoke: Callable[..., Said], tmp_path: Path, flags: list[str]
) -> None:
    fault = invoke("run", written, "--set", "stages.model.backbone.name=resnet8", check=2).err
    words = ["--set", "stages.model.backbone.name=resnet8", *flags]
    assert invoke("run", written, *words, check=2).err == fault
    (tmp_path / "w.pth #2.pth").write_bytes(b"<html>")
    words = ["--set", "stages.model.weights=w.pth #2.pth", *flags]
    said = invoke("run", written, *words, check=2).err
    assert f"stages.model.weights: {tmp_path / 'w.pth #2.pth'} " in said


def test_a_dry_run_reads_no_weights_of_a_stage_that_is_made(
    written: Path,
    invoke: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invoke("run", written, "model", "--threads", 1)
    monkeypatch.setattr(Pretrained, "validate_build", lambda *_: pytest.fail("weights are read"))
    assert "cached" in invoke("run", written, "model", "-n").out


def test_a_file_that_changes_under_the_plan_is_not_taken_for_it(
    written: Path, tmp_path: Path
) -> None:
    stage = load_plan(written, Store(tmp_path / "store")).find("model")[0].stage
    saved(tmp_path / "w.pth", drawn("conv4", seed=9).state_dict())
    with pytest.raises(TransferError, match="has changed since this run read it"):
        stage.run(make_work(tmp_path))


# timm


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("name", "head", "layers"),
    [
        ("test_vit", "head", {"features": [64, 10, 10], "embedding": [64]}),
        ("test_resnet", "fc", {"features": [96, 5, 5], "embedding": [96]}),
        ("test_convnext", "head", {"features": [64, 5, 5], "embedding": [64]}),
    ],
)
def test_a_file_in_timms_format_gives_what_timm_gives(
    timm: Any, tmp_path: Path, name: str, head: str, layers: dict[str, list[int]]
) -> None:
    torch.manual_seed(5)
    theirs = timm.create_model(name, num_classes=10).eval()
    weights = saved(tmp_path / "model.safetensors", theirs.state_dict())
    ignore = ["head.fc.*"] if name == "test_convnext" else [f"{head}.*"]
    stage = make_stage(Pretrained, backbone=f"timm:{name}", weights=weights, ignore=ignore)
    stage.validate_plan(namespace())
    stage.validate_build(namespace())
    model = run_stage(stage, tmp_path)
    images = torch.rand(2, 3, 160, 160)
    theirs.reset_classifier(0)
    with torch.inference_mode():
        result = model.network().layers(images, ["features", "embedding"])
        torch.testing.assert_close(result["embedding"], theirs(images))
        features = theirs.forward_features(images)
    if name == "test_vit":  # a class token, then the patches row by row
        features = features[:, 1:].reshape(2, 10, 10, 64).permute(0, 3, 1, 2)
    torch.testing.assert_close(result["features"], features)
    assert model.card.layers == layers
    assert model.card.size == 160
    assert list(model.normalization.mean) == list(theirs.pretrained_cfg["mean"])


def test_maps_with_channels_last_are_handed_on_with_channels_first(timm: Any) -> None:
    network: Any = build_network(backbone("timm:test_mambaout"), 0).eval()
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        result = network.layers(images, ["features", "embedding"])
        torch.testing.assert_close(result["embedding"], network.features.model(images))
    assert network.features.model.output_fmt == "NHWC"
    assert {name: tuple(value.shape[1:]) for name, value in result.items()} == network.shapes(96)
    assert result["features"].shape == (2, 64, 3, 3)


def test_a_network_of_timm_is_a_backbone_like_any_other(timm: Any, tmp_path: Path) -> None:
    described = backbone("timm:test_efficientnet")
    first, again = build_network(described, 4), build_network(described, 4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )
    first(torch.rand(4, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())
    assert backbone(described.model_dump()) == described


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:test_vitt", "no network of timm is called 'test_vitt'; did you mean test_vit"),
        (
            "timm:test_vit.r161_in1k",
            "no set of weights of test_vit is called 'r161_in1k'; did you mean r160_in1k",
        ),
        ("timm:vit_tiny_patch16_224.augreg_in21k", "does not take images of 50 px"),
    ],
)
def test_what_timm_does_not_have_is_told(timm: Any, name: str, words: str) -> None:
    assert words in rehearsed(backbone=name, weights=None, size=50)


def clips(state: State) -> State:
    """Return weights as CLIP's file: an image tower, a text tower and a projection."""
    swaps = [
        ("patch_embed.proj", "conv1"),
        ("pos_embed", "positional_embedding"),
        ("cls_token", "class_embedding"),
        ("blocks.", "transformer.resblocks."),
        ("qkv.", "in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
    ]
    result = {"text_projection": torch.zeros(4, 4), "visual.proj": torch.zeros(64, 32)}
    for name, value in state.items():
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        name = name.replace("norm.", "ln_post.") if name.startswith("norm.") else name
        value = (
            value[0]
            if name == "positional_embedding"
            else value.flatten()
            if name == "class_embedding"
            else value
        )
        result[f"visual.{name}"] = value
    return result


def facebooks(state: State) -> State:
    """As ConvNeXt's file has it."""
    swaps = [
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm", "norm"),
    ]
    result = {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}
    for name, value in state.items():
        for ours, theirs in swaps:
            name = re.sub(ours, theirs, name)
        result[name] = value.flatten(1) if "pwconv" in name and name.endswith("weight") else value
    return result


MASK = {"mask_token": torch.zeros(1, 64)}
FORMATS: dict[str, tuple[str, Callable[[State], Any], dict[str, Any]]] = {
    "dino": (
        "test_vit",
        lambda state: {
            "epoch": 3,
            "teacher": {f"backbone.{k}": v for k, v in state.items()} | {"head.w": torch.ones(1)},
        },
        {"entry": "teacher", "prefix": "backbone."},
    ),
    "dinov2": ("test_vit", lambda state: state | MASK, {}),
    "mae": (
        "test_vit",
        lambda state: {"model": state | MASK | {"decoder_embed.weight": torch.zeros(2, 2)}},
        {"entry": "model", "ignore": ["decoder_*"]},
    ),
    "clip": ("test_vit", clips, {"ignore": ["head.*"]}),
    "convnext": (
        "test_convnext",
        lambda state: {"model": facebooks(state)},
        {"entry": "model", "ignore": ["head.fc.*"]},
    ),
}


@pytest.mark.parametrize("form", FORMATS)
def test_teachers_are_read_as_their_authors_saved_them(
    timm: Any, form: str, tmp_path: Path
) -> None:
    name, written, options = FORMATS[form]
    torch.manual_seed(3)
    theirs = timm.create_model(name, num_classes=0).eval()
    weights = saved(tmp_path / "w.pth", written(theirs.state_dict()))
    stage = make_stage(Pretrained, backbone=f"timm:{name}", weights=weights, **options)
    stage.validate_build(namespace())
    images = torch.rand(2, 3, 160, 160)
    with torch.inference_mode():
        torch.testing.assert_close(run_stage(stage, tmp_path).network()(images), theirs(images))
    plain = make_stage(Pretrained, backbone=f"timm:{name}", weights=weights)
    with torch.inference_mode():  # without any option too
        found = run_stage(plain, tmp_path / "plain").network()(images)
        torch.testing.assert_close(found, theirs(images))


@pytest.mark.parametrize("sizes", [{"patch_size": 32}, {"img_size": 224}])
def test_weights_for_other_patches_or_images_are_not_resampled(
    timm: Any, sizes: dict[str, int], tmp_path: Path
) -> None:
    theirs = timm.create_model("test_vit", num_classes=10, **sizes).state_dict()
    message = rehearsed(
        backbone="timm:test_vit", weights=saved(tmp_path / "w.pth", theirs), ignore=["head.*"]
    )
    assert "of another patch or image size" in message


def test_what_timm_leaves_out_by_itself_may_be_named_too(timm: Any, tmp_path: Path) -> None:
    state = timm.create_model("test_vit", num_classes=0).state_dict() | MASK
    stage = make_stage(
        Pretrained,
        backbone="timm:test_vit",
        weights=saved(tmp_path / "w.pth", state),
        ignore=["mask_token"],
    )
    stage.validate_build(namespace())
    result = run_stage(stage, tmp_path).network().state_dict()
    assert all(
        torch.equal(result[f"features.model.{name}"], state[name])
        for name in state.keys() - MASK.keys()
    )


def test_a_transformer_takes_every_size_that_its_patches_fill(timm: Any, tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.pth", timm.create_model("test_vit", num_classes=0).state_dict())
    model = run_stage(
        make_stage(Pretrained, backbone="timm:test_vit", weights=weights, size=64), tmp_path
    )
    assert model.card.layers["features"] == [64, 4, 4]


@pytest.mark.parametrize("flags", [[], ["--smoke"]])
def test_weights_that_are_not_there_have_a_stand_in_in_smoke_runs_only(
    timm: Any,
    flags: list[str],
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
) -> None:
    text = PIPELINE.replace("{name: conv4}", "timm:test_resnet")
    output = invoke(
        "run", pipeline(text), "--threads", 1, "--dry-run", *flags, check=0 if flags else 2
    )
    if flags:
        stand_in = r"`random_weights: true` replaces .*w\.pth, which is missing"
        assert re.search(stand_in, output.out), output.out
    else:
        assert "w.pth cannot be read (No such file or directory)" in output.err


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install 'transfer[teachers]'" in rehearsed(backbone="timm:resnet18.a1_in1k")


def test_features_of_a_network_of_timm_are_extracted_at_its_own_size(
    timm: Any, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    saved(tmp_path / "w.pth", timm.create_model("test_vit", num_classes=0).state_dict())
    text = PIPELINE.replace("{name: conv4}", "timm:test_vit").replace(", size: 32", "")
    output = invoke("run", pipeline(text), "--threads", 1).out
    assert "features: done" in output
    assert "dimensions 64" in output
    with pytest.raises(
        UsageError, match="no layer of timm:test_vit is called 'embeding'; did you mean embedding"
    ):
        load_plan(
            pipeline(text.replace("model: model}", "model: model, layer: embeding}")),
            Store(tmp_path / "s"),
        )


def test_weights_of_timm_are_taken_by_pretrained_only(
    timm: Any, pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    named = "timm:test_resnet.r160_in1k"
    for stage in (
        f"{{uses: pretext/random, backbone: {named}}}",
        f"{{uses: pretext/simclr, backbone: {{name: {named}}}}}",
    ):
        text = f"data: {{card: drawings, limit: 32}}\nstages:\n  x: {stage}\n"
        with pytest.raises(
            UsageError,
            match=r"backbone: timm:test_resnet.r160_in1k names published weights",
        ):
            load_plan(pipeline(text), Store(tmp_path / "s"))
        assert load_plan(pipeline(text.replace(".r160_in1k", "")), Store(tmp_path / "s")).find("x")


@pytest.mark.parametrize(
    ("options", "place", "message"),
    [
        ("size: 100", "4:78: stages.model.size", "does not take images of 100 px"),
        (
            "size: 64, ignore: ['x']",
            "4:88: stages.model.ignore",
            "has no name that `ignore: x` matches",
        ),
        ("size: 64, prefix: x.", "4:88: stages.model.prefix", "has no name that begins with 'x.'"),
        ("size: 64, entry: x", "4:88: stages.model.entry", "has no entry 'x'"),
    ],
)
def test_what_does_not_fit_is_told_at_its_option(
    timm: Any,
    pipeline: Callable[..., Path],
    invoke: Callable[..., Said],
    tmp_path: Path,
    options: str,
    place: str,
    message: str,
) -> None:
    saved(tmp_path / "w.pth", timm.create_model("test_vit", num_classes=0).state_dict())
    text = PIPELINE.replace("{name: conv4}", "timm:test_vit").replace("size: 32", options)
    output = invoke("run", pipeline(text), "--threads", 1, check=2).err
    assert place in output
    assert message in output


def test_how_wide_the_features_of_a_pretrained_network_are_is_known_before_it_is_asked(
    timm: Any, pipeline: Callable[..., Path], invoke: Callable[..., Said], tmp_path: Path
) -> None:
    saved(tmp_path / "w.pth", timm.create_model("test_vit", num_classes=0).state_dict())
    text = PIPELINE.replace("{name: conv4}", "timm:test_vit").replace("size: 32", "size: 64")
    wide = f"{text}  wide: {{uses: prepare, features: features, components: 65}}\n"
    wide = wide.replace("limit: 32", "limit: 128")
    output = invoke("run", pipeline(wide), "--threads", 1, check=2)
    assert "stages.wide.components: 65 components are more than the 64 values" in output.err
    assert "done" not in output.out
