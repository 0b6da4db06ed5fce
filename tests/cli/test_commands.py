"""Every command as a user meets it: output, exit code, files, imports."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import TINY, Said, Tiny
from transfer.datasets.cards import card_files
from transfer.datasets.drawings import render
from transfer.models import backbone_names
from transfer.models.timm_backbone import SMALL
from transfer.stage.registry import stage_names
from transfer.utils.paths import shipped_folder
from transfer.version import __version__

COMMANDS = [
    "run",
    "status",
    "list",
    "show",
    "compare",
    "export",
    "report",
    "verify",
    "gc",
    "graph",
    "doctor",
    "init",
]
HEAVY = (
    "torch",
    "torchvision",
    "faiss",
    "h5py",
    "matplotlib",
    "numpy",
    "scipy",
    "sklearn",
    "PIL",
    "safetensors",
)
STAGES = ["pretext", "features", "prepared", "clusters", "labels", "target", "linear", "knn"]
PACKS = ["drawings/unlabeled", "drawings/train", "drawings/test"]


def lines_of(text: str) -> dict[str, str]:
    """The lines about a stage, by its name."""
    lines = [line for line in text.splitlines() if line.startswith(" ")]
    return {line.strip(" *").split()[0]: line for line in lines}


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# The command line itself.


def test_help_names_every_command_and_each_has_help(invoke: Callable[..., Said]) -> None:
    said = invoke("--help").out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\S", said, re.MULTILINE)
        assert "Usage:" in invoke(command, "--help").out
    assert __version__ in invoke("--version").out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["statsu", "x.yaml"], "No such command 'statsu'"),
        (["status"], "Missing argument 'FILE'"),
        (["run", "x.yaml", "--dryrun"], "No such option"),
        (["run", "x.yaml", "-j", "0"], "Invalid value for '-j'"),
        (["run", "none.yaml"], "none.yaml: cannot be read (No such file or directory)"),
        (["status", "."], ".: cannot be read (Is a directory)"),
        (["list", "stagse"], "is not one of 'stages', 'pretexts', 'backbones', 'data'"),
        (["list", "stages", "clusters"], "unknown stage 'clusters'; did you mean 'cluster'?"),
        (
            ["list", "pretexts", "jigsawp"],
            "unknown stage 'pretext/jigsawp'; did you mean 'pretext/jigsawpp'?",
        ),
        (
            ["list", "backbones", "efficientnet_lite0"],
            "without its prefix: write timm:efficientnet_lite0",
        ),
        (["list", "backbones", "vgg17"], "no backbone is called 'vgg17'; did you mean vgg19"),
        (["list", "data", "drawing"], "no image set called 'drawing'; did you mean 'drawings'?"),
    ],
)
def test_a_faulty_command_ends_with_2_and_says_what_was_meant(
    invoke: Callable[..., Said], words: list[str], hint: str
) -> None:
    said = invoke(*words, check=2)
    assert said.out == ""
    assert hint in said.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["list"], 0),
        (["list", "stages", "pretext/jigsawpp"], 0),
        (["list", "backbones", "vgg16"], 0),
        (["list", "data", "drawings"], 0),
        (["list", "--schema"], 0),
        (["status", "FILE", "--store", "STORE"], 0),
        (["show", "FILE", "clusters", "--store", "STORE"], 0),
        (["graph", "FILE"], 0),
        (["verify", "FILE", "--store", "STORE"], 0),
        (["gc", "--store", "STORE"], 0),
        (["run", "FILE", "--store", "STORE"], 0),
        (
            [
                "run",
                "FILE",
                "--store",
                "STORE",
                "--set",
                "stages.clusters.k=3",
                "-n",
                "--exit-code",
            ],
            3,
        ),
        (["run", "FILE", "--set", "seed=x"], 2),
    ],
)
def test_commands_that_make_nothing_import_nothing_heavy(
    finished: Tiny, tmp_path: Path, words: list[str], code: int
) -> None:
    script = (
        "import sys\n"
        "from transfer.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    places = {"FILE": str(finished.file), "STORE": str(finished.store)}
    command = [sys.executable, "-c", script, *(places.get(word, word) for word in words)]
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == code
    assert set(HEAVY) & set(done.stderr.splitlines()[-1].split()) == set()


def test_a_reader_that_goes_away_is_no_error_to_show() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "transfer", "list", "--schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.wait(timeout=30)


# list


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("stages", stage_names()),
        ("pretexts", [name for name in stage_names() if name.startswith("pretext/")]),
        ("backbones", [*backbone_names(), *SMALL]),
        ("data", sorted(card_files())),
    ],
)
def test_list_shows_every_name_and_with_a_name_every_option(
    invoke: Callable[..., Said], what: str, names: list[str]
) -> None:
    listed = [line for line in invoke("list", what).out.splitlines() if not line.startswith(" ")]
    assert sorted(line.split()[0] for line in listed) == sorted(names)
    assert [one["name"] for one in json.loads(invoke("list", what, "--json").out)] == [
        line.split()[0] for line in listed
    ]
    for name in names:
        text, facts = (
            invoke("list", what, name).out,
            json.loads(invoke("list", what, name, "--json").out),
        )
        assert text.startswith(name)
        for option in facts["options"]:
            assert option["help"], f"{name}: {option['name']} has no help"
            assert option["type"], f"{name}: {option['name']} has no type"
            assert re.search(
                rf"^  {option['name']} +{re.escape(option['help'][:40])}", text, re.MULTILINE
            )


def test_list_gives_type_bounds_and_default_of_an_option(invoke: Callable[..., Said]) -> None:
    said = invoke("list", "stages", "cluster").out
    assert re.search(r"k +number of clusters\n +\(whole number, >= 2, default 2000\)", said)
    assert "(stage that makes Features, required)" in said
    assert "(k-means++ | random, default k-means++)" in said
    assert (
        invoke("list", "pretexts", "jigsawpp").out
        == invoke("list", "stages", "pretext/jigsawpp").out
    )


def test_list_of_pretexts_says_the_task_its_paper_and_what_it_needs(
    invoke: Callable[..., Said],
) -> None:
    said = invoke("list", "pretexts").out
    task = r"^pretext/jigsawpp +Which of 701 permutations .*\n +Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018$"
    assert re.search(task, said, re.MULTILINE)
    found = {one["name"]: one for one in json.loads(invoke("list", "pretexts", "--json").out)}
    assert (
        found["pretext/jigsawpp"]["paper"] == "Noroozi, Vinjimoor, Favaro & Pirsiavash, CVPR 2018"
    )
    assert found["pretext/supervised"]["needs"] == "labels"
    assert f"needs {found['pretext/pretrained']['needs']}" in said
    assert all(one["line"] and one["line"] in said for one in found.values())


def test_list_knows_the_cards_beside_the_user(invoke: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    card = "name: mine\ntitle: my own pictures\nreader: folder\nlayout: flat\npath: pictures\n"
    (tmp_path / "data" / "mine.yaml").write_text(card, encoding="utf-8")
    assert "my own pictures" in invoke("list", "data").out


# status and reasons


def test_status_of_a_finished_pipeline_is_up_to_date(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    said = invoke("status", finished.file, "--store", finished.store, "--exit-code").out
    assert said.splitlines()[-1] == "up to date"
    assert sorted(lines_of(said)) == sorted([*STAGES, *PACKS])
    assert all("cached" in line for line in lines_of(said).values())


@pytest.mark.parametrize(
    ("sets", "reasons"),
    [
        (
            ["stages.clusters.k=4"],
            {
                "clusters": "k 5 → 4",
                "labels": "input clusters changed",
                "knn": "input model changed",
            },
        ),
        (["stages.clusters.seed=3"], {"clusters": "seed 0 → 3"}),
        (
            ["stages.pretext.backbone.width=0.25"],
            {"pretext": "backbone.width 0.5 → 0.25", "features": "input model changed"},
        ),
        (
            ["stages.prepared.components=null"],
            {"prepared": "components 8 → none", "clusters": "input features changed"},
        ),
        (
            ["stages.clusters.features=features", "stages.labels.features=features"],
            {
                "clusters": "input features changed",
                "labels": "input features changed, input clusters changed",
            },
        ),
        (["stages.linear.data={card: drawings, limit: 65}"], {"linear": "train images changed"}),
        (["stages.knn.uses=evaluate/linear", "stages.knn.k=5"], {}),
        (["stages.more={uses: evaluate/knn, model: pretext}"], {"more": "not made yet"}),
        (
            [
                "stages.knn.k=3",
                "stages.knn.layer=conv1",
                "stages.knn.pool=2",
                "stages.knn.temperature=1",
            ],
            {"knn": "k 5 → 3, layer none → conv1, pool 1 → 2 and 1 more"},
        ),
    ],
)
def test_status_says_why_a_stage_would_run(
    invoke: Callable[..., Said], finished: Tiny, sets: list[str], reasons: dict[str, str]
) -> None:
    words = ["status", finished.file, "--store", finished.store, *(f"--set={one}" for one in sets)]
    if not reasons:
        assert "unknown option" in invoke(*words, check=2).err
        return
    said = invoke(*words, "--exit-code", check=3).out
    assert {
        name: lines_of(said)[name].partition("to run")[2].strip() for name in reasons
    } == reasons
    pending = sum(" to run " in line for line in lines_of(said).values())
    assert re.fullmatch(rf"{pending} of \d+ stages pending", said.splitlines()[-1])
    assert invoke(*words).code == 0


def test_status_tells_another_method_and_a_result_that_is_gone(
    invoke: Callable[..., Said], tiny: Tiny
) -> None:
    tiny.file.write_text(
        TINY.replace(
            "{uses: evaluate/knn, model: target, k: 5}", "{uses: evaluate/linear, model: target}"
        )
    )
    shutil.rmtree(tiny.store / "prepare")
    said = lines_of(invoke("status", tiny.file, "--store", tiny.store).out)
    assert "evaluate/knn → evaluate/linear" in said["knn"]
    assert "its result is missing" in said["prepared"]
    assert "cached   unless an input changes" in said["clusters"]


def test_smoke_results_are_apart_and_a_missing_image_set_has_a_stand_in(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = ["status", finished.file, "--store", finished.store, "--smoke"]
    said = invoke(*words).out
    assert str(finished.store / "smoke") in said
    assert "11 of 11 stages pending" in said
    told = invoke(*words, "--set", "data=./nowhere").out
    assert "drawings replace " in told
    assert "nowhere, which is missing" in told


def test_the_store_is_beside_the_pipelines_folder_unless_a_variable_or_an_option_says_otherwise(
    invoke: Callable[..., Said],
    pipeline: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "pipelines").mkdir()
    assert (
        f"({tmp_path / '.transfer'})" in invoke("status", pipeline(TINY, "pipelines/tiny.yaml")).out
    )
    assert f"({tmp_path / '.transfer'})" in invoke("status", pipeline(TINY)).out
    monkeypatch.setenv("TRANSFER_STORE", str(tmp_path / "variable"))
    assert f"({tmp_path / 'variable'})" in invoke("status", pipeline(TINY)).out
    assert (
        f"({tmp_path / 'option'})"
        in invoke("status", pipeline(TINY), "--store", tmp_path / "option").out
    )


# show and graph


def test_show_gives_the_figures_of_every_stage(invoke: Callable[..., Said], finished: Tiny) -> None:
    said = invoke("show", finished.file, "--store", finished.store).out
    assert [line.split()[0] for line in said.splitlines() if line.split()[0] in STAGES] == STAGES
    assert re.search(r"^clusters .* k 5,", said, re.MULTILINE)
    unmade = invoke(
        "show", finished.file, "--store", finished.store, "--set", "stages.clusters.k=4"
    ).out
    assert re.search(r"^clusters +not made yet$", unmade, re.MULTILINE)


@pytest.mark.parametrize("stage", [*STAGES, *PACKS])
def test_show_gives_all_that_is_known_of_a_stage(
    invoke: Callable[..., Said], finished: Tiny, stage: str
) -> None:
    words = ["show", finished.file, stage, "--store", finished.store]
    said, facts = invoke(*words).out, json.loads(invoke(*words, "--json").out)
    assert said.startswith(f"{stage}  ({facts['uses']}, key {facts['key']})")
    assert Path(facts["folder"]).is_dir()
    for name, file in facts["files"].items():
        assert f"{name}  " in said
        assert (Path(facts["folder"]) / name).stat().st_size == file["size"]
    assert "figures" in said
    assert re.search(r"^on cpu.*, 1 thread, ", said, re.MULTILINE)


def test_show_of_a_stage_that_is_not_made_or_not_there(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = ["show", finished.file, "--store", finished.store]
    assert "not made yet" in invoke(*words, "clusters", "--set", "stages.clusters.k=4").out
    assert "no stage 'cluster'; did you mean 'clusters'?" in invoke(*words, "cluster", check=2).err
    assert "--batch needs a stage" in invoke(*words, "--batch", "x.png", check=2).err
    assert (
        "knn (evaluate/knn): has no preview; choose from: pretext, target"
        in invoke(*words, "knn", "--batch", "x.png", check=2).err
    )


def test_show_writes_a_picture_of_what_a_network_sees(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    invoke("show", finished.file, "pretext", "--store", finished.store, "--batch", "batch.png")
    assert (tmp_path / "batch.png").read_bytes().startswith(b"\x89PNG")


def test_graph_shows_what_each_stage_reads(invoke: Callable[..., Said], finished: Tiny) -> None:
    said = invoke("graph", finished.file).out
    assert re.search(r"^ +labels +PseudoLabels  <- prepared, clusters$", said, re.MULTILINE)
    order = [line.split()[0] for line in said.splitlines()]
    for one in json.loads(invoke("graph", finished.file, "--json").out):
        assert all(
            order.index(other) < order.index(one["stage"]) for other in one["reads"].values()
        )


def test_graph_as_mermaid_has_a_node_a_stage_and_an_arrow_an_input(
    invoke: Callable[..., Said], pipeline: Callable[..., Path]
) -> None:
    file = pipeline(
        "matrix: {k: [3, 4]}\n" + TINY.replace("k: 5, iterations", "k: '${k}', iterations")
    )
    found = json.loads(invoke("graph", file, "--json").out)
    lines = invoke("graph", file, "--mermaid").out.splitlines()
    assert lines[0] == "flowchart TD"
    nodes = [
        match[1] for line in lines if (match := re.fullmatch(r'  s\d+\["(.*)<br/>.*"\]', line))
    ]
    assert nodes == [one["stage"] for one in found]
    assert sum("-->" in line for line in lines) == sum(len(one["reads"]) for one in found)


# Everything that reads speaks JSON.


@pytest.mark.parametrize(
    "words",
    [
        ["status", "FILE"],
        ["show", "FILE"],
        ["show", "FILE", "knn"],
        ["graph", "FILE"],
        ["verify", "FILE"],
        ["gc"],
        ["list"],
        ["list", "backbones"],
        ["list", "data"],
        ["list", "data", "folder"],
    ],
)
def test_every_reading_command_prints_json(
    invoke: Callable[..., Said], finished: Tiny, words: list[str]
) -> None:
    words = [str(finished.file) if word == "FILE" else word for word in words]
    store = [] if words[0] in ("list",) else ["--store", str(finished.store)]
    said = invoke(*words, *store, "--json")
    assert json.loads(said.out)
    assert said.err == ""


def test_doctor_says_what_is_installed_and_ends_with_1_where_something_is_wrong(
    transfer: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = transfer("doctor", "--store", tmp_path / "store", "--json", check=None)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["problems"])
    assert {"torch", "h5py", "numpy"} <= found["versions"].keys()
    assert found["faiss"].startswith("faiss-")
    assert found["precision"] in ("float32", "bfloat16")
    assert found["free bytes"] > 0
    assert found["store"] == str(tmp_path / "store")


# init


def test_init_puts_the_shipped_files_there_and_leaves_alone_what_is(
    invoke: Callable[..., Said], tmp_path: Path
) -> None:
    first = invoke("init", "new").out.splitlines()
    copies = sorted((tmp_path / "new" / "pipelines").glob("*.yaml"))
    assert [copy.read_bytes() for copy in copies] == [
        s.read_bytes() for s in sorted(shipped_folder("pipelines").glob("*.yaml"))
    ]
    copies[0].write_text(TINY, encoding="utf-8")
    second = invoke("init", "new").out
    assert second.count(" exists; not changed") == len(copies)
    assert copies[0].read_text(encoding="utf-8") == TINY
    offered = shlex.split(first[-1].removeprefix("next: transfer "))
    assert invoke(*offered, "-n").code == 0
    assert "is a file; name a folder" in invoke("init", copies[0], check=2).err


# verify


def test_verify_reads_everything_and_ends_with_4_on_damage_and_its_advice_mends_it(
    invoke: Callable[..., Said],
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
) -> None:
    words = ["verify", tiny.file, "--store", tiny.store]
    assert invoke(*words).out.startswith("11 artifacts intact")
    flip(next(tiny.store.glob("cluster/*/clusters.h5")))
    flip(next(tiny.store.glob("extract/network/*/manifest.json")))
    next(tiny.store.glob("evaluate/knn/*/scores.json")).unlink()
    said = invoke(*words, check=4).out
    assert "8 artifacts intact" in said
    assert re.search(r"damaged: clusters: .*clusters.h5 is not what was written", said)
    assert re.search(r"damaged: features: .*manifest.json", said)
    assert re.search(r"damaged: knn: .*scores.json is missing", said)
    found = json.loads(invoke(*words, "--json", check=4).out)
    assert sorted(one["stage"] for one in found["damaged"]) == ["clusters", "features", "knn"]
    assert "damaged" in lines_of(invoke("status", tiny.file, "--store", tiny.store).out)["knn"]
    assert re.search(
        r"^knn +damaged$", invoke("show", tiny.file, "--store", tiny.store).out, re.MULTILINE
    )
    assert invoke("show", tiny.file, "knn", "--store", tiny.store, check=4).out == ""
    transfer(*shlex.split(found["repair"])[1:], "--threads", 1)
    assert invoke(*words).out.startswith("11 artifacts intact")


# gc


def test_gc_of_a_store_whose_results_are_all_needed_finds_nothing(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    assert "0 entries, 0 bytes" in invoke("gc", "--store", finished.store).out
    assert "0 entries, 0 bytes" in invoke("gc", "--store", tmp_path / "none").out


def test_gc_lists_in_bytes_and_deletes_only_on_demand_what_no_pipeline_needs(
    invoke: Callable[..., Said],
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
) -> None:
    other = tiny.file.with_name("other.yaml")
    other.write_text(
        TINY.replace("name: tiny", "name: other").replace("k: 5, iterations", "k: 4, iterations")
    )
    transfer("run", other, "clusters", "--store", tiny.store, "--threads", 1)
    before = sorted(tiny.store.glob("**/manifest.json"))
    assert "0 entries" in invoke("gc", "--store", tiny.store, "--delete").out
    # Once nobody remembers `other`, its own clusters go; what it shares with `tiny` stays.
    (tiny.store / ".pipelines" / "other.json").unlink()
    for leftover in (
        ".building/a",
        ".checkpoints/b",
        ".damaged/c",
        "cluster/.d.previous",
        "cluster/d",
    ):
        (tiny.store / leftover).mkdir(parents=True)
        (tiny.store / leftover / "file").write_bytes(1000 * b"x")
    found = json.loads(invoke("gc", "--store", tiny.store, "--json").out)
    paths = {str(Path(one["path"]).relative_to(tiny.store)) for one in found["entries"]}
    (clusters,) = paths - {".building/a", ".checkpoints/b", ".damaged/c", "cluster/.d.previous"}
    assert re.fullmatch(r"cluster/[0-9a-f]{20}", clusters)
    size = sum(path.stat().st_size for path in (tiny.store / clusters).iterdir()) + 4000
    assert found["bytes"] == size
    said = invoke("gc", "--store", tiny.store).out
    assert f"5 entries, {size:,} bytes" in said
    assert "nothing was deleted; add --delete" in said
    assert sorted(tiny.store.glob("**/manifest.json")) == before
    assert "deleted" in invoke("gc", "--store", tiny.store, "--delete").out
    assert len(sorted(tiny.store.glob("**/manifest.json"))) == len(before) - 1
    assert "up to date" in invoke("status", tiny.file, "--store", tiny.store).out
    assert "0 entries" in invoke("gc", "--store", tiny.store).out


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"clusters": 5}', '{"clusters": {"uses": "cluster"}}']
)
def test_gc_deletes_nothing_where_it_cannot_tell_what_is_needed(
    invoke: Callable[..., Said], tiny: Tiny, content: str
) -> None:
    (tiny.store / ".pipelines" / "tiny.json").write_text(content)
    before = sorted(tiny.store.rglob("*"))
    assert ".pipelines: tiny.json " in invoke("gc", "--store", tiny.store, "--delete", check=4).err
    assert sorted(tiny.store.rglob("*")) == before


# run


def test_a_run_with_nothing_to_do_says_so_and_touches_nothing(
    invoke: Callable[..., Said], tiny: Tiny
) -> None:
    def state() -> dict[Path, int]:
        found = (path for path in tiny.store.rglob("*") if ".answers" not in path.parts)
        return {path: path.stat().st_mtime_ns for path in found if path != tiny.store}

    before = state()
    said = invoke("run", tiny.file, "--store", tiny.store).out
    assert said.splitlines()[-1] == "nothing to do"
    assert state() == before


@pytest.mark.parametrize(
    ("words", "shown", "run"),
    [
        ([], [*STAGES, *PACKS], []),
        (["clusters"], ["drawings/unlabeled", *STAGES[:4]], []),
        (["clusters", "--only"], ["clusters"], []),
        (["pretext", "--only"], ["pretext", "drawings/unlabeled"], []),
        (["labels", "--from"], STAGES[4:], []),
        (["clusters", "-f"], ["drawings/unlabeled", *STAGES[:4]], ["clusters"]),
        (["target", "--from", "-f"], STAGES[5:], STAGES[5:]),
        (["-f"], [*STAGES, *PACKS], [*STAGES, *PACKS]),
        (["--set", "stages.clusters.k=4"], [*STAGES, *PACKS], STAGES[3:]),
        (["--set", "stages.clusters.k=4", "prepared"], ["drawings/unlabeled", *STAGES[:3]], []),
        (["--set", "stages.clusters.k=4", "--only", "labels"], ["labels"], ["labels"]),
    ],
)
def test_a_dry_run_shows_the_stages_asked_for_and_which_of_them_run(
    invoke: Callable[..., Said], finished: Tiny, words: list[str], shown: list[str], run: list[str]
) -> None:
    before = sorted(finished.store.rglob("*"))
    said = invoke(
        "run",
        finished.file,
        "--store",
        finished.store,
        "-n",
        "--exit-code",
        *words,
        check=3 if run else 0,
    ).out
    assert sorted(lines_of(said).keys() - PACKS) == sorted(set(shown) - {*PACKS})
    assert lines_of(said).keys() >= set(shown)
    assert sorted(name for name, line in lines_of(said).items() if line.startswith(" *")) == sorted(
        run
    )
    assert sorted(finished.store.rglob("*")) == before


def test_from_takes_what_depends_on_a_stage_and_not_what_reads_the_same_images(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = [
        "run",
        finished.file,
        "--store",
        finished.store,
        "--set",
        "stages.other={uses: evaluate/knn, model: pretext, k: 5}",
    ]
    said = lines_of(invoke(*words, "target", "--from", "-n").out)
    assert said.keys() - PACKS == {"target", "linear", "knn"}


def test_images_without_labels_do_for_all_that_needs_none(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    for number, picture in enumerate(render.render("train", range(12))):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    text = "data: {folder: photos, size: 32}\nstages:\n  net: {uses: pretext/random, backbone: conv4}\n"
    scored = "  seen: {uses: extract/network, model: net}\n  score: {uses: evaluate/knn, model: net, k: 2}\n"
    file = pipeline(text + scored)
    invoke("run", file, "net", "--store", "s")
    for words in (["status"], ["graph"], ["verify"], ["show"], ["report"]):
        said = invoke(*words, file, "--store", "s", check=2).err
        assert (
            "has no split 'train' (it has: all) (read by score)\n  the other stages do not read it"
            in said
        )
        assert (
            "no stage 'ned'; did you mean 'net'?"
            in invoke(*words, file, "ned", "--store", "s", check=2).err
        )
        invoke(*words, file, "net", "--store", "s")
    assert "up to date" in invoke("status", file, "net", "--store", "s").out
    assert lines_of(invoke("status", file, "seen", "--store", "s").out).keys() >= {"net", "seen"}
    absent = invoke(
        "status", file, "--store", "s", "--set", "data={folder: nowhere, size: 32}", check=2
    ).err
    assert "does not exist" in absent
    assert "do not read it" not in absent  # every stage depends on them
    invoke("export", file, "net", "out", "--store", "s")
    assert (tmp_path / "out" / "model.safetensors").exists()


def test_only_and_from_ask_for_what_they_read(invoke: Callable[..., Said], finished: Tiny) -> None:
    words = [
        "run",
        finished.file,
        "--store",
        finished.store,
        "--device",
        "cpu",
        "--set",
        "stages.clusters.k=4",
    ]
    said = invoke(*words, "labels", "--only", check=2).err
    assert "labels reads clusters, which is not made yet; run it without --only or --from" in said
    assert "no stage 'label'; did you mean 'labels'?" in invoke(*words, "label", check=2).err


def test_a_device_that_is_not_there_is_a_usage_error(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    words = ["run", finished.file, "--store", finished.store, "-f", "--device"]
    assert "--device nonsense: " in invoke(*words, "nonsense", check=2).err


FAILS = """
from transfer.plugin import Features, Stage, stage_input


