"""`transfer status`: what is cached, what would run, and why."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.common import PACKS, STAGES, lines_of
from tests.conftest import TINY, Said, Tiny
from transfer.datasets.drawings import render


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
    missing = invoke(*words, "--set", "data=./nowhere").out
    assert "drawings replace " in missing
    assert "nowhere, which is missing" in missing


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


UNLABELED = """
data: {folder: photos, size: 32}
stages:
  net: {uses: pretext/random, backbone: conv4}
  seen: {uses: extract/network, model: net}
  score: {uses: evaluate/knn, model: net, k: 2}
"""


@pytest.mark.slow
def test_images_without_labels_do_for_all_that_needs_none(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    for number, picture in enumerate(render.render("train", range(12))):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    file = pipeline(UNLABELED)
    invoke("run", file, "net", "--store", "s")
    for words in (["status"], ["graph"], ["verify"], ["show"], ["report"]):
        reads_results = words not in (["status"], ["graph"])
        if reads_results:  # of the stages that the last run named
            said = invoke(*words, file, "--store", "s").err
            assert "only net, as last run, because of: " in said
            assert "has no split 'train' (it has: all)" in said
            invoke(*words, file, "net", "--store", "s")
            continue
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
