"""Whether scores may stand in one table: what was not measured alike is refused, and what differs is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transfer.api import Pipeline
from transfer.comparison.load_scores import SHOWN, Score, run_command, scores_in
from transfer.errors import TransferError, UsageError


def refuse_other_settings(pipelines: Sequence[Pipeline], scores: list[Score]) -> None:
    """UsageError names two scores of two files that are of one method and were not measured alike.

    Within a file other settings are other tables; of two files nobody knows which scores were meant to be compared.
    """
    for number, first in enumerate(pipelines):
        for second in pipelines[number + 1 :]:
            ours, theirs = scores_in(first, scores), scores_in(second, scores)
            left = [
                one
                for one in ours
                if all(
                    one.lineage.protocol_settings != other.lineage.protocol_settings
                    for other in theirs
                )
            ]
            right = [
                one
                for one in theirs
                if all(
                    one.lineage.protocol_settings != other.lineage.protocol_settings
                    for other in ours
                )
            ]
            pairs = [(a, b) for a in left for b in right if a.planned.uses == b.planned.uses]
            if not pairs and len(left) == len(ours):
                pairs = [(ours[0], theirs[0])]
            if pairs:  # told is the pair that is nearest to being one
                _refuse(
                    *min(
                        pairs,
                        key=lambda pair: (
                            pair[0].planned.name != pair[1].planned.name,
                            len(_apart(*pair)),
                        ),
                    )
                )


def refuse_other_protocols(scores: list[Score]) -> None:
    """UsageError where scores of the same settings say that another protocol made them, or another figure counts."""
    first, *others = scores
    for other in others:
        told = [
            {"protocol": score.card.protocol, "main": score.card.main} for score in (first, other)
        ]
        if told[0] != told[1]:
            _refuse(first, other, told)


def refuse_older(scores: list[Score]) -> None:
    """TransferError where scores do not say which figure counts."""
    old = [score for score in scores if score.card and not score.is_complete]
    if old:
        pipelines = {id(score.pipeline): score.pipeline for score in old}.values()
        names = ", ".join(score.label for score in old)
        commands = [run_command(pipeline, old, "--force") for pipeline in pipelines]
        raise TransferError(
            "\n".join(
                [f"{names}: of an older format, without a main figure; run again:", *commands]
            )
        )


def _settings(score: Score) -> dict[str, Any]:
    setting = score.lineage.protocol_settings
    images = {f"{role} images": told for role, told in setting["images"].items()}
    return {
        "protocol": score.protocol,
        "version": setting["version"],
        **images,
        **setting["options"],
    }


def _apart(
    one: Score, other: Score, told: Sequence[dict[str, Any]] = ()
) -> dict[str, tuple[Any, Any]]:
    """What two differ in."""
    ours, theirs = told or (_settings(one), _settings(other))
    names = dict.fromkeys([*ours, *theirs])
    return {
        name: (ours.get(name), theirs.get(name))
        for name in names
        if ours.get(name) != theirs.get(name)
    }


def _refuse(one: Score, other: Score, told: Sequence[dict[str, Any]] = ()) -> None:
    apart = _apart(one, other, told)
    lines = [
        f"  {name}: {_brief(ours)} | {_brief(theirs)}"
        for name, (ours, theirs) in [*apart.items()][:SHOWN]
    ]
    lines += [f"  and {len(apart) - SHOWN} more"] if len(apart) > SHOWN else []
    advice = "Score both in the same way, or say with --stage NAME or --protocol NAME which scores are meant."
    raise UsageError(
        "\n".join(
            [
                f"'{one.label}' and '{other.label}' cannot be compared. They differ in",
                *lines,
                advice,
            ]
        )
    )


def _brief(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
