"""Pipeline files: every fault at once and in its place, what a key depends on, and plug-ins."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from tests.conftest import TINY, Said
from transfer.errors import UsageError
from transfer.inspection.json_schema import pipeline_schema
from transfer.pipeline.loader import Plan, load_plan
from transfer.pipeline.yaml_document import Faults, parse
from transfer.storage.store import Store
from transfer.utils.paths import shipped_folder

MODEL = "model: {uses: pretext/random, backbone: conv4}"


@pytest.fixture
def load(pipeline: Callable[..., Path], tmp_path: Path) -> Callable[..., Plan]:
    return lambda text, **flags: load_plan(pipeline(text), Store(tmp_path / "store"), **flags)


@pytest.fixture
def faults(load: Callable[..., Plan], tmp_path: Path) -> Callable[..., list[str]]:
    """The faults of a text, each without the file's path."""

    def find(text: str, **flags: Any) -> list[str]:
        with pytest.raises(UsageError) as caught:
            load(text, **flags)
        *lines, count = str(caught.value).splitlines()
        assert count == f"{len(lines)} fault{'s' if len(lines) > 1 else ''}; nothing was started"
        return [line.removeprefix(f"{tmp_path / 'pipeline.yaml'}:") for line in lines]

    return find


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


def test_all_faults_of_a_file_are_told_at_once_each_with_its_place_and_the_nearest_name(
    faults: Callable[..., list[str]],
) -> None:
    expected = [
        "2:1: sead: unknown key; did you mean 'seed'?",
        "3:24: data.limt: unknown option; did you mean 'limit'?",
        "6:5: stages.pretext.uses: unknown stage 'pretext/jigsawp'; did you mean 'pretext/jigsawpp'?",
        "10:5: stages.random.backbone: no backbone is called 'vgg17'; did you mean vgg19",
        "13:29: stages.other.backbone.widht: unknown option; did you mean 'width'?",
        "16:29: stages.third.backbone.width: should be less than or equal to 4 (found 9)",
        "17:5: stages.third.data: no image set called 'drawing'; did you mean 'drawings'?",
        "20:5: stages.features.model: no stage 'randon'; did you mean 'random'?",
        "21:5: stages.features.pool: should be greater than or equal to 1 (found 0)",
        "24:5: stages.clusters.features: needs Features, but 'random' (pretext/random) makes Model; these stages make Features",
        "25:5: stages.clusters.data: cluster reads no images",
        "26:5: stages.clusters.k: should be a valid integer",
        "27:5: stages.clusters.iteration: unknown option; did you mean 'iterations'?",
        "28:5: stages.clusters.init: should be 'k-means++' or 'random' (found 'kmeans')",
        "29:3: stages.x: dependency cycle: x -> y -> x",
        "32:5: features: key repeated (first on line 31)",
        "33:17: stages.x.steps.1: should be 'center', 'standardize', 'l2', 'pca', 'whiten' or 'project' (found 'pcaa')",
        "37:3: stages.z: must be a mapping with `uses`",
    ]
    found = faults(MANY_FAULTS)
    assert [
        line for line, wanted in zip(found, expected, strict=True) if not line.startswith(wanted)
    ] == []


