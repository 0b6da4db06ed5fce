"""`transfer export`: every format equals the model in the store, or nothing is written."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from ruamel.yaml import YAML

import transfer
from tests.conftest import Said, Tiny, command_line
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.decode import square
from transfer.errors import TransferError, UsageError
from transfer.export import exporter, formats, loaded_model
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.models.network import Network
from transfer.models.torchvision_compat import Compatibility, find_compatible
from transfer.storage.manifest import Manifest, describe_files
from transfer.transforms.normalize import Normalization, normalize

pytestmark = pytest.mark.slow

FILES = ["README.md", "model.json", "model.pt2", "model.safetensors", "state_dict.pt"]
NETWORKS = """\
name: networks
data: {card: drawings, limit: 8}
stages:
  alexnet: {uses: pretext/random, backbone: alexnet}
  vgg: {uses: pretext/random, backbone: {name: vgg11, batch_norm: true}}
  resnet: {uses: pretext/random, backbone: resnet18}
  narrow:
    uses: pretext/random
    backbone: {name: alexnet, width: 0.1}
    data: {card: drawings, limit: 8, fit: stretch}
  features: {uses: extract/network, model: narrow}
"""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Networks of random weights, some of them torchvision's."""
    folder = tmp_path_factory.mktemp("networks")
    made = Tiny(folder / "networks.yaml", folder / "store")
    made.file.write_text(NETWORKS, encoding="utf-8")
    words = [
        "run",
        made.file,
        "alexnet",
        "vgg",
        "resnet",
        "narrow",
        "--store",
        made.store,
        "--threads",
        1,
    ]
    command_line(*words, "--device", "cpu", cwd=folder)
    return made


@pytest.fixture(scope="module")
def exported(finished: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target of the tiny pipeline, exported."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    command_line(
        "export", finished.file, "target", folder, "--store", finished.store, cwd=folder.parent
    )
    return folder