class Fails(Stage):
    produces = Features
    features: str = stage_input(Features, "anything")

    def run(self, context):
        raise ZeroDivisionError("my own mistake")
"""


@pytest.mark.parametrize(
    ("flags", "made"),
    [([], False), (["-k"], True), (["-k", "-j", "2"], True)],
    ids=["stops", "keeps going", "in parallel"],
)
def test_a_stage_that_fails_ends_with_1_and_stops_or_keeps_going(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    invoke: Callable[..., Said],
    tiny: Tiny,
    pipeline: Callable[..., Path],
    flags: list[str],
    made: bool,
) -> None:
    pipeline(FAILS, "fails.py")
    # The failing stages stand before those that can be made.
    first = "stages:\n  bad: {uses: 'fails.py:Fails', features: features}\n  after: {uses: cluster, features: bad, k: 3}\n"
    tiny.file.write_text(
        TINY.replace("stages:\n", first).replace("k: 5, iterations", "k: 4, iterations")
    )
    words = [
        "run",
        tiny.file,
        "bad",
        "after",
        "clusters",
        "--store",
        tiny.store,
        "--threads",
        2,
        *flags,
    ]
    done = transfer(*words, check=1)
    assert "ZeroDivisionError: my own mistake" in done.stderr
    assert ("clusters: done" in done.stdout) is made
    trace = re.search(r"traceback in (\S+)\)", done.stderr)
    assert trace is not None
    assert "Traceback" in Path(trace[1]).read_text(encoding="utf-8")
    assert f"To resume: transfer run {tiny.file} bad after clusters" in done.stderr
    if made:
        assert "after: not run, since bad failed" in done.stderr
    said = lines_of(invoke("status", tiny.file, "--store", tiny.store).out)
    assert ("cached" in said["clusters"]) is made
    assert "to run" in said["bad"]
    assert "cached" in said["features"]


@pytest.mark.parametrize(
    ("flags", "left"),
    [([], ["bad", "clusters"]), (["--keep-going"], ["bad"]), (["--keep-going", "-j", 2], ["bad"])],
)
def test_to_go_on_makes_again_what_was_forced_and_not_made(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
    pipeline: Callable[..., Path],
    flags: list[str],
    left: list[str],
) -> None:
    pipeline(FAILS, "fails.py")
    bad = "stages:\n  bad: {uses: 'fails.py:Fails', features: features}\n"
    tiny.file.write_text(TINY.replace("stages:\n", bad))
    words = [
        "run",
        tiny.file,
        "clusters",
        "bad",
        "--force",
        "--store",
        tiny.store,
        "--threads",
        2,
        *flags,
    ]
    done = transfer(*words, check=1)
    assert "bad: ZeroDivisionError" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("To resume: ")]
    store = ["--force", "--store", str(tiny.store), "--threads", "2"]
    assert line.split()[: 5 + len(left)] == [
        "To",
        "resume:",
        "transfer",
        "run",
        str(tiny.file),
        *left,
    ]
    assert line.split()[5 + len(left) :] == [*store, *map(str, flags)]


def test_stages_run_side_by_side_and_the_figures_are_those_of_one_after_another(
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    finished: Tiny,
    tmp_path: Path,
    tiny: Tiny,
) -> None:
    shutil.rmtree(tiny.store / "evaluate")
    done = transfer(
        "run", tiny.file, "--store", tiny.store, "-j", 2, "--threads", 2, "--device", "cpu"
    ).stdout
    assert "linear: done" in done
    assert "knn: done" in done
    for path in tiny.store.glob("evaluate/*/*/scores.json"):
        assert path.read_bytes() == (finished.store / path.relative_to(tiny.store)).read_bytes()


def test_a_pipeline_runs_from_python_and_gives_its_artifacts(finished: Tiny) -> None:
    import transfer

    found = transfer.load(str(finished.file), store=finished.store).run("clusters")
    assert found["clusters"].centroids.shape == (5, 8)
    assert transfer.load(str(finished.file), store=finished.store).artifact(
        "knn"
    ).figures.keys() == {"knn", "1-nn"}


def test_an_interrupt_within_code_that_a_library_makes_ends_with_130_too(tmp_path: Path) -> None:
    """Python would end the process by the signal itself, though the interrupt was handled."""
    (tmp_path / "library.py").write_text(
        "import sys\nfrom transfer import cli\n"
        "@cli.cli.command()\ndef stopped():\n    exec('raise KeyboardInterrupt')\n"
        "sys.argv = ['transfer', 'stopped']\ncli.main()\n"
    )
    words = [sys.executable, "-m", "library"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "stopped")