@pytest.mark.parametrize(
    ("stages", "at", "words"),
    [
        ("a: {uses: cluster}", "a:", "stages.a.features: is required: what is clustered"),
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
            "a:",
            "stages.a: reads images, but `data:` is missing",
        ),
        (
            f"{MODEL}, a: {{uses: extract/network, model: model, layer: conv9}}",
            "layer",
            "stages.a.layer: no layer of conv4",
        ),
        (
            f"{MODEL}, a: {{uses: evaluate/knn, model: model, k: 33}}",
            "k: 33",
            "stages.a.k: 33 neighbors of 32 training images",
        ),
        (
            f"{MODEL}, f: {{uses: extract/network, model: model}}, c: {{uses: cluster, features: f, k: 33}}",
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
            "stages.a: images of 64 px have cells of 21 px: no room",
        ),
        (
            "a: {uses: prepare, features: b}, b: {uses: prepare, features: a}",
            "a:",
            "stages.a: dependency cycle: a -> b -> a",
        ),
        ("a: {uses: my_stage.py:Mine}", "uses", "stages.a.uses: there is no file "),
        ("", "stages", "stages: must be a mapping of at least one stage"),
    ],
)
def test_a_faulty_stage_is_told_with_its_place(
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
            "2:2: stages.model: reads images, but `data:` is missing; add it here or for the whole file",
        ),
        ("data: drawing", "1:1: data: no image set called 'drawing'; did you mean 'drawings'?"),
        ("data: ./none", "1:1: data: folder "),
        ("data: [drawings]", "1:1: data: should be"),
        ("name: 5", "1:1: name: should be a valid string (found 5)"),
        ("name: a/b", "1:1: name: may have letters, digits, '_', '-' and '.' only"),
        ("seed: 1.0", "1:1: seed: should be a valid integer (found 1.0)"),
        ("seed: 5000000000", "1:1: seed: should be less than 4294967296"),
    ],
)
def test_a_faulty_head_is_told_with_its_place(
    faults: Callable[..., list[str]], head: str, expected: str
) -> None:
    data = "" if "data" in head or not head else ", data: drawings"
    found = faults(f"{head}\nstages:\n {MODEL[:-1]}{data}}}\n")
    assert len(found) == 1
    assert found[0].startswith(expected.replace("2:2", "3:2"))


def test_an_image_set_that_several_stages_cannot_read_is_told_once(
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
        "--set stages.new={uses: clusters}: stages.new.uses: unknown stage 'clusters'; did you mean 'cluster'?",
    ]


@pytest.mark.parametrize("text", ["[1, 2]", "just words", "5"])
def test_a_file_that_is_no_mapping_is_refused(load: Callable[..., Plan], text: str) -> None:
    with pytest.raises(UsageError, match=r":1:1: a pipeline file must be a mapping with `stages`"):
        load(text)


# What a key depends on.


def keys(plan: Plan) -> dict[str, str]:
    return {one.label: one.key for one in plan}


def changed(before: Plan, after: Plan) -> set[str]:
    """The stages, image sets aside, whose keys differ."""
    old, new = keys(before), keys(after)
    return {
        name
        for name in old.keys() | new.keys()
        if old.get(name) != new.get(name) and not name.startswith("drawings")
    }


AFTER_CLUSTERS = {"clusters", "labels", "target", "linear", "knn"}
ALL = {"pretext", "features", "prepared", *AFTER_CLUSTERS}


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (["stages.clusters.k=6"], AFTER_CLUSTERS),
        (["stages.clusters.seed=1"], AFTER_CLUSTERS),
        (["stages.knn.temperature=0.1"], {"knn"}),
        (["seed=1"], ALL),  # through their inputs, also those that draw nothing themselves
        (
            [
                "stages.prepared.features=features",
                "stages.clusters.features=features",
                "stages.labels.features=features",
            ],
            AFTER_CLUSTERS,
        ),
        (["data={card: drawings, limit: 65}"], ALL),
        (["stages.linear.data={card: drawings, limit: 65}"], {"linear"}),
        (["stages.pretext.backbone.width=0.25"], ALL),
        (["stages.knn.seed=7"], set()),  # it draws nothing
        (
            ["stages.clusters.n_init=1", "stages.knn.k=5", "stages.clusters.init=k-means++"],
            set(),
        ),  # written-out defaults
        (["stages.target.warmup_epochs=0"], set()),  # a whole number where a fraction may stand
        (["data={limit: 64, card: drawings, size: 64}"], set()),
        (["name=other"], set()),
    ],
)
def test_a_key_depends_on_options_seed_inputs_and_images_and_on_nothing_else(
    load: Callable[..., Plan], sets: list[str], expected: set[str]
) -> None:
    assert changed(load(TINY), load(TINY, sets=sets)) == expected