@pytest.fixture
def pixels() -> torch.Tensor:
    """(3, 3, 64, 64) uint8 noise."""
    return torch.randint(
        0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is written.


def test_it_writes_all_files_and_says_so(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()  # an empty folder is as good as none
    said = invoke("export", finished.file, "target", "out", "--store", finished.store).out
    assert left(tmp_path) == ["out"]
    assert left(tmp_path / "out") == FILES
    for name in FILES:
        assert re.search(rf"^  {name} +[\d.]+ (B|kB) +\S", said, re.MULTILINE)
    assert "compared with the model on 4 images of drawings/unlabeled and 2 images of noise" in said
    assert "not for torchvision: torchvision has no conv4" in said
    assert said.splitlines()[-3:-1] == ["import transfer", 'model = transfer.load_model("out")']
    stored = next((finished.store / "target/pseudo_label").iterdir())
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        stored / "model.safetensors"
    ).read_bytes()


def test_json_gives_files_and_differences(
    invoke: Callable[..., Said], networks: Tiny, tmp_path: Path
) -> None:
    found = json.loads(
        invoke("export", networks.file, "narrow", "a/b", "--store", networks.store, "--json").out
    )
    assert sorted(found["files"]) == FILES
    assert {name: facts["bytes"] for name, facts in found["files"].items()} == {
        name: (tmp_path / "a/b" / name).stat().st_size for name in FILES
    }
    assert all(value <= found["tolerance"] for value in found["differences"].values())
    card = (tmp_path / "a/b/README.md").read_text(encoding="utf-8")
    assert "None: no stage of the pipeline file evaluates this model." in card
    assert "torchvision's alexnet has width 1, and this one 0.1" in card
    model, wide = (
        transfer.load_model(tmp_path / "a/b"),
        np.repeat(np.eye(64, dtype=np.uint8)[..., None] * 255, 3, 2),
    )
    wide = wide.repeat(2, axis=1)
    assert np.array_equal(
        model.pixels([wide])[0].permute(1, 2, 0).numpy(), square(wide, 64, "stretch")
    )
    # No torchvision network takes it by mistake; our own does, strictly.
    state = torch.load(tmp_path / "a/b/state_dict.pt", weights_only=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        torchvision.models.alexnet().load_state_dict(state, strict=True)
    Model(tmp_path / "a/b").network().load_state_dict(state, strict=True)


def test_the_three_lines_of_the_card_embed_a_picture(exported: Path) -> None:
    Image.effect_noise((90, 70), 80).convert("RGB").save(exported.parent / "photo.jpg")
    card = (exported / "README.md").read_text(encoding="utf-8")
    code = re.search(r"## Use\n\n```python\n(.*?)```", card, re.DOTALL)
    assert code
    script = code[1] + "print(embedding.shape, embedding.dtype, embedding.std() > 0)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=exported.parent, text=True, capture_output=True
    )
    assert done.stdout == "(32,) float32 True\n", done.stderr


def test_the_program_takes_any_number_of_pixels_and_gives_the_models_embeddings(
    exported: Path, pixels: torch.Tensor
) -> None:
    program = torch.export.load(exported / "model.pt2").module()
    expected = transfer.load_model(exported).embed(pixels.permute(0, 2, 3, 1).numpy())
    assert expected.shape == (3, 32)
    for some in (slice(1), slice(3)):
        assert np.abs(program(pixels[some]).numpy() - expected[some]).max() < 1e-5
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if version < (2, 7):  # older programs do not check their input
        return
    with pytest.raises((RuntimeError, AssertionError)):
        program(pixels.float() / 255)  # not taken for pixels
    with pytest.raises((RuntimeError, AssertionError)):
        program(pixels[:, :, :32, :32])


@pytest.mark.parametrize(
    ("stage", "theirs", "zeros", "headless"),
    [
        (
            "alexnet",
            "alexnet",
            {"classifier.6"},
            lambda net: (net.features, net.avgpool, torch.nn.Flatten(), *net.classifier[:-1]),
        ),
        (
            "vgg",
            "vgg11_bn",
            {"classifier.0", "classifier.3", "classifier.6"},
            lambda net: net.features,
        ),
        ("resnet", "resnet18", {"fc"}, lambda net: [*net.children()][:-1]),
    ],
)
def test_torchvision_loads_the_state_dict_strictly_and_computes_the_same(
    invoke: Callable[..., Said],
    networks: Tiny,
    tmp_path: Path,
    pixels: torch.Tensor,
    stage: str,
    theirs: str,
    zeros: set[str],
    headless: Callable,
) -> None:
    said = invoke("export", networks.file, stage, "out", "--store", networks.store).out
    assert f"torchvision's {theirs} loads it strictly; {', '.join(sorted(zeros))}: zeros" in said
    found = torch.load(tmp_path / "out/state_dict.pt", weights_only=True)
    with torch.device("meta"):
        network = torchvision.models.get_model(theirs)
    network.load_state_dict(found, strict=True, assign=True)
    empty = {
        name.rpartition(".")[0]
        for name, value in found.items()
        if name.endswith("weight") and not value.any()
    }
    assert empty == zeros
    assert f"**{', '.join(sorted(zeros))}**: zeros" in (tmp_path / "out/README.md").read_text(
        encoding="utf-8"
    )
    model = Model(tmp_path / "out")
    images = normalize(pixels, model.normalization)
    steps = headless(network.eval())
    with torch.no_grad():
        given = torch.nn.Sequential(*steps)(images).flatten(1)
        expected = model.network()(images).flatten(1)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert expected.std() > 0
    shutil.rmtree(tmp_path / "out")


def test_which_networks_are_torchvisions() -> None:
    def fit(**options: object) -> Compatibility:
        spec = backbone(options)
        with torch.device("meta"):
            return find_compatible(spec, Network(spec.make_layers(), spec).state_dict())

    assert fit(name="vgg16", fc=True).absent.keys() == {"classifier.6.weight", "classifier.6.bias"}
    assert fit(name="vgg16", fc=True).torchvision_name == "vgg16"
    assert fit(name="alexnet", fc=False).absent["classifier.1.weight"] == (4096, 9216)
    assert fit(name="resnet50").absent == {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    assert (
        fit(name="alexnet", batch_norm=True).mismatch
        == "torchvision's alexnet has no batch normalization"
    )
    for options in ({"name": "vgg11", "stem": "small"}, {"name": "resnet18", "stem": "small"}):
        assert "no stem for small images" in fit(**options).mismatch
    assert fit(name="resnet56").mismatch == "torchvision has no resnet56"


@pytest.mark.parametrize("how", [Normalization(per_image=True), Normalization(lightness=True)])
def test_a_program_normalizes_as_the_model_does(
    tmp_path: Path, pixels: torch.Tensor, how: Normalization
) -> None:
    network = build_network(backbone("conv4"), 0).eval()
    Model.write(tmp_path, network, size=64, normalization=how, made_by={}, history=[])
    model = transfer.load_model(tmp_path)
    formats.write_program(tmp_path / "model.pt2", model.embedding(), pixels)
    with torch.no_grad():
        expected = network(normalize(pixels, how))
    given = formats.program_outputs(tmp_path / "model.pt2")
    assert (
        formats.largest_difference("it", given, lambda some: expected[: len(some)], pixels) < 1e-5
    )


def test_a_network_of_timm_leaves_under_timms_own_names(
    tmp_path: Path, pixels: torch.Tensor
) -> None:
    timm = pytest.importorskip("timm")
    network = build_network(backbone("timm:resnet10t"), 0).eval()
    Model.write(tmp_path, network, size=64, normalization=Normalization(), made_by={}, history=[])
    fit = find_compatible(network.spec, network.state_dict())
    formats.write_state_dict(tmp_path / "state_dict.pt", network.state_dict(), fit)
    found = torch.load(tmp_path / "state_dict.pt", weights_only=True)
    timm.create_model("resnet10t", num_classes=0).load_state_dict(found, strict=True)
    given, own = formats.state_dict_outputs(
        tmp_path / "state_dict.pt", transfer.load_model(tmp_path), fit
    )
    assert formats.largest_difference("it", given, own, pixels) < 1e-6


@pytest.mark.parametrize(("name", "size"), [("test_vit", 32), ("test_resnet", 48)])
def test_what_the_card_says_of_timm_makes_a_network_that_takes_the_models_images(
    name: str, size: int
) -> None:
    timm = pytest.importorskip("timm")
    network = build_network(backbone(f"timm:{name}"), 0).eval()
    fit = find_compatible(network.spec, network.state_dict())
    theirs = eval(fit.belongs.split("`")[1], {"timm": timm}).eval()
    theirs.load_state_dict(
        {fit.names[name]: value for name, value in network.state_dict().items()}, strict=True
    )
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), network(images), rtol=1e-5, atol=1e-5)


