"""The rows of a table: runs joined over seeds, and their differences to reference rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transfer.comparison.lineage import SAME_NETWORK, describe_backbones
from transfer.comparison.manifest_cache import ManifestCache
from transfer.comparison.score_status import FinishedScore
from transfer.comparison.table import Difference, Row
from transfer.models.backbone import Backbone
from transfer.numerics.confidence_intervals import paired_difference, t_interval
from transfer.utils.formatting import member_label


def rows_of(scores: list[FinishedScore], caches: Mapping[Path, ManifestCache]) -> list[Row]:
    """A row for each recipe, in the order of the scores; a run of two files is one run."""
    runs: dict[str, dict[str, FinishedScore]] = {}
    for score in scores:
        runs.setdefault(score.lineage.recipe, {}).setdefault(score.planned.key, score)
    rows = [_row(list(group.values()), caches) for group in runs.values()]
    backbones = [row.lineage.network for row in rows] + [_student(row) for row in rows]
    names = list(describe_backbones(backbones))
    for row, network, target in zip(rows, names[: len(rows)], names[len(rows) :], strict=True):
        row.network = network
        row.target = SAME_NETWORK if row.lineage.target == SAME_NETWORK else target
    return rows


def nearest_row(row: Row, others: list[Row]) -> Row | None:
    """The row of the same network that shares the most variables; None without one."""
    candidates = [other for other in others if other.lineage.backbone == row.lineage.backbone]

    def shared_variables(other: Row) -> int:
        return sum(other.variables.get(name) == value for name, value in row.variables.items())

    return max(candidates, key=shared_variables, default=None)


def row_difference(row: Row, reference: Row | None, paired: bool) -> Difference | None:
    """The difference of a row to its reference; None without one, or to itself.

    Args:
        row: the row.
        reference: the row that is subtracted.
        paired: pair single runs over their test images, where both kept what each image added.
    """
    if reference is None or reference is row:
        return None
    ours, theirs = row.figure_by_seed, reference.figure_by_seed
    seeds = [seed for seed in ours if seed in theirs]
    if paired and len(row.runs) == len(reference.runs) == 1:
        difference = _difference_over_images(row.runs[0], reference.runs[0])
        if difference is not None:
            return replace(difference, to=reference.label, seeds=len(seeds))
    if not seeds:
        return Difference(row.figure.mean - reference.figure.mean, reference.label)
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    estimate = paired_difference([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
    return Difference(
        estimate.mean,
        reference.label,
        len(seeds),
        estimate.low,
        estimate.high,
        over="seeds" if estimate.interval else "",
        values=tuple(ours - theirs for ours, theirs in pairs),
    )


def _difference_over_images(run: FinishedScore, reference: FinishedScore) -> Difference | None:
    ours, theirs = run.outcomes(), reference.outcomes()
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None
    estimate = paired_difference(ours.tolist(), theirs.tolist(), images=True)
    return Difference(estimate.mean, "", low=estimate.low, high=estimate.high, over="test images")


def _row(runs: list[FinishedScore], caches: Mapping[Path, ManifestCache]) -> Row:
    estimate = t_interval([run.value for run in runs])
    interval = runs[0].intervals.get(runs[0].main)
    if len(runs) == 1 and interval:
        low, high = interval
        estimate = replace(estimate, low=low, high=high)
    variables = _shared_variables([run.planned.member for run in runs])
    label = runs[0].prefix + runs[0].planned.name
    if variables:
        label += f"[{member_label(variables)}]"
    seconds, training_seconds, images = [], [], []
    for run in runs:
        cache = caches[run.pipeline.store.root]
        seconds.append(cache.pipeline_seconds(run.lineage))
        training_seconds.append(cache.training_seconds(run.lineage))
        images.append(cache.training_images(run.lineage))
    mean_images = _mean(images)
    return Row(
        label,
        runs,
        estimate,
        variables,
        _mean(seconds),
        _mean(training_seconds),
        None if mean_images is None else round(mean_images),
        runs[0].lineage.pretext,
    )


def _shared_variables(members: list[dict[str, Any]]) -> dict[str, Any]:
    """The matrix variables that all members have with one value; without the seed."""
    first, *others = members
    return {
        name: value
        for name, value in first.items()
        if name != "seed" and all(name in other and other[name] == value for other in others)
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _student(row: Row) -> Backbone | None:
    target = row.lineage.target
    return target if isinstance(target, Backbone) else None
