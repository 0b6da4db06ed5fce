"""Loading scores: the reasons for which one is pending."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.evaluate.knn import Knn
from tests.comparison.test_compare import ONE, finish
from transfer.api import Pipeline
from transfer.artifacts import Scores
from transfer.comparison.load_scores import Score, load_scores
from transfer.comparison.score_status import FinishedScore, PendingReason, PendingScore
from transfer.storage.history import DONE, RecordedRun

Write = Callable[..., Path]


@pytest.fixture
def loaded(pipeline: Write, tmp_path: Path) -> Pipeline:
    return Pipeline.load(pipeline(ONE), store=tmp_path / "store")


def only_score(pipeline: Pipeline) -> Score:
    ((score,), _) = load_scores([pipeline])
    return score


def pending(pipeline: Pipeline) -> tuple[PendingReason, str]:
    score = only_score(pipeline)
    assert isinstance(score, PendingScore)
    return score.reason, score.text


def test_a_finished_score_has_a_card_and_a_value(loaded: Pipeline) -> None:
    finish(loaded)
    score = only_score(loaded)
    assert isinstance(score, FinishedScore)
    assert score.value == score.card.figures["accuracy"]
    assert score.protocol == "knn/weighted-v1"
    assert score.selected_layer is None


def test_a_score_that_was_never_made_is_pending(loaded: Pipeline) -> None:
    assert pending(loaded) == (PendingReason.NOT_MADE, "not made yet")


def test_a_score_of_other_settings_is_outdated(
    loaded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(loaded)
    artifacts = {planned.label: (planned.uses, planned.key) for planned in loaded.plan}
    loaded.store.history.begin(
        RecordedRun(str(loaded.plan.file), loaded.plan.name, artifacts=artifacts, outcome=DONE)
    )
    version = Knn.version
    monkeypatch.setattr(Knn, "version", 41)
    changed = Pipeline.load(loaded.plan.file, store=loaded.store.root)
    text = f"not made yet with these settings (version {version} → 41)"
    assert pending(changed) == (PendingReason.OUTDATED, text)


def test_a_damaged_card_is_pending(loaded: Pipeline) -> None:
    finish(loaded)
    (path,) = loaded.store.root.glob("evaluate/knn/*/scores.json")
    path.write_text("{}")
    reason, text = pending(loaded)
    assert reason is PendingReason.DAMAGED
    assert "scores.json" in text


def test_a_card_without_a_main_figure_is_of_an_old_format(
    loaded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Scores.write

    def write_without_main(folder: Path, **card: object) -> None:
        write(folder, **{**card, "main": "unknown"})  # pyright: ignore[reportArgumentType]  # made-up

    monkeypatch.setattr(Scores, "write", write_without_main)
    finish(loaded)
    assert pending(loaded)[0] is PendingReason.OLD_FORMAT
