"""Pipeline files: every fault at once, each with its place and the nearest name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import TINY, Said
from transfer.errors import UsageError
from transfer.pipeline.loader import Plan, load_plan
from transfer.storage.store import Store

MODEL = "model: {uses: pretext/random, backbone: conv4}"


MANY_FAULTS = """\
name: many
sead: 1
data: {card: drawings, limt: 3}
stages:
  pretext:
    uses: pretext/jigsawp
    epochs: 1
  random:
    uses: pretext/random
    backbone: vgg17
  other:
    uses: pretext/random
    backbone: {name: conv4, widht: 2}
  third:
    uses: pretext/random
    backbone: {name: conv4, width: 9}
    data: drawing
  features:
    uses: extract/network
    model: randon
    pool: 0
  clusters:
    uses: cluster
    features: random
    data: drawings
    k: two
    iteration: 3
    init: kmeans
  x:
    uses: prepare
    features: y
    features: z
    steps: [l2, pcaa]
  y:
    uses: prepare
    features: x
  z: 5
"""


def test_all_faults_of_a_file_are_reported_at_once_each_with_its_place_and_the_nearest_name(
    faults: Callable[..., list[str]],
) -> None:
    expected = [
        "2:1: sead: unknown key; did you mean 'seed'?",
        "3:24: data.limt: unknown option; did you mean 'limit'?",
        "6:5: stages.pretext.uses: unknown stage 'pretext/jigsawp'; "
        "did you mean 'pretext/jigsawpp'?",
        "10:5: stages.random.backbone: no backbone is called 'vgg17'; did you mean vgg19",
        "13:29: stages.other.backbone.widht: unknown option; did you mean 'width'?",
        "16:29: stages.third.backbone.width: should be less than or equal to 4 (found 9)",
        "17:5: stages.third.data: no image set called 'drawing'; did you mean 'drawings'?",
        "20:5: stages.features.model: no stage 'randon'; did you mean 'random'?",
        "21:5: stages.features.pool: should be greater than or equal to 1 (found 0)",
        "24:5: stages.clusters.features: needs Features, but 'random' (pretext/random) makes "
        "Model; these stages make Features",
        "25:5: stages.clusters.data: cluster reads no images",
        "26:5: stages.clusters.k: should be a valid integer",
        "27:5: stages.clusters.iteration: unknown option; did you mean 'iterations'?",
        "28:5: stages.clusters.init: should be 'k-means++' or 'random' (found 'kmeans')",
        "29:3: stages.x: dependency cycle: x -> y -> x",
        "32:5: features: key repeated (first on line 31)",
        "33:17: stages.x.steps.1: should be 'center', 'standardize', 'l2', 'pca', 'whiten' or "
        "'project' (found 'pcaa')",
        "37:3: stages.z: must be a mapping with `uses`",
    ]
    found = faults(MANY_FAULTS)
    assert [
        line for line, wanted in zip(found, expected, strict=True) if not line.startswith(wanted)
    ] == []


@pytest.mark.parametrize(
    ("stages", "at", "words"),
    [
        ("a: {uses: cluster}", "a:", "stages.a.features: is required: the features to cluster"),
        (
            "a: {uses: cluster, features: }",
            "features",
            "stages.a.features: must be the name of one stage (found nothing)",
        ),
        (
            "a: {uses: cluster, features: a}",
            "features",
            "stages.a.features: needs Features, but 'a' (cluster) makes Clusters",
        ),
        ("a: {k: 5}", "a:", "stages.a.uses: must name a method (see `transfer list stages`)"),
        ("a: {uses: [cluster]}", "uses", "stages.a.uses: must name a method"),
        (
            "a b: {uses: pretext/random}",
            "a b",
            "stages.a b: the name of a stage may have letters, digits, '_' and '-' only",
        ),
        ("a.b: {uses: pretext/random}", "a.b", "stages.a.b: the name of a stage may have letters"),
        (
            "a: {uses: pretext/random, seed: -1}",
            "seed",
            "stages.a.seed: should be greater than or equal to 0 (found -1)",
        ),
        (
            "a: {uses: pretext/random, seed: 1.5}",
            "seed",
            "stages.a.seed: should be a valid integer",
        ),
        ("a: {uses: pretext/random, backbone: {width: 1}}", "backbone", "stages.a.backbone: "),
        ("a: {uses: pretext/random, backbone: 5}", "backbone", "stages.a.backbone: "),
        (
            "a: {uses: pretext/random, backbone: {name: vgg16, batch_norm: no}}",
            "batch_norm",
            "stages.a.backbone.batch_norm: ",
        ),
        (
            "a: {uses: pretext/random, data: {card: drawings, split: trian}}",
            "data",
            "stages.a.data: image set 'drawings' has no split",
        ),
        (
            "a: {uses: pretext/random, data: {card: drawings, folder: x}}",
            "data",
            "stages.a.data: name one of card, folder, hdf5",
        ),
        (
            "a: {uses: pretext/random, data: hdf5}",
            "data",
            "stages.a.data: 'hdf5' is a layout, not a set",
        ),
        ("a: {uses: pretext/random, data: ./nowhere}", "data", "stages.a.data: folder "),
        ("a: {uses: pretext/random, data: ./nowhere.h5}", "data", "stages.a.data: "),
        ("a: {uses: pretext/random, data: ./flat/a.png}", "data", "stages.a.data: "),
        ("a: {uses: pretext/random, data: ./" + 300 * "x" + "}", "data", "stages.a.data: "),
        (
            "a: {uses: pretext/random, data: }",
            "data:",
            "stages.a.data: is empty; name a folder, or a set of `transfer list data`",
        ),
        (
            f"{MODEL}, a: {{uses: extract/network, model: model, layer: conv9}}",
            "layer",
            "stages.a.layer: no layer of conv4",
        ),
        (
            f"{MODEL}, a: {{uses: evaluate/knn, model: model, k: 33}}",
            "k: 33",
            "stages.a.k: 33 neighbors are more than the 32 training images; lower k",
        ),
        (
            f"{MODEL}, f: {{uses: extract/network, model: model}}, "
            "c: {uses: cluster, features: f, k: 33}",
            "k: 33",
            "stages.c.k: 33 clusters of 32 images",
        ),
        (
            f"{MODEL}, a: {{uses: evaluate/knn, model: model, data: ./flat}}",
            "data",
            "stages.a.data: image set './flat' has no split 'train'",
        ),
        (
            f"{MODEL}, a: {{uses: evaluate/knn, model: model, data: ./bare}}",
            "data",
            "stages.a.data: image set './bare', split 'train', has no labels",
        ),
        (
            f"{MODEL}, a: {{uses: pretext/jigsawpp, backbone: conv4, tile_size: 30}}",
            "a:",
            "stages.a: images of 64 px have cells of 21 px",
        ),
        (
            "a: {uses: prepare, features: b}, b: {uses: prepare, features: a}",
            "a:",
            "stages.a: dependency cycle: a -> b -> a",
        ),
        ("a: {uses: my_stage.py:Mine}", "uses", "stages.a.uses: the file "),
        ("", "stages", "stages: must be a mapping of at least one stage"),
    ],
)
def test_a_faulty_stage_is_reported_with_its_place(
    faults: Callable[..., list[str]], tmp_path: Path, stages: str, at: str, words: str
) -> None:
    for name in ("flat/a.png", "bare/train/a.png", "bare/test/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    line = f"stages: {{{stages}}}"
    found = faults(f"data: {{card: drawings, limit: 32}}\n{line}\n")
    assert len(found) == 1
    assert found[0].startswith(f"2:{line.index(at) + 1}: {words}")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            "",
            "2:2: stages.model: reads images, but `data:` is missing; "
            "add it here or for the whole file",
        ),
        ("data: drawing", "1:1: data: no image set called 'drawing'; did you mean 'drawings'?"),
        ("data: ./none", "1:1: data: folder "),
        ("data: [drawings]", "1:1: data: should be"),
        ("name: [5]", "1:1: name: should be a valid string (found [5])"),
        ("name: a/b", "1:1: name: may have letters, digits, '_', '-' and '.' only"),
        ("seed: 1.0", "1:1: seed: should be a valid integer (found 1.0)"),
        ("seed: 5000000000", "1:1: seed: should be less than 4294967296"),
    ],
)
def test_a_faulty_head_is_reported_with_its_place(
    faults: Callable[..., list[str]], head: str, expected: str
) -> None:
    data = "" if "data" in head or not head else ", data: drawings"
    found = faults(f"{head}\nstages:\n {MODEL[:-1]}{data}}}\n")
    assert len(found) == 1
    assert found[0].startswith(expected.replace("2:2", "3:2"))


def test_an_image_set_that_several_stages_cannot_read_is_reported_once(
    faults: Callable[..., list[str]],
) -> None:
    found = faults(f"data: ./none\nstages: {{{MODEL}, other: {{uses: pretext/random}}}}\n")
    assert len(found) == 1
    assert found[0].endswith("none does not exist (read by model, other)")


def test_a_fault_that_set_brings_names_the_words_of_the_command(
    faults: Callable[..., list[str]],
) -> None:
    sets = ["stages.clusters.k=two", "stages.clusters.iteration=3", "stages.new={uses: clusters}"]
    assert sorted(line.split(" (")[0] for line in faults(TINY, sets=sets)) == [
        "--set stages.clusters.iteration=3: stages.clusters.iteration: unknown option; "
        "did you mean 'iterations'?",
        "--set stages.clusters.k=two: stages.clusters.k: should be a valid integer",
        "--set stages.new={uses: clusters}: stages.new.uses: unknown stage 'clusters'; "
        "did you mean 'cluster'?",
    ]


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "5"])
def test_a_file_that_is_no_mapping_is_refused(load: Callable[..., Plan], text: str) -> None:
    with pytest.raises(UsageError, match=r":1:1: a pipeline file must be a mapping with `stages`"):
        load(text)


def test_faults_reach_the_person_without_a_traceback_and_with_exit_code_2(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    file = pipeline(MANY_FAULTS)
    for command in ("run", "status", "show", "verify", "graph"):
        said = invoke(command, file, check=2)
        assert said.out == ""
        assert said.err.count(f"{file}:") == 18
        assert "18 faults; nothing was started" in said.err


@pytest.mark.parametrize("word", ["data=photos/", "data={folder: photos}", "data.folder=photos"])
def test_a_path_given_with_set_starts_at_the_working_directory_and_one_in_the_file_at_the_file(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        (folder / "photos").mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "photos" / "one.png")
    file = there / "p.yaml"
    file.write_text(
        "data: {folder: photos}\nstages:\n  r: {uses: pretext/random, backbone: conv4}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(here)
    store = Store(tmp_path / "store")
    assert load_plan(file, store).stages[0].stage.origin.location == str(there / "photos")
    assert load_plan(file, store, sets=[word]).stages[0].stage.origin.location == str(
        here / "photos"
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "shrinkage: oas",
            "5:35: stages.x.shrinkage: should be a valid number or 'ledoit-wolf' (found 'oas')",
        ),
        ("shrinkage: {a: 1}", "5:35: stages.x.shrinkage: should be a valid number"),
        (
            "shrinkage: 3",
            "5:35: stages.x.shrinkage: should be less than or equal to 1 or 'ledoit-wolf' "
            "(found 3)",
        ),
    ],
)
def test_an_option_of_several_types_has_one_fault(
    faults: Callable[..., list[str]], option: str, message: str
) -> None:
    network = (
        "  net: {uses: pretext/random, backbone: conv4}\n  f: {uses: extract/network, model: net}\n"
    )
    data = "data: {card: drawings, limit: 64}\n"
    text = f"{data}stages:\n{network}  x: {{uses: prepare, features: f, {option}}}"
    (found,) = faults(text)
    assert found.startswith(message)