def test_onnx_is_written_and_compared(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path, pixels
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    said = invoke("export", finished.file, "target", "out", "--store", finished.store, "--onnx").out
    assert re.search(r"model\.onnx \d\.\de-\d\d", said)
    session = onnxruntime.InferenceSession(
        tmp_path / "out/model.onnx", providers=["CPUExecutionProvider"]
    )
    expected = transfer.load_model(tmp_path / "out").embed(pixels.permute(0, 2, 3, 1).numpy())
    (given,) = session.run(None, {"images": pixels.numpy()})
    assert np.abs(given - expected).max() < 1e-4 * np.abs(expected).max()


def test_without_its_packages_onnx_is_refused_with_the_command_that_installs_them(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    said = invoke(
        "export", finished.file, "target", "out", "--store", finished.store, "--onnx", check=2
    ).err
    assert "onnx, onnxruntime, onnxscript: pip install 'transfer[onnx]'" in said
    assert left(tmp_path) == []


# The card.


def test_the_card_tells_what_the_store_knows(exported: Path, finished: Tiny) -> None:
    card = (exported / "README.md").read_text(encoding="utf-8")
    _, head, body = card.split("---\n", 2)
    facts = YAML(typ="safe").load(head)
    assert facts["library_name"] == "transfer"
    assert facts["license"] == "unknown"
    known = {
        folder.parent.name: Scores(folder) for folder in (finished.store / "evaluate").glob("*/*")
    }
    results = facts["model-index"][0]["results"]
    assert {one["metrics"][0]["name"]: one["metrics"][0]["value"] for one in results} == {
        f"{scores.card.protocol}: {scores.card.main}": round(scores.figures[scores.card.main], 2)
        for scores in known.values()
    }
    low, high = known["knn"].card.intervals["knn"]
    score = f"{known['knn'].figures['knn']:.1f} %"
    row = f"**knn** | {score} | {low:.1f} to {high:.1f} % | drawings/test | 1,000 |"
    assert f"| {known['knn'].card.protocol} | {row}" in body
    for said in (
        "pretext/jigsawpp",
        "| permutations | 20 |",
        "| k | 5 |",
        "whiten",
        "| sampling | uniform |",
    ):
        assert said in body
    assert re.search(r"\*\*drawings/unlabeled\*\*: 64 images of 64 px.*License: Apache-2.0", body)
    for folder in (*finished.store.glob("cluster/*"), *finished.store.glob("target/*/*")):
        assert f"`{folder.name}`" in body
    assert f"torch {torch.__version__.partition('+')[0]}" in body
    assert str(finished.file.parent) not in card


def test_a_smoke_run_says_so_in_bold(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    file = pipeline(NETWORKS)
    command_line(
        "run", file, "narrow", "--smoke", "--store", "store", "--device", "cpu", cwd=tmp_path
    )
    invoke("export", file, "narrow", "out", "--smoke", "--store", "store")
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "**A smoke run: trained far too little to be useful.**" in card


def test_scores_that_are_not_there_or_no_longer_true_are_named(
    invoke: Callable[..., Said], tiny: Tiny, tmp_path: Path
) -> None:
    shutil.rmtree(tiny.store / "evaluate" / "linear")
    invoke("export", tiny.file, "target", "out", "--store", tiny.store)
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert "Not evaluated yet: linear." in card
    assert "| knn/" in card
    assert "| linear/" not in card
    # The target is rebuilt with other bytes, so the scores of the former bytes are out of date.
    folder = next((tiny.store / "target/pseudo_label").iterdir())
    manifest = Manifest.read(folder)
    (folder / "history.json").write_text("[]", encoding="utf-8")
    manifest.files["history.json"] = describe_files(folder)["history.json"]
    (folder / "manifest.json").write_text(manifest.dump(), encoding="utf-8")
    invoke("export", tiny.file, "target", "again", "--store", tiny.store)
    card = (tmp_path / "again/README.md").read_text(encoding="utf-8")
    assert "knn (its input `model` was rebuilt since)" in card
    assert "| knn/" not in card


# What goes wrong.


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (
            ["clusters", "out"],
            2,
            "clusters makes Clusters, but only a Model can be exported; choose from: pretext, "
            "target",
        ),
        (["targt", "out"], 2, "no stage 'targt'; did you mean 'target'?"),
        (
            ["target", "out", "--set", "stages.target.epochs=2"],
            1,
            "target is not made yet; make it: transfer run",
        ),
        (["target", "full"], 2, "full is not empty"),
        (["target", "file"], 2, "file is a file"),
        (["target", "file/out"], 2, "file is a file"),
        (["target", "here"], 0, ""),
    ],
)
def test_what_cannot_be_exported_is_refused(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    words: list[str],
    code: int,
    hint: str,
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept").write_text("kept")
    (tmp_path / "file").write_text("kept")
    said = invoke("export", finished.file, *words, "--store", finished.store, check=code)
    assert hint in said.err
    assert left(tmp_path) == ["file", "full", *(["here"] if code == 0 else [])]
    assert left(tmp_path / "full") == ["kept"]


def test_force_replaces_an_earlier_export_in_one_step(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["export", finished.file, "target", "out", "--store", finished.store]
    invoke(*words)
    before = (tmp_path / "out" / "model.pt2").read_bytes()
    (tmp_path / "out" / "README.md").write_text("old", encoding="utf-8")
    assert "replace it with --force" in invoke(*words, check=2).err
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "old"

    # Where the export fails, the earlier one stays.
    with monkeypatch.context() as patch:
        patch.setattr(exporter, "model_card", lambda *facts: 1 / 0)
        invoke(*words, "--force", check=1)
    assert left(tmp_path) == ["out"]
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "old"
    assert (tmp_path / "out" / "model.pt2").read_bytes() == before

    # What a kill between the two renames left is removed, and an export to nowhere may be forced.
    shutil.copytree(tmp_path / "out", tmp_path / ".out.999999999.replaced")
    invoke(*words, "--force")
    assert left(tmp_path) == ["out"]
    assert (tmp_path / "out" / "README.md").stat().st_size > 1000
    invoke(*words[:3], "new", *words[4:], "--force")
    assert left(tmp_path / "new") == left(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda folder: (folder / "notes.txt").touch(), "has 'notes.txt', which no export writes"),
        (lambda folder: (folder / "photos").mkdir(), "has 'photos', which no export writes"),
        (lambda folder: (folder / "README.md").unlink(), "is not an export: it has no README.md"),
        (lambda folder: (folder / "model.json").write_text("{}"), "its model.json is not of one"),
        (lambda folder: (folder / "model.json").write_text("x"), "its model.json is not of one"),
    ],
)
def test_force_never_deletes_what_is_no_export(
    invoke: Callable[..., Said],
    finished: Tiny,
    tmp_path: Path,
    change: Callable[[Path], object],
    hint: str,
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("README.md", "model.safetensors"):
        (folder / name).write_text("kept", encoding="utf-8")
    (folder / "model.json").write_text('{"backbone": {}, "fit": "crop"}', encoding="utf-8")
    change(folder)
    before = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    words = ["export", finished.file, "target", "out", "--store", finished.store, "--force"]
    said = invoke(*words, check=2).err
    assert hint in said
    assert "--force replaces an earlier export only" in said
    after = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert after == before


def test_the_folder_that_one_is_in_is_not_replaced(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    said = invoke("export", finished.file, "target", ".", "--store", finished.store, check=2)
    assert "is the current folder, which the export would replace" in said.err


def test_damaged_weights_are_not_exported(
    invoke: Callable[..., Said], tiny: Tiny, tmp_path: Path
) -> None:
    weights = next((tiny.store / "target/pseudo_label").glob("*/model.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    said = invoke("export", tiny.file, "target", "out", "--store", tiny.store, check=4)
    assert "model.safetensors is not what was written" in said.err
    assert not (tmp_path / "out").exists()


def test_a_form_that_differs_is_not_kept(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = formats.write_state_dict

    def wrong(path: Path, state: dict[str, torch.Tensor], fit: Compatibility) -> None:
        write(path, {**state, "conv1.conv.weight": 1.01 * state["conv1.conv.weight"].flip(0)}, fit)

    monkeypatch.setattr(formats, "write_state_dict", wrong)
    said = invoke("export", finished.file, "target", "out", "--store", finished.store, check=1)
    assert re.search(r"state_dict.pt was loaded again and differs from the model by \d", said.err)
    assert left(tmp_path) == []


def test_a_diverged_network_is_not_exported(pixels: torch.Tensor) -> None:
    with pytest.raises(TransferError, match="diverged"):
        formats.largest_difference(
            "it", torch.Tensor.float, lambda images: images.float() / 0 * 0, pixels
        )


def test_a_full_disk_is_told_before_and_while_writing(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", finished.file, "target", "out", "--store", finished.store]
    with monkeypatch.context() as patched:
        patched.setattr(exporter, "free_bytes", lambda path: 1000)
        assert re.search(
            r"needs up to [\d.]+ MB, but only 1.0 kB are free", invoke(*words, check=1).err
        )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(formats, "write_program", full)
    assert "the disk is full" in invoke(*words, check=1).err
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_an_interrupted_export_leaves_nothing_half_made(
    finished: Tiny, tmp_path: Path, number: int, code: int
) -> None:
    words = [
        sys.executable,
        "-m",
        "transfer",
        "export",
        finished.file,
        "target",
        "out",
        "--store",
        finished.store,
    ]
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler
        ),  # where it is ignored: `pytest &`
    )
    deadline = time.monotonic() + 60
    while (
        not any(path.name == "model.safetensors" for path in tmp_path.rglob("*"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()
    if number == signal.SIGKILL:  # nobody could tidy up: the next export does
        assert left(tmp_path) == [f".out.{process.pid}.exporting"]
        command_line(
            "export", finished.file, "target", "out", "--store", finished.store, cwd=tmp_path
        )
        assert left(tmp_path) == ["out"]
    else:
        assert left(tmp_path) == []


def test_an_export_beside_this_one_is_left_alone(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    other = tmp_path / f".out.{os.getppid()}.exporting"
    other.mkdir()
    invoke("export", finished.file, "target", "out", "--store", finished.store)
    assert left(tmp_path) == [other.name, "out"]


# Pictures in, embeddings out.


def test_paths_pictures_and_arrays_give_the_same_embedding(exported: Path, tmp_path: Path) -> None:
    model = transfer.load_model(str(exported))
    array = np.random.RandomState(3).randint(0, 256, (70, 90, 3)).astype(np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    one = model.embed(str(tmp_path / "a.png"))
    assert one.shape == (32,)
    several = model.embed([tmp_path / "a.png", picture, array])
    assert (np.abs(several - one) <= 1e-5 * np.linalg.norm(one)).all()
    np.testing.assert_array_equal(model.embed(array), one)
    np.testing.assert_array_equal(model.embed(array[None]), one[None])
    assert model.embed(picture, layer="conv1").shape == (4,)
    assert np.abs(model.embed(array[:, ::-1]) - one).max() > 0


def test_more_pictures_than_a_block_hold_their_order(
    exported: Path, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded_model, "BLOCK", 2)
    arrays, model = pixels.permute(0, 2, 3, 1).numpy(), transfer.load_model(exported)
    alone = np.stack([model.embed(array) for array in arrays])
    apart = np.abs(model.embed(iter(arrays)) - alone)
    assert (apart <= 1e-5 * np.linalg.norm(alone, axis=1, keepdims=True)).all()


def test_a_picture_is_turned_and_laid_on_white_as_packing_does(
    exported: Path, tmp_path: Path
) -> None:
    model, upright = transfer.load_model(exported), Image.effect_noise((64, 64), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(data, "PNG", exif=exif)
    np.testing.assert_allclose(
        model.embed(Image.open(data)), model.embed(upright), rtol=1e-5, atol=1e-6
    )
    clear = Image.new("RGBA", (64, 64), (9, 9, 9, 0))
    white = np.full((64, 64, 3), 255, np.uint8)
    np.testing.assert_array_equal(model.embed(clear), model.embed(white))


@pytest.mark.parametrize(
    ("images", "hint"),
    [
        ("none.jpg", "none.jpg: No such file or directory"),
        (["text.jpg"], "text.jpg: a text, not a picture"),
        ([], "no images to embed"),
        (np.zeros((8, 8, 3), np.float32), r"an array of float32 \(8, 8, 3\) is not an image"),
        (np.zeros((8, 8), np.uint8), r"an array of uint8 \(8, 8\) is not an image"),
        ([3], "int is not an image; pass paths"),
    ],
)
def test_what_is_no_picture_is_named(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(UsageError, match=hint):
        transfer.load_model(exported).embed(images)


def test_unknown_layers_and_folders_without_a_model_are_named(
    exported: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no layer of conv4 is called 'conv9'"):
        transfer.load_model(exported).embedding("conv9")
    with pytest.raises(
        UsageError,
        match=r"model.safetensors and model.json not found; `transfer export` writes them",
    ):
        transfer.load_model(tmp_path)
