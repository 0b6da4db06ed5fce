"""The comparison that ships holds every task once, all with the same network, images and budget."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from transfer.pipeline.loader import load_plan
from transfer.pipeline.plan import Plan
from transfer.stage.registry import builtin_names
from transfer.storage.store import Store
from transfer.training.recipe import TrainableStage
from transfer.utils.paths import shipped_folder

FILE = shipped_folder("pipelines") / "compare_pretexts.yaml"
TASKS = [name.removeprefix("pretext/") for name in builtin_names() if name.startswith("pretext/")]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return load_plan(FILE, Store(tmp_path_factory.mktemp("store")))


def test_every_task_that_ships_is_a_member_and_is_trained_once(plan: Plan) -> None:
    assert {one.member["method"] for one in plan.names["target"]} == set(TASKS) - {"pretrained"}
    counts = Counter(one.uses for one in plan if one.uses.startswith("pretext/"))
    assert counts == Counter(
        [f"pretext/{name}" for name in TASKS if name != "pretrained"]
    ) + Counter(["pretext/random"])
    for name in ("features", "clusters", "labels", "target", "probe", "linear"):
        assert len(plan.names[name]) == len(TASKS) - 1
    assert len(plan.names["linear_untaught"]) == 1


def test_a_member_reads_the_task_that_it_is_called_after(plan: Plan) -> None:
    for one in [*plan.names["features"], *plan.names["probe"]]:
        assert one.inputs["model"].name == one.member["method"]
        assert one.inputs["model"].uses == f"pretext/{one.member['method']}"


def test_all_have_one_backbone_one_budget_and_one_target(plan: Plan) -> None:
    tasks = [plan.find(name)[0] for name in TASKS if name != "pretrained"]
    assert len({one.stage.backbone for one in tasks}) == 1
    trained = [one.stage for one in tasks if isinstance(one.stage, TrainableStage)]
    assert {
        (stage.epochs, stage.batch_size, stage.schedule, stage.warmup_epochs) for stage in trained
    } == {(10, 128, "cosine", 1.0)}
    for name in ("features", "clusters", "target", "probe", "linear"):
        assert len({str(one.stage.identity()) for one in plan.names[name]}) == 1


def test_the_budget_of_all_is_one_value(tmp_path: Path) -> None:
    longer = load_plan(FILE, Store(tmp_path), sets=["matrix.epochs=[40]"])
    tasks = [
        one.stage
        for one in longer
        if isinstance(one.stage, TrainableStage) and one.uses.startswith("pretext/")
    ]
    assert {stage.epochs for stage in tasks} == {40}
