"""The lineage of a score, read from the plan alone: pretext, networks, seeds, protocol settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from transfer.artifacts import Artifact, Model, Scores
from transfer.models.backbone import Backbone
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedPack, PlannedStage
from transfer.stage.upstream import upstream_stages
from transfer.storage.manifest import key_for
from transfer.utils.formatting import MISSING

SAME_NETWORK = "itself"
RANDOM, SUPERVISED = "pretext/random", "pretext/supervised"


def score_stages(plan: Plan) -> list[PlannedStage[Any]]:
    """The evaluation stages of a plan."""
    return _stages_producing(plan, Scores)


@dataclass(frozen=True)
class Lineage:
    """The stages that a score depends on."""

    score: PlannedStage[Any]

    @cached_property
    def evaluated_stage(self) -> PlannedStage[Any] | None:
        """The stage whose artifact is evaluated: the first input of the protocol."""
        return next(iter(self.score.inputs.values()), None)

    @cached_property
    def stages(self) -> list[PlannedStage[Any]]:
        """Upstream stages in topological order, ending with the evaluated one; no image packs."""
        return [] if self.evaluated_stage is None else upstream_stages(self.evaluated_stage)

    @cached_property
    def teachers(self) -> list[PlannedStage[Any]]:
        """The networks that the evaluated one learned from, in order.

        Without any: the stages of hand-made features; else the evaluated stage itself.
        """
        upstream = self.stages[:-1]
        networks = _stages_producing(upstream, Model)
        sources = [planned for planned in upstream if not planned.inputs]
        return networks or sources or self.stages[-1:]

    @property
    def pretext(self) -> str:
        """The teachers' methods: `a → b` where b learned from a, otherwise `a + b`."""
        if not self.teachers:
            return "none"
        text = _method_name(self.teachers[0])
        for previous, planned in pairwise(self.teachers):
            joint = " → " if previous in upstream_stages(planned) else " + "
            text += joint + _method_name(planned)
        return text

    @property
    def network(self) -> Backbone | None:
        """The network of the pretext task."""
        return _backbone(self.teachers[-1]) if self.teachers else None

    @property
    def target(self) -> Backbone | str | None:
        """The student network: `itself` where the teacher is evaluated, None without a network."""
        if self.evaluated_stage in self.teachers:
            return SAME_NETWORK
        return _backbone(self.evaluated_stage)

    @property
    def evaluated_model(self) -> PlannedStage[Any] | None:
        """The network that is evaluated, or the one whose clusters are evaluated."""
        planned = self.evaluated_stage
        if planned is not None and issubclass(planned.stage.produces, Model):
            return planned
        return self.teachers[-1] if self.teachers else None

    @property
    def backbone(self) -> Backbone | None:
        """The backbone of the evaluated network."""
        return _backbone(self.evaluated_model)

    def is_pretext(self, uses: str) -> bool:
        """Whether the evaluated network was made by this method itself."""
        return self.evaluated_model is not None and self.evaluated_model.uses == uses

    def distilled_from(self, uses: str) -> bool:
        """Whether the evaluated network is a student of a network made by this method."""
        if self.evaluated_model in self.teachers or not self.teachers:
            return False
        return self.teachers[-1].uses == uses

    @cached_property
    def seed(self) -> str:
        """The seed that pairs runs: the matrix variable `seed`, else the seeds of all stages."""
        if "seed" in self.score.member:
            return str(self.score.member["seed"])
        seeds = [planned.seed for planned in [*self.stages, self.score] if planned.stage.seeded]
        return ",".join(map(str, dict.fromkeys(seeds)))

    @property
    def training_packs(self) -> list[PlannedPack]:
        """The packed images on which any of its networks was trained."""
        packs: dict[str, PlannedPack] = {}
        for planned in _stages_producing(self.stages, Model):
            if planned.stage.is_trained:
                packs |= {pack.key: pack for pack in planned.images.values()}
        return list(packs.values())

    @cached_property
    def recipe(self) -> str:
        """A key that runs share if they differ only in their seeds."""
        return key_for({name: _recipe(source) for name, source in self.score.inputs.items()})

    @cached_property
    def protocol_settings(self) -> dict[str, Any]:
        """What scores of one column share: method, version, options and image sets.

        Training images may be sampled with a seed; test images must be the same.
        """
        stage, images = self.score.stage, {}
        for role, pack in self.score.images.items():
            key = _recipe(pack) if role == "train" else pack.key
            images[role] = f"{pack.name.partition('@')[0]} ({key[:8]})"
        return {
            "uses": self.score.uses,
            "version": stage.version,
            "images": images,
            "options": _without_seeds(stage.identity()),
        }

    def options(self) -> dict[str, Any]:
        """Every option of every stage, as `cluster.k`; images by the stage that reads them."""
        options: dict[str, Any] = {}
        for planned in self.stages:
            method = planned.uses.rpartition("/")[2]
            for option, value in _without_seeds(planned.stage.identity()).items():
                options[f"{method}.{option}"] = value
            for role, pack in planned.images.items():
                options[f"{method}.{role}"] = f"{pack.name} {pack.key[:6]}"
        return options


def _stages_producing(
    stages: Iterable[PlannedStage[Any]], kind: type[Artifact]
) -> list[PlannedStage[Any]]:
    return [planned for planned in stages if issubclass(planned.stage.produces, kind)]


def _method_name(planned: PlannedStage[Any]) -> str:
    return planned.uses.removeprefix("pretext/")


def _backbone(planned: PlannedStage[Any] | None) -> Backbone | None:
    return None if planned is None else planned.stage.backbone_spec()


def _recipe(planned: PlannedStage[Any]) -> str:
    """A key that stages share if they and all upstream stages differ only in seeds."""
    identity = {name: value for name, value in planned.identity.items() if name != "seed"}
    identity["options"] = _without_seeds(identity["options"])
    identity["inputs"] = {name: _recipe(source) for name, source in planned.dependencies.items()}
    return key_for(identity)


def _without_seeds(value: Any) -> Any:
    """Drop options that are seeds, such as `subset_seed` of an image set."""
    if isinstance(value, dict):
        return {
            name: _without_seeds(nested)
            for name, nested in value.items()
            if name != "seed" and not name.endswith("_seed")
        }
    return [_without_seeds(nested) for nested in value] if isinstance(value, list) else value


def describe_backbones(backbones: list[Backbone | None]) -> Iterator[str]:
    """A short name for each, `alexnet ×0.5`, with the options in which namesakes differ."""
    for backbone in backbones:
        if backbone is None:
            yield MISSING
            continue
        name = _short_name(backbone)
        namesakes = [
            other.model_dump(mode="json")
            for other in backbones
            if other is not None and _short_name(other) == name
        ]
        for option, value in backbone.model_dump(mode="json").items():
            if any(namesake.get(option) != value for namesake in namesakes):
                name += f", {option} {value}"
        yield name


def _short_name(backbone: Backbone) -> str:
    return backbone.name + (f" ×{backbone.width:g}" if backbone.width != 1 else "")
