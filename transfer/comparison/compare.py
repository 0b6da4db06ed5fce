"""Comparison of finished scores: a row for each pretext, target and protocol, over seeds.

It reads plans, manifests and `scores.json`, and trains nothing. Only differences over test images
read more: the outcome of each image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from transfer.comparison.columns import distinguishing_columns
from transfer.comparison.compatibility import (
    check_current_format,
    check_same_protocol,
    check_same_settings,
)
from transfer.comparison.figures import selection_note
from transfer.comparison.lineage import RANDOM, SAME_NETWORK, SUPERVISED
from transfer.comparison.load_scores import load_scores
from transfer.comparison.manifest_cache import ManifestCache
from transfer.comparison.rows import nearest_row, row_difference, rows_of
from transfer.comparison.score_selection import run_command, scores_in, select_scores
from transfer.comparison.score_status import FinishedScore, PendingReason, PendingScore
from transfer.comparison.table import Comparison, OmittedScore, Row, Section
from transfer.errors import TransferError
from transfer.execution.open_pipeline import OpenPipeline

LISTED_CHANGES = 3
SMOKE_NOTE = "these are smoke runs: they only show that everything works"
COMMON_SEEDS_NOTE = "where two rows have different seeds, a difference is over those they share"
UNPAIRED_NOTE = (
    "a difference without an interval: one row has several seeds, or its score keeps no outcomes "
    "of single images"
)


def compare(
    pipelines: Sequence[OpenPipeline],
    *,
    protocols: Sequence[str] = (),
    stages: Sequence[str] = (),
    paired: bool = False,
) -> Comparison:
    """Compare the finished scores of pipeline files.

    Args:
        pipelines: the files. UsageError where one has no score to compare, or where two measured
            the same in different ways; TransferError where no score is finished.
        protocols: compare only these protocols; all where it is empty.
        stages: compare only these evaluation stages; all where it is empty.
        paired: pair single seeds over their test images.
    """
    scores, caches = load_scores(pipelines)
    requested = select_scores(pipelines, scores, protocols, stages)
    check_same_settings(pipelines, requested)
    check_current_format(requested)
    pending = [score for score in requested if isinstance(score, PendingScore)]
    commands = [
        run_command(pipeline, pending) for pipeline in pipelines if scores_in(pipeline, pending)
    ]
    damaged = [score for score in pending if score.reason is PendingReason.DAMAGED]
    if len(pending) == len(requested) and not damaged:
        raise _nothing_finished(pending, commands)
    missing = [score for score in pending if score.reason is not PendingReason.DAMAGED]
    # Scores that were not requested may be the reference of those that were.
    ordered = [*requested, *(score for score in scores if score not in set(requested))]
    finished = [score for score in ordered if isinstance(score, FinishedScore)]
    shown = {score for score in finished if score in set(requested)}
    groups: dict[str, list[FinishedScore]] = {}
    for score in finished:
        groups.setdefault(str(score.lineage.protocol_settings), []).append(score)
    return Comparison(
        [
            _section(group, shown, caches, paired)
            for group in groups.values()
            if not shown.isdisjoint(group)
        ],
        missing=[_omitted(score) for score in missing],
        damaged=[_omitted(score) for score in damaged],
        commands=commands,
        notes=[SMOKE_NOTE] if pipelines[0].plan.smoke else [],
    )


def _nothing_finished(pending: list[PendingScore], commands: list[str]) -> TransferError:
    lines = ["no finished score to compare"]
    changed = [score for score in pending if score.reason is not PendingReason.NOT_MADE]
    lines += [f"  {score.label}: {score.text}" for score in changed[:LISTED_CHANGES]]
    if len(changed) > LISTED_CHANGES:
        lines.append(f"  and {len(changed) - LISTED_CHANGES} more")
    return TransferError("\n".join([*lines, "to make it:", *commands]))


def _omitted(score: PendingScore) -> OmittedScore:
    return OmittedScore(score.planned.label, str(score.pipeline.plan.file), score.text)


def _section(
    scores: list[FinishedScore],
    shown: set[FinishedScore],
    caches: Mapping[Path, ManifestCache],
    paired: bool,
) -> Section:
    """The table of scores with equal settings.

    Args:
        scores: the scores.
        shown: those that get a row; the others are references only.
        caches: the manifests of each store by its folder.
        paired: pair single seeds over their test images.
    """
    check_same_protocol([score for score in scores if score in shown])
    first = scores[0]
    scores = [
        score for score in scores if score.protocol == first.protocol and score.main == first.main
    ]
    rows = rows_of(scores, caches)
    notes = [selection_note(first)]
    for row in rows:
        notes.append(_add_differences(row, rows, paired))
    seeds = {row.label: len(row.runs) for row in rows}
    rows = [row for row in rows if not shown.isdisjoint(row.runs)]
    notes += _difference_notes(rows, seeds, paired)
    rows.sort(key=lambda row: (-row.figure.mean, row.label))
    return Section(
        first.protocol,
        first.main,
        first.lineage.protocol_settings,
        first.card.counts,
        rows,
        distinguishing_columns(rows),
        [note for note in dict.fromkeys(notes) if note],
    )


def _add_differences(row: Row, rows: list[Row], paired: bool) -> str:
    """Set the differences to random weights and to labels; return a note on the reference."""
    random = [other for other in rows if other.lineage.is_pretext(RANDOM)]
    row.random = row_difference(row, nearest_row(row, random), paired)
    supervised = [other for other in rows if other.lineage.is_pretext(SUPERVISED)]
    reference, note = nearest_row(row, supervised), ""
    if reference is None and row.lineage.target != SAME_NETWORK:
        students = [other for other in rows if other.lineage.distilled_from(SUPERVISED)]
        reference = nearest_row(row, students)
        if reference is not None:
            note = (
                f"'supervised' is {row.target} as the student of a supervised teacher: no "
                "network of its kind was trained on the labels"
            )
    row.supervised = row_difference(row, reference, paired)
    return note


def _difference_notes(rows: list[Row], seeds: Mapping[str, int], paired: bool) -> list[str]:
    """Notes on differences over a part of the seeds, or without an interval.

    Args:
        rows: the rows of the table.
        seeds: the number of runs of each row by its label, references included.
        paired: whether single seeds were to be paired over their test images.
    """
    notes = []
    differences = [
        (row, difference)
        for row in rows
        for difference in (row.random, row.supervised)
        if difference
    ]
    if any(
        0 < difference.seeds < max(len(row.runs), seeds[difference.to])
        for row, difference in differences
    ):
        notes.append(COMMON_SEEDS_NOTE)
    if paired and any(
        len(row.runs) == 1 and not difference.over for row, difference in differences
    ):
        notes.append(UNPAIRED_NOTE)
    return notes
