"""The finished scores of some pipeline files: which are asked for, and whether they may stand in one table."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transfer.api import Pipeline
from transfer.artifacts import ScoreCard, Scores
from transfer.comparison.lineage import Lineage, score_stages
from transfer.errors import CorruptArtifact, UsageError, did_you_mean
from transfer.execution.rerun_reasons import NOT_MADE, rerun_reason
from transfer.stage.base import PlannedStage
from transfer.storage.manifest import Manifest

SHOWN = 3  # differences, or stages in a command, that are told one by one


@dataclass
class Score:
    """One evaluating stage of one file, and what it made."""

    pipeline: Pipeline
    planned: PlannedStage
    prefix: str  # `FILE: ` where there are several
    lineage: Lineage
    manifest: Manifest | None = None
    card: ScoreCard | None = None
    missing_reason: str = ""  # there is no card
    damaged: bool = False

    @property
    def label(self) -> str:
        return self.prefix + self.planned.label

    @property
    def protocol(self) -> str:
        """As the scores name it; before they are there, as far as the plan knows."""
        if self.card is not None:
            return str(self.card.protocol)
        planned = self.planned
        return planned.stage.protocol_name() or planned.uses.removeprefix("evaluate/")

    @property
    def value(self) -> float:
        return float(self.card.figures[self.card.main])

    @property
    def is_complete(self) -> bool:
        """Whether it is there and says which figure counts."""
        return self.card is not None and self.card.is_complete

    def outcomes(self) -> Any:
        """What each test image added to the figure, or None; Damaged where that is not what was written."""
        store, one, name = self.pipeline.store, self.planned, "scores.h5"
        if name not in self.manifest.files:
            return None
        folder = store.folder(one.uses, one.key)
        store.check(
            folder, replace(self.manifest, files={name: self.manifest.files[name]}), thorough=True
        )
        return Scores(folder).outcomes(self.card.main)


class ManifestCache:
    """A store whose manifests are read once."""

    def __init__(self, pipeline: Pipeline):
        self.store = pipeline.store
        self.found: dict[str, Manifest | None] = {}
        self.last: dict[str, Any] = {}  # what the pipelines of a name made last

    def manifest(self, one: PlannedStage) -> Manifest | None:
        """None where there is none that can be trusted."""
        if one.key not in self.found:
            try:
                self.found[one.key] = self.store.find(one.uses, one.key)
            except CorruptArtifact:
                self.found[one.key] = None
        return self.found[one.key]

    def fill(self, score: Score) -> None:
        """Read what a stage made, or say why there is nothing to read."""
        one = score.planned
        folder = self.store.folder(one.uses, one.key)
        try:
            score.manifest = self.store.find(one.uses, one.key)
            if score.manifest is None or (stale := self._stale(score)):
                score.missing_reason = self._missing(score) if score.manifest is None else stale
                return
            own = {
                name: facts for name, facts in score.manifest.files.items() if name == "scores.json"
            }
            self.store.check(folder, replace(score.manifest, files=own))
            score.card = Scores(folder).card
        except CorruptArtifact as error:
            score.missing_reason, score.damaged = str(error), True

    def _missing(self, score: Score) -> str:
        """`not made yet`, or what has changed since it was made: an option, an input, the version of its protocol."""
        plan, store = score.pipeline.plan, self.store
        if plan.name not in self.last:
            self.last[plan.name] = store.last_run(plan.name)
        why = rerun_reason(store, plan, score.planned, self.last[plan.name])
        return why if why.startswith(NOT_MADE) else f"{NOT_MADE} as the file has it now ({why})"

    def _stale(self, score: Score) -> str:
        """What the score stands on that is no longer what was read; empty where all is."""
        for one in [*score.lineage.stages, score.planned]:
            manifest = self.manifest(one)
            for name, other in one.dependencies.items() if manifest else ():
                now = self.manifest(other)
                if (
                    now is not None
                    and name in manifest.inputs
                    and manifest.inputs[name]["digest"] != now.digest
                ):
                    return f"{one.name} read {name} that were made again since, with other bytes"
        return ""

    def seconds(self, score: Score) -> float | None:
        """Of all stages up to what is scored; None where one of them is gone."""
        manifests = [self.manifest(one) for one in score.lineage.stages]
        return None if None in manifests else sum(one.seconds for one in manifests)

    def training(self, score: Score) -> float | None:
        """Of the network that is scored alone: nothing where it was not trained; None where it is gone."""
        one = score.lineage.evaluated_model
        manifest = self.manifest(one) if one is not None else None
        return manifest and manifest.seconds * (one.stage.is_trained)

    def images(self, score: Score) -> int | None:
        """How many images its networks were trained on; None where somebody else trained one."""
        if any(one.stage.starts_from_weights() for one in score.lineage.teachers):
            return None
        packs = [(pack, self.manifest(pack)) for pack in score.lineage.training_packs]
        return sum(
            made.figures.get("images", pack.stage.count) if made else pack.stage.count
            for pack, made in packs
        )


def load_scores(pipelines: Sequence[Pipeline]) -> tuple[list[Score], dict[Any, ManifestCache]]:
    """All evaluating stages with what they made, and the stores that it came from, by their folders."""
    shelves = {one.store.root: ManifestCache(one) for one in pipelines}
    found = []
    for pipeline in pipelines:
        prefix = f"{pipeline.plan.file}: " if len(pipelines) > 1 else ""
        ours = [
            Score(pipeline, planned, prefix, Lineage(planned))
            for planned in score_stages(pipeline.plan)
        ]
        if not ours:
            raise UsageError(
                f"{pipeline.plan.file}: no stage of it evaluates anything (`uses: evaluate/...`)"
            )
        found += ours
    for score in found:
        shelves[score.pipeline.store.root].fill(score)
    return found, shelves


def scores_in(pipeline: Pipeline, scores: Iterable[Score]) -> list[Score]:
    """Those of one file."""
    return [score for score in scores if score.pipeline is pipeline]


def run_command(pipeline: Pipeline, scores: list[Score], *flags: str) -> str:
    """What makes these scores of a file."""
    ours = [score.planned for score in scores_in(pipeline, scores)]
    names = (
        [one.label for one in ours]
        if len(ours) <= SHOWN
        else list(dict.fromkeys(one.name for one in ours))
    )
    return shlex.join(["transfer", "run", str(pipeline.plan.file), *names, *flags, *pipeline.flags])


# Which are asked for?


def select_scores(
    pipelines: Sequence[Pipeline],
    found: list[Score],
    protocols: Sequence[str],
    stages: Sequence[str],
) -> list[Score]:
    """The scores of these stages and protocols, or all; UsageError for a name that none has, and for a file of none."""
    found = _named(found, stages, "evaluating stage", lambda one: [one.name, one.label, one.key])
    found = _named(found, protocols, "protocol", lambda one: _protocol_names(one), whole=True)
    for pipeline in pipelines:
        if not scores_in(pipeline, found):
            raise UsageError(
                f"{pipeline.plan.file}: no score of it is of the --stage and --protocol asked for"
            )
    return found


def _named(
    found: list[Score],
    wanted: Sequence[str],
    what: str,
    names_of: Callable[[Any], list[str]],
    whole: bool = False,
) -> list[Score]:
    names = {id(score): names_of(score if whole else score.planned) for score in found}
    for name in wanted:
        if not any(name in known for known in names.values()):
            raise UsageError(
                f"no {what} '{name}'{did_you_mean(name, {known[0] for known in names.values()})}"
            )
    return [score for score in found if not wanted or {*wanted} & {*names[id(score)]}]


def _protocol_names(score: Score) -> list[str]:
    """`linear/zhang2016-v1 (epochs 4)`, and each shorter way to say it, down to `zhang2016` and `linear`."""
    plain = score.protocol.partition(" (")[0]
    bare = plain.rpartition("-v")[0] or plain
    uses = score.planned.uses
    return [plain, score.protocol, bare, *bare.split("/"), uses, uses.rpartition("/")[2]]


# May they stand in one table?
