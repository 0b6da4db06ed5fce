"""Loading the scores of pipeline files, with the reason for each that cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from transfer.artifacts import Scores
from transfer.artifacts.scores import ScoreCard
from transfer.comparison.lineage import score_stages
from transfer.comparison.manifest_cache import ManifestCache
from transfer.comparison.score_status import (
    SCORES_CARD,
    FinishedScore,
    PendingReason,
    PendingScore,
    PlannedScore,
)
from transfer.errors import CorruptArtifact, UsageError
from transfer.execution.open_pipeline import OpenPipeline
from transfer.execution.rerun_reasons import RerunCause, explain_rerun
from transfer.storage.manifest import Manifest

Score: TypeAlias = FinishedScore | PendingScore


def load_scores(pipelines: Sequence[OpenPipeline]) -> tuple[list[Score], dict[Path, ManifestCache]]:
    """Load the scores of all evaluation stages.

    Returns the scores, and the manifests of each store by the store's folder. UsageError for a file
    without an evaluation stage.
    """
    caches = {pipeline.store.root: ManifestCache(pipeline) for pipeline in pipelines}
    scores: list[Score] = []
    for pipeline in pipelines:
        prefix = f"{pipeline.plan.file}: " if len(pipelines) > 1 else ""
        stages = score_stages(pipeline.plan)
        if not stages:
            raise UsageError(
                f"{pipeline.plan.file}: no evaluation stage; add one with `uses: evaluate/...`"
            )
        for planned in stages:
            score = PlannedScore(pipeline, planned, prefix)
            scores.append(_load(score, caches[pipeline.store.root]))
    return scores, caches


def _load(score: PlannedScore, cache: ManifestCache) -> Score:
    store, planned = cache.store, score.planned
    try:
        manifest = store.find(planned.uses, planned.key)
        if manifest is None:
            return _missing(score, cache)
        if (outdated := cache.outdated_input(score.lineage)) is not None:
            name, source = outdated
            text = f"{name} read {source}, which changed since"
            return _pending(score, PendingReason.OUTDATED, text)
        folder = store.folder(planned.uses, planned.key)
        files = {name: facts for name, facts in manifest.files.items() if name == SCORES_CARD}
        store.check(folder, replace(manifest, files=files))
        return _finished(score, manifest, Scores(folder).card)
    except CorruptArtifact as error:
        return _pending(score, PendingReason.DAMAGED, str(error))


def _finished(score: PlannedScore, manifest: Manifest, card: ScoreCard) -> Score:
    if not card.is_complete:
        return _pending(score, PendingReason.OLD_FORMAT, "old format, without a main figure")
    return FinishedScore(score.pipeline, score.planned, score.prefix, manifest, card)


def _missing(score: PlannedScore, cache: ManifestCache) -> PendingScore:
    """Whether the score was never made, or an option, an input or the protocol changed."""
    reason = explain_rerun(cache.store, score.planned, cache.last_run(score.pipeline.plan))
    if reason.cause is RerunCause.NOT_MADE:
        return _pending(score, PendingReason.NOT_MADE, reason.text)
    if reason.cause is RerunCause.CHANGED:
        text = f"not made yet with these settings ({reason.text})"
        return _pending(score, PendingReason.OUTDATED, text)
    return _pending(score, PendingReason.OUTDATED, reason.text)


def _pending(score: PlannedScore, reason: PendingReason, text: str) -> PendingScore:
    return PendingScore(score.pipeline, score.planned, score.prefix, reason, text)
