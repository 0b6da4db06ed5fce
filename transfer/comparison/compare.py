"""Finished scores side by side: a row for each pretext, target and protocol, beside random weights and labels.

Nothing is trained and no weights are read: plans, manifests and `scores.json` say all of it, so that the answer
comes at once. Only differences over test images read what each image added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transfer.api import Pipeline
from transfer.comparison.compatibility import (
    refuse_older,
    refuse_other_protocols,
    refuse_other_settings,
)
from transfer.comparison.lineage import SAME_NETWORK, describe_backbones
from transfer.comparison.load_scores import (
    SHOWN,
    ManifestCache,
    Score,
    load_scores,
    run_command,
    scores_in,
    select_scores,
)
from transfer.comparison.table import Comparison, Difference, Row, Section
from transfer.errors import TransferError
from transfer.execution.rerun_reasons import NOT_MADE
from transfer.numerics.confidence_intervals import paired_difference, t_interval
from transfer.utils.formatting import member_label

RANDOM, SUPERVISED = "pretext/random", "pretext/supervised"


def compare(
    pipelines: Sequence[Pipeline],
    *,
    protocols: Sequence[str] = (),
    stages: Sequence[str] = (),
    images: bool = False,
) -> Comparison:
    """Compare all finished scores of some files; of `protocols` and `stages` only, where they are named.

    With `images`, single seeds are paired over their test images. UsageError where files have nothing to compare, or
    would put into one column what was measured in different ways; TransferError where nothing is finished.
    """
    found, shelves = load_scores(pipelines)
    picked = select_scores(pipelines, found, protocols, stages)
    refuse_other_settings(pipelines, picked)
    refuse_older(picked)
    lost = [score for score in picked if score.card is None]
    commands = [run_command(pipeline, lost) for pipeline in pipelines if scores_in(pipeline, lost)]
    if len(lost) == len(picked) and not any(score.damaged for score in lost):
        changed = [
            f"  {score.label}: {score.missing_reason}"
            for score in lost
            if score.missing_reason != NOT_MADE
        ]
        more = [f"  and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        told = [
            "nothing is finished that could be compared",
            *changed[:SHOWN],
            *more,
            "to make it:",
            *commands,
        ]
        raise TransferError("\n".join(told))
    # What is not asked for may still be what the others are compared with.
    chosen = {id(score) for score in picked}
    found = [
        one
        for one in [*picked, *(one for one in found if id(one) not in chosen)]
        if one.is_complete
    ]
    settings = {
        str(score.lineage.protocol_settings): None for score in found if id(score) in chosen
    }
    alike = [
        [one for one in found if str(one.lineage.protocol_settings) == setting]
        for setting in settings
    ]
    told = [
        (
            one.damaged,
            {
                "stage": one.planned.label,
                "file": str(one.pipeline.plan.file),
                "why": one.missing_reason,
            },
        )
        for one in lost
    ]
    smoke = "these are smoke runs: they show that everything works, and nothing else"
    return Comparison(
        [_section(scores, chosen, shelves, images) for scores in alike],
        missing=[one for damaged, one in told if not damaged],
        damaged=[one for damaged, one in told if damaged],
        commands=commands,
        notes=[smoke] if pipelines[0].plan.smoke else [],
    )


def _section(
    scores: list[Score], chosen: set[int], shelves: dict[Any, ManifestCache], images: bool
) -> Section:
    refuse_other_protocols([score for score in scores if id(score) in chosen])
    card, setting = scores[0].card, scores[0].lineage.protocol_settings
    scores = [
        one
        for one in scores
        if (one.card.protocol, one.card.main) == (card.protocol, card.main)
    ]
    groups: dict[str, dict[str, Score]] = {}
    for score in scores:  # the same run in two files is one run
        groups.setdefault(score.lineage.recipe, {}).setdefault(score.planned.key, score)
    rows = [_row(list(group.values()), shelves) for group in groups.values()]
    names = list(
        describe_backbones([row.lineage.network for row in rows] + [_target(row) for row in rows])
    )
    for row, network, target in zip(rows, names[: len(rows)], names[len(rows) :], strict=True):
        row.network, row.target = (
            network,
            SAME_NETWORK if row.lineage.target == SAME_NETWORK else target,
        )
    notes: list[str] = []
    for row in rows:
        row.random = _difference(
            row, _nearest(row, [one for one in rows if one.lineage.is_pretext(RANDOM)]), images
        )
        labeled = _nearest(row, [one for one in rows if one.lineage.is_pretext(SUPERVISED)])
        if labeled is None and row.lineage.target != SAME_NETWORK:
            labeled = _nearest(row, [one for one in rows if one.lineage.distilled_from(SUPERVISED)])
            if labeled is not None:
                notes.append(
                    f"'supervised' is {row.target} taught by a supervised network: none learned the labels itself"
                )
        row.supervised = _difference(row, labeled, images)
    seeds = {row.label: len(row.runs) for row in rows}
    rows = [row for row in rows if any(id(run) in chosen for run in row.runs)]
    single = [
        one for row in rows if len(row.runs) == 1 for one in (row.random, row.supervised) if one
    ]
    if any(
        0 < one.seeds < max(len(row.runs), seeds[one.to])
        for row in rows
        for one in (row.random, row.supervised)
        if one
    ):
        notes.append(
            "a difference is over the seeds that both rows have, where one has more than the other"
        )
    if images and any(not one.over for one in single):
        notes.append(
            "a difference without an interval: one side has more seeds, or keeps nothing of single images"
        )
    rows.sort(key=lambda row: (-row.figure.mean, row.label))
    notes, counts = list(dict.fromkeys(notes)), card.counts
    return Section(card.protocol, card.main, setting, counts, rows, _columns(rows), notes)


def _target(row: Row) -> Any:
    return None if row.lineage.target == SAME_NETWORK else row.lineage.target


def _row(runs: list[Score], shelves: dict[Any, ManifestCache]) -> Row:
    figure, spans = t_interval([run.value for run in runs]), len(runs) > 1
    interval = runs[0].card.intervals.get(runs[0].card.main)
    if len(runs) == 1 and interval:
        figure, spans = replace(figure, low=interval[0], high=interval[1]), True
    members = [run.planned.member for run in runs]
    variables = {
        name: value
        for name, value in members[0].items()
        if name != "seed" and all(name in one and one[name] == value for one in members)
    }
    shelf = [(shelves[run.pipeline.store.root], run) for run in runs]
    seconds = _mean([store.seconds(run) for store, run in shelf])
    training = _mean([store.training(run) for store, run in shelf])
    trained = _mean([store.images(run) for store, run in shelf])
    trained = None if trained is None else round(trained)
    name = (
        runs[0].prefix
        + runs[0].planned.name
        + (f"[{member_label(variables)}]" if variables else "")
    )
    return Row(
        name, runs, figure, spans, variables, seconds, training, trained, runs[0].lineage.pretext
    )


def _mean(values: list[float | None]) -> float | None:
    return None if None in values else sum(values) / len(values)


def _nearest(row: Row, others: list[Row]) -> Row | None:
    """The row of the same network that agrees with it in most variables."""
    alike = [other for other in others if other.lineage.backbone == row.lineage.backbone]
    agree = [
        sum(other.variables.get(name) == value for name, value in row.variables.items())
        for other in alike
    ]
    return alike[agree.index(max(agree))] if alike else None


def _difference(row: Row, other: Row | None, images: bool) -> Difference | None:
    if other is None or other is row:
        return None
    common = [seed for seed in row.by_seed if seed in other.by_seed]
    if images and len(row.runs) == len(other.runs) == 1:
        ours, theirs = row.runs[0].outcomes(), other.runs[0].outcomes()
        if ours is not None and theirs is not None and len(ours) == len(theirs):
            found = paired_difference(ours, theirs, images=True)
            return Difference(
                found.mean, other.label, len(common), found.low, found.high, "test images"
            )
    if not common:
        return Difference(row.figure.mean - other.figure.mean, other.label)
    found = paired_difference(
        [row.by_seed[seed] for seed in common], [other.by_seed[seed] for seed in common]
    )
    if len(common) == 1:
        return Difference(found.mean, other.label, 1)
    return Difference(found.mean, other.label, len(common), found.low, found.high, "seeds")


# Columns


def _columns(rows: list[Row]) -> list[str]:
    """The matrix variables that differ; where these do not tell two rows apart, the options or the stages that do."""
    names = dict.fromkeys(name for row in rows for name in row.variables)
    columns = [name for name in names if _differs(rows, name) and not _says_the_same(rows, name)]
    if twins := _twins(rows, columns):
        options = [row.lineage.options() for row in twins]
        names = dict.fromkeys(name for one in options for name in one)
        apart = [name for name in names if len({str(one.get(name)) for one in options}) > 1]
        if len(apart) <= SHOWN:
            for row in rows:
                known = row.lineage.options()
                row.variables |= {name: known[name] for name in apart if name in known}
            columns += apart
    if _twins(rows, columns):
        for row in rows:
            row.variables |= {"scores": row.label}
        columns.append("scores")
    return columns


def _twins(rows: list[Row], columns: list[str]) -> list[Row]:
    looks = [
        (row.pretext, row.network, row.target, *(str(row.variables.get(name)) for name in columns))
        for row in rows
    ]
    return [row for row, look in zip(rows, looks, strict=True) if looks.count(look) > 1]


def _differs(rows: list[Row], name: str) -> bool:
    return len({str(row.variables[name]) for row in rows if name in row.variables}) > 1


def _says_the_same(rows: list[Row], name: str) -> bool:
    """Whether a column that is there anyway has the variable's value, as `method: rotation` and the pretext's name."""
    rows = [row for row in rows if name in row.variables]
    seen = (
        lambda row: {
            row.pretext,
            *(word for one in row.lineage.teachers[-1:] for word in (one.name, one.uses)),
        },
        lambda row: {row.network, getattr(row.lineage.network, "name", "")},
        lambda row: {row.target, getattr(row.lineage.backbone, "name", "")},
    )
    return any(all(str(row.variables[name]) in those(row) for row in rows) for those in seen)
