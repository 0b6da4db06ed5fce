"""Checks that the scores of a table were measured in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from transfer.comparison.load_scores import Score
from transfer.comparison.score_selection import run_command, scores_in
from transfer.comparison.score_status import FinishedScore, PendingReason, PendingScore
from transfer.errors import TransferError, UsageError
from transfer.execution.open_pipeline import OpenPipeline

LISTED_DIFFERENCES = 3
MAX_VALUE_LENGTH = 60  # characters of a value in a message
ADVICE = "Evaluate both in the same way, or select scores with --stage NAME or --protocol NAME."


def check_same_settings(pipelines: Sequence[OpenPipeline], scores: list[Score]) -> None:
    """Raise UsageError for two scores of two files that used one method with different settings.

    Within a file, other settings are another table. Between files it is unknown which scores the
    user wants to compare.
    """
    for first, second in combinations(pipelines, 2):
        ours, theirs = scores_in(first, scores), scores_in(second, scores)
        unmatched = _without_match(ours, theirs)
        pairs = [
            (score, other)
            for score in unmatched
            for other in _without_match(theirs, ours)
            if score.planned.uses == other.planned.uses
        ]
        if not pairs and len(unmatched) == len(ours):
            pairs = [(ours[0], theirs[0])]
        if pairs:
            score, other = min(pairs, key=_distance)  # report the closest mismatching pair
            raise _mismatch(score, other, _settings(score), _settings(other))


def check_same_protocol(scores: list[FinishedScore]) -> None:
    """Raise UsageError where scores of equal settings differ in protocol or main figure."""
    first, *others = scores
    expected = {"protocol": first.protocol, "main": first.main}
    for other in others:
        actual = {"protocol": other.protocol, "main": other.main}
        if actual != expected:
            raise _mismatch(first, other, expected, actual)


def check_current_format(scores: list[Score]) -> None:
    """Raise TransferError where the card of a score names no main figure."""
    old = [
        score
        for score in scores
        if isinstance(score, PendingScore) and score.reason is PendingReason.OLD_FORMAT
    ]
    if old:
        pipelines = {id(score.pipeline): score.pipeline for score in old}.values()
        names = ", ".join(score.label for score in old)
        commands = [run_command(pipeline, old, "--force") for pipeline in pipelines]
        raise TransferError(
            "\n".join([f"{names}: old format, without a main figure; run again:", *commands])
        )


def _without_match(scores: list[Score], others: list[Score]) -> list[Score]:
    """The scores whose settings none of the others has."""
    settings = [other.lineage.protocol_settings for other in others]
    return [score for score in scores if score.lineage.protocol_settings not in settings]


def _distance(pair: tuple[Score, Score]) -> tuple[bool, int]:
    """How far two scores are from being comparable."""
    score, other = pair
    differences = _differences(_settings(score), _settings(other))
    return score.planned.name != other.planned.name, len(differences)


def _settings(score: Score) -> dict[str, Any]:
    settings = score.lineage.protocol_settings
    images = {f"{role} images": name for role, name in settings["images"].items()}
    return {
        "protocol": score.protocol,
        "version": settings["version"],
        **images,
        **settings["options"],
    }


def _differences(settings: dict[str, Any], others: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> the two values, where they differ."""
    names = dict.fromkeys([*settings, *others])
    pairs = {name: (settings.get(name), others.get(name)) for name in names}
    return {name: (value, other) for name, (value, other) in pairs.items() if value != other}


def _mismatch(
    score: Score, other: Score, settings: dict[str, Any], others: dict[str, Any]
) -> UsageError:
    """The error for two scores that cannot be compared.

    Args:
        score: a score.
        other: the other one.
        settings: of the score.
        others: of the other one.
    """
    differences = _differences(settings, others)
    lines = [f"'{score.label}' and '{other.label}' cannot be compared. They differ in"]
    for name, values in list(differences.items())[:LISTED_DIFFERENCES]:
        lines.append(f"  {name}: {_brief(values[0])} | {_brief(values[1])}")
    if len(differences) > LISTED_DIFFERENCES:
        lines.append(f"  and {len(differences) - LISTED_DIFFERENCES} more")
    return UsageError("\n".join([*lines, ADVICE]))


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."