def test_a_key_does_not_depend_on_order_comments_names_or_places(
    load: Callable[..., Plan], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    before = load(TINY)
    value = parse(TINY, "file.yaml", Faults()).plain()
    stages = {name: dict(reversed(one.items())) for name, one in reversed(value["stages"].items())}
    text = "# a comment\n" + json.dumps({**dict(reversed(value.items())), "stages": stages})
    (tmp_path / "elsewhere").mkdir()
    after = load_plan(pipeline(text, "elsewhere/other.yaml"), Store(tmp_path / "another store"))
    assert keys(after) == keys(before)
    renamed = load(TINY.replace("prepared", "whitened"))
    assert {one.key for one in renamed} == {one.key for one in before}


def test_a_key_depends_on_the_version_of_the_stage(
    load: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(TINY)
    kind = type(before.find("clusters")[0].stage)
    old = keys(before)
    monkeypatch.setattr(kind, "version", kind.version + 1)
    new = keys(load(TINY))
    assert {name for name in old if old[name] != new[name]} == AFTER_CLUSTERS


def test_a_key_depends_on_the_bytes_of_the_images_and_not_on_their_folder(
    load: Callable[..., Plan], tmp_path: Path
) -> None:
    def key(folder: str, color: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), color).save(tmp_path / folder / "a.png")
        return load(f"data: ./{folder}\nstages: {{{MODEL}}}\n").find("model")[0].key

    first = key("one", "red")
    assert key("two", "red") == first
    assert key("two", "blue") != first
    assert key("one", "red") == first


# The JSON Schema for editors.


@pytest.mark.parametrize(
    "path", sorted(shipped_folder("pipelines").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_file_is_valid_by_the_schema_and_by_the_reader(
    path: Path, tmp_path: Path
) -> None:
    value = parse(path.read_text(encoding="utf-8"), str(path), Faults()).plain()
    jsonschema.Draft202012Validator(pipeline_schema()).validate(value)
    assert list(load_plan(path, Store(tmp_path), smoke=True))  # its image sets need not be there


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (TINY, True),
        ("stages: {a: {uses: cluster, features: b, k: '${k}'}}", True),
        (
            "seed: ${s}\nstages: {a: {uses: pretext/random, backbone: {name: conv4, width: '${w}'}}}",
            True,
        ),
        ("stages: {a: {uses: pretext/random, data: {card: x, size: '${s}'}}}", True),
        ("stages: {a: {uses: prepare, features: b, steps: ['${s}', pca]}}", True),
        (
            "stages: {a: {uses: 'pretext/${m}', anything: 3}, b: {uses: mine.py:Mine, anything: 3}}",
            True,
        ),
        (
            "stages: {a: {uses: pretext/pretrained, backbone: 'timm:resnet18', weights: w.pth}}",
            True,
        ),
        ("stages: {a: {uses: pretext/pretrained, backbone: {name: 'timm:resnet18'}}}", True),
        ("stages: {a: {uses: pretext/pretrained, backbone: conv4, weights: {path: w.pth}}}", False),
        ("stages: {a: {uses: pretext/pretrained, weights: w.pth}}", False),
        ("stages: {a: {uses: cluster, features: b, kk: 3}}", False),
        ("stages: {a: {uses: cluster, features: b, k: 1}}", False),
        ("stages: {a: {uses: cluster, k: 10}}", False),
        ("stages: {a: {uses: clusters, features: b}}", False),
        ("stages: {a: {uses: prepare, features: b, steps: [pcaa]}}", False),
        ("stages: {a: {uses: pretext/random, backbone: conv5}}", False),
        ("stages: {a: {uses: pretext/random, backbone: {name: conv4, widht: 3}}}", False),
        ("stages: {a: {uses: cluster, features: b, data: drawings}}", False),
        ("data: {crad: x}\nstages: {a: {uses: pretext/random}}", False),
        ("sead: 3\nstages: {a: {uses: pretext/random}}", False),
        ("expected: {a: [1, 2.5]}\nstages: {a: {uses: evaluate/knn, model: b}}", True),
        ("expected: {a: [1]}\nstages: {a: {uses: evaluate/knn, model: b}}", False),
        ("expected: {a: [1, 200]}\nstages: {a: {uses: evaluate/knn, model: b}}", False),
        ("stages: {}", False),
        ("name: x", False),
    ],
)
def test_the_schema_takes_and_refuses_what_the_reader_does(
    validator: jsonschema.Draft202012Validator, text: str, valid: bool
) -> None:
    assert validator.is_valid(parse(text, "file.yaml", Faults()).plain()) is valid


# Plug-ins: stages in a file beside the pipeline, or in an installed package.

MINE = """
from transfer.artifacts import Model
from transfer.errors import InvalidOption
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.stage.base import ImageInput, Stage
from transfer.stage.options import option
from transfer.transforms.normalize import Normalization


class Mine(Stage):
    \"\"\"A network of any width.\"\"\"

    produces = Model
    images = {"images": ImageInput("unlabeled")}
    width: float = option(0.5, "of conv4", gt=0)

    def validate_plan(self, planned):
        if self.width > 2:
            raise InvalidOption("width", "too wide for me")
        if self.width == 2:
            raise KeyError("a mistake")

    def run(self, context):
        spec = backbone({"name": "conv4", "width": self.width})
        network = build_network(spec, context.seed_for("weights"))
        facts = dict(size=64, normalization=Normalization(), made_by={}, history=[])
        Model.write(context.folder, network, **facts)
        context.figures["width"] = self.width


class Other(Mine):
    pass


number = 5
"""
USES_MINE = """
data: {card: drawings, limit: 32}
stages:
  mine: {uses: "my_stage.py:Mine", width: 1.0}
  features: {uses: extract/network, model: mine, layer: conv4, pool: 1}
"""


def test_a_stage_in_a_file_beside_the_pipeline_runs_like_any_other(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    pipeline: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pipeline(MINE, "my_stage.py")
    file = pipeline(USES_MINE)
    assert "mine: done" in transfer("run", file, "--threads", 1, cwd=tmp_path.parent).stdout
    again = transfer("run", file, "--set", "stages.mine.width=0.5", "-n").stdout
    assert re.search(r"mine +my_stage.Mine +to run +width 1.0 → 0.5", again)
    assert (tmp_path / ".transfer" / "my_stage.Mine").is_dir()


@pytest.mark.parametrize(
    ("code", "uses", "options", "words"),
    [
        (
            MINE,
            "my_stage.py:Mine",
            "widht: 1",
            "stages.mine.widht: unknown option; did you mean 'width'?",
        ),
        (
            MINE,
            "my_stage.py:Mine",
            "width: 0",
            "stages.mine.width: should be greater than 0 (found 0)",
        ),
        (MINE, "my_stage.py:Mine", "width: 3", "stages.mine.width: too wide for me"),
        (
            MINE,
            "my_stage.py:Mine",
            "width: 2",
            "stages.mine: the check of my_stage.Mine fails: KeyError: 'a mistake'",
        ),
        (MINE, "my_stage.py:Mien", "", "my_stage.py has no 'Mien'; did you mean 'Mine'?"),
        (MINE, "my_stage.py:", "", "my_stage.py has no ''; choose from: Mine, Other"),
        (
            MINE,
            "my_stage.py:number",
            "",
            "my_stage.py:number is not a Stage",
        ),
        (MINE, "my_stage.py:Stage", "", "is not a Stage"),
        (MINE, "your_stage.py:Mine", "", "there is no file "),
        (
            "import nothing_of_that_name",
            "my_stage.py:Mine",
            "",
            "my_stage.py fails on import: ModuleNotFoundError: No module",
        ),
        ("def broken(:", "my_stage.py:Mine", "", "my_stage.py fails on import: SyntaxError: "),
        (
            "raise SystemExit(3)",
            "my_stage.py:Mine",
            "",
            "my_stage.py fails on import: SystemExit: 3",
        ),
        (
            MINE.replace("produces = Model", ""),
            "my_stage.py:Mine",
            "",
            "`produces`",
        ),
        (
            MINE.replace("produces = Model", "produces = 'Model'"),
            "my_stage.py:Mine",
            "",
            "produces 'Model'",
        ),
        (
            MINE.replace("def run(", "def walk("),
            "my_stage.py:Mine",
            "",
            "my_stage.py:Mine has no `run(self, ",
        ),
    ],
)
def test_faulty_plugin_is_reported(
    faults: Callable[..., list[str]],
    pipeline: Callable[..., Path],
    code: str,
    uses: str,
    options: str,
    words: str,
) -> None:
    pipeline(code, "my_stage.py")
    found = faults(f"data: drawings\nstages:\n  mine:\n    uses: '{uses}'\n    {options}\n")
    assert len(found) == 1
    assert re.match(r"\d+:\d+: stages\.mine", found[0])
    assert words in found[0]


def test_two_stages_of_one_file_share_its_module(
    load: Callable[..., Plan], pipeline: Callable[..., Path]
) -> None:
    pipeline(MINE, "my_stage.py")
    plan = load(
        "data: drawings\nstages: {a: {uses: 'my_stage.py:Mine'}, b: {uses: 'my_stage.py:Other'}}"
    )
    first, second = (type(plan.find(name)[0].stage) for name in "ab")
    assert issubclass(second, first)


@pytest.fixture
def distribution(tmp_path: Path) -> dict[str, str]:
    """An environment in which a third party's package offers one stage that works and one that does not."""
    folder = tmp_path / "site"
    (folder / "shuffling-1.0.dist-info").mkdir(parents=True)
    (folder / "shuffling.py").write_text(MINE, encoding="utf-8")
    (folder / "shuffling-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shuffling\nVersion: 1.0\n"
    )
    (folder / "shuffling-1.0.dist-info" / "entry_points.txt").write_text(
        "[transfer.stages]\npretext/shuffle = shuffling:Mine\npretext/broken = nothing_of_that_name:Mine\n"
    )
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_stage_of_an_installed_package_is_found_by_its_entry_point(
    pipeline: Callable[..., Path], distribution: dict[str, str]
) -> None:
    def call(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "transfer", *map(str, words)]
        return subprocess.run(
            command, env=distribution, text=True, capture_output=True, check=False
        )

    file = pipeline("data: drawings\nstages: {a: {uses: pretext/shuffle}}")
    assert re.search(r"a +to run", call("status", file).stdout)
    listed = call("list", "pretexts").stdout
    assert "pretext/shuffle" in listed
    assert re.search(
        "pretext/broken +cannot be used: stage 'pretext/broken' of shuffling fails on import",
        listed,
    )
    assert "pretext/jigsawpp" in listed
    assert call("list", "--schema").returncode == 0
    told = call("status", pipeline("data: drawings\nstages: {a: {uses: pretext/broken}}"))
    assert told.returncode == 2
    assert (
        "2:14: stages.a.uses: stage 'pretext/broken' of shuffling fails on import: ModuleNotFoundError"
        in told.stderr
    )


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
    ("option", "told"),
    [
        (
            "shrinkage: oas",
            "5:35: stages.x.shrinkage: should be a valid number or 'ledoit-wolf' (found 'oas')",
        ),
        ("shrinkage: {a: 1}", "5:35: stages.x.shrinkage: should be a valid number"),
        (
            "shrinkage: 3",
            "5:35: stages.x.shrinkage: should be less than or equal to 1 or 'ledoit-wolf' (found 3)",
        ),
    ],
)
def test_an_option_of_several_types_has_one_fault(
    faults: Callable[..., list[str]], option: str, told: str
) -> None:
    network = (
        "  net: {uses: pretext/random, backbone: conv4}\n  f: {uses: extract/network, model: net}\n"
    )
    text = f"data: {{card: drawings, limit: 64}}\nstages:\n{network}  x: {{uses: prepare, features: f, {option}}}"
    (found,) = faults(text)
    assert found.startswith(told)


# Inputs that are lists.

SEVERAL = """
data: {card: drawings, limit: 64, size: 32}
stages:
  net: {uses: pretext/random, backbone: conv4}
  one: {uses: extract/network, model: net, layer: conv2}
  two: {uses: extract/network, model: net, layer: conv3}
  clusters: {uses: cluster, features: one, k: 4}
  x: {USES}
"""


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        (
            "uses: prepare, features: [one, tow], steps: []",
            ["8:38: stages.x.features.1: no stage 'tow'; did you mean 'two'?"],
        ),
        (
            "uses: target/regression, features: [one, clusters], backbone: conv4",
            [
                "8:48: stages.x.features.1: needs Features, but 'clusters' (cluster) makes Clusters; these stages make Features: "
            ],
        ),
        (
            "uses: prepare, features: []",
            ["8:22: stages.x.features: must be the name of a stage, or a list of such names"],
        ),
        ("uses: prepare, features: [one, one]", ["8:22: stages.x.features: names 'one' twice"]),
        (
            "uses: cluster, features: [one, two], k: 4",
            ["8:22: stages.x.features: must be the name of one stage"],
        ),
        (
            "uses: target/regression, features: [x, one]",
            ["8:43: stages.x.features.0: needs Features, but 'x'"],
        ),
        (
            "uses: target/pseudo_label, labels: one",
            ["8:34: stages.x.labels: needs PseudoLabels, but 'one'"],
        ),
    ],
)
def test_what_a_list_of_stages_may_not_name_is_told_at_its_place(
    faults: Callable[..., list[str]], uses: str, told: list[str]
) -> None:
    found = faults(SEVERAL.replace("USES", uses))
    for line in told:
        assert any(line in one for one in found), found


