"""Selecting scores by file, stage and protocol, and the command that makes them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from transfer.comparison.load_scores import Score
from transfer.comparison.score_status import PlannedScore
from transfer.errors import UsageError, did_you_mean
from transfer.execution.open_pipeline import OpenPipeline

LISTED_STAGES = 3  # above that, a command names stages without their members
ScoreT = TypeVar("ScoreT", bound=PlannedScore)


def scores_in(pipeline: OpenPipeline, scores: Iterable[ScoreT]) -> list[ScoreT]:
    """The scores of one pipeline file."""
    return [score for score in scores if score.pipeline is pipeline]


def run_command(pipeline: OpenPipeline, scores: Sequence[PlannedScore], *flags: str) -> str:
    """The command that makes the scores of one file."""
    stages = [score.planned for score in scores_in(pipeline, scores)]
    names = [planned.label for planned in stages]
    if len(names) > LISTED_STAGES:
        names = list(dict.fromkeys(planned.name for planned in stages))
    return shlex.join(["transfer", "run", str(pipeline.plan.file), *names, *flags, *pipeline.flags])


def select_scores(
    pipelines: Sequence[OpenPipeline],
    scores: list[Score],
    protocols: Sequence[str],
    stages: Sequence[str],
) -> list[Score]:
    """The scores of the requested stages and protocols.

    Args:
        pipelines: the files; UsageError where one of them has none of the requested scores.
        scores: all scores of the files.
        protocols: names of protocols; all where it is empty. UsageError for an unknown one.
        stages: names of evaluation stages; all where it is empty. UsageError for an unknown one.
    """
    scores = _with_names(scores, stages, "evaluation stage", _stage_names)
    scores = _with_names(scores, protocols, "protocol", _protocol_names)
    for pipeline in pipelines:
        if not scores_in(pipeline, scores):
            raise UsageError(
                f"{pipeline.plan.file}: no score has the requested --stage and --protocol"
            )
    return scores


def _with_names(
    scores: list[Score],
    requested: Sequence[str],
    kind: str,
    names_of: Callable[[Score], list[str]],
) -> list[Score]:
    """The scores with any of the requested names.

    Args:
        scores: all scores.
        requested: the names; all scores where it is empty. UsageError for an unknown one.
        kind: what the names are of, for the error.
        names_of: all names of a score.
    """
    if not requested:
        return scores
    names = [names_of(score) for score in scores]
    for name in requested:
        if not any(name in known for known in names):
            suggestion = did_you_mean(name, {known[0] for known in names})
            raise UsageError(f"no {kind} '{name}'{suggestion}")
    return [
        score
        for score, known in zip(scores, names, strict=True)
        if not set(known).isdisjoint(requested)
    ]


def _stage_names(score: Score) -> list[str]:
    return [score.planned.name, score.planned.label, score.planned.key]


def _protocol_names(score: Score) -> list[str]:
    """`linear/zhang2016-v2 (epochs 4)`, and its short forms, down to `zhang2016` and `linear`."""
    plain = score.protocol.partition(" (")[0]
    bare = plain.rpartition("-v")[0] or plain
    uses = score.planned.uses
    return [plain, score.protocol, bare, *bare.split("/"), uses, uses.rpartition("/")[2]]