def test_a_list_of_stages_is_read_in_its_order(
    pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    text = "uses: prepare, features: [one, two], steps: []"
    plan = load_plan(pipeline(SEVERAL.replace("USES", text)), Store(tmp_path))
    (found,) = plan.find("x")
    assert [one.name for one in found.inputs.values()] == ["one", "two"]
    other = load_plan(
        pipeline(SEVERAL.replace("USES", text.replace("one, two", "two, one"))), Store(tmp_path)
    )
    assert other.find("x")[0].key != found.key


OTHER_SETS = """
data: {folder: left, size: 32}
stages:
  net: {uses: pretext/random, backbone: conv4}
  one: {uses: extract/network, model: net, layer: conv2}
  two: {uses: extract/network, model: net, layer: conv2, data: {folder: right, size: 32}}
  clusters: {uses: cluster, features: one, k: 4}
  labels: {uses: assign, features: one, clusters: clusters}
  others: {uses: assign, features: two, clusters: clusters}
  x: {USES}
"""


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        (
            "uses: target/pseudo_label, labels: labels, data: {folder: right, size: 32}",
            "10:34: stages.x.labels: 'labels'",
        ),
        ("uses: target/multi_label, labels: [labels, others]", "10:33: stages.x.labels: 'others'"),
        ("uses: target/regression, features: [one, two]", "10:32: stages.x.features: 'two'"),
        (
            "uses: target/similarity, features: two, data: {folder: left, size: 32}",
            "10:32: stages.x.features: 'two'",
        ),
        (
            "uses: pretext/exemplar, labels: labels, data: {folder: right, size: 32}",
            "10:31: stages.x.labels: 'labels'",
        ),
        (
            "uses: prepare, features: [one, two], steps: []",
            "10:22: stages.x.features: ",
        ),
        ("uses: prepare, features: two, like: prepared", ""),  # nothing is joined
        (
            "uses: target/pseudo_label, labels: labels, data: {folder: left, size: 24}",
            "",
        ),  # the same, packed otherwise
        ("uses: target/pseudo_label, labels: labels, data: {folder: copy, size: 32}", ""),
    ],
)
def test_images_of_another_set_are_no_others_by_the_same_names(
    faults: Callable[..., list[str]],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    uses: str,
    told: str,
) -> None:
    for folder, color in (("left", 1), ("right", 2), ("copy", 1)):
        (tmp_path / folder).mkdir()
        for one in range(6):
            Image.new("RGB", (32, 32), (color, one, 0)).save(tmp_path / folder / f"{one}.png")
    text = OTHER_SETS.replace("USES", uses)
    if told:
        (found,) = faults(text)
        assert told in found
        joined_elsewhere = "uses: prepare" in uses  # a fault that the stage itself reports
        assert joined_elsewhere or "the same id names another image" in found
    else:
        text += "\n  prepared: {uses: prepare, features: one}\n"
        assert load_plan(pipeline(text), Store(tmp_path / "store")).find("x")
