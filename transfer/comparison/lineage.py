"""What a score stands on, read off the plan alone: pretext, networks, seeds, and the recipe that seeds share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from transfer.artifacts import Artifact, Model, Scores
from transfer.models.backbone import Backbone
from transfer.pipeline.plan import Plan
from transfer.stage.base import PlannedStage, upstream_stages
from transfer.storage.manifest import key_for

SAME_NETWORK = "itself"


def score_stages(plan: Plan) -> list[PlannedStage]:
    """The stages that evaluate something."""
    return [one for one in plan if issubclass(one.stage.produces, Scores)]


@dataclass(frozen=True)
class Lineage:
    """The stages that one score stands on."""

    score: PlannedStage

    @cached_property
    def evaluated_stage(self) -> PlannedStage | None:
        """What is evaluated: the first of what the protocol reads."""
        return next(iter(self.score.inputs.values()), None)

    @cached_property
    def stages(self) -> list[PlannedStage]:
        """Each after all that it reads, what is scored last; the packing of images is not among them."""
        return [] if self.evaluated_stage is None else upstream_stages(self.evaluated_stage)

    @cached_property
    def teachers(self) -> list[PlannedStage]:
        """The networks that the scored one learned from, the last of them last; or hand-made features; or itself."""
        before = self.stages[:-1]
        return (
            _making(before, Model) or [one for one in before if not one.inputs] or self.stages[-1:]
        )

    @property
    def pretext(self) -> str:
        """The tasks by the names that they are used under: `a → b` where one learned from the other, else `a + b`."""
        names = [one.uses.removeprefix("pretext/") for one in self.teachers]
        joints = [
            " → " if before in upstream_stages(one) else " + "
            for before, one in pairwise(self.teachers)
        ]
        return (
            "".join(part for pair in zip(["", *joints], names, strict=True) for part in pair)
            or "none"
        )

    @property
    def network(self) -> Backbone | None:
        """The network of the pretext."""
        return _backbone(self.teachers[-1]) if self.teachers else None

    @property
    def target(self) -> Backbone | str | None:
        """The network that was taught; `itself` where the pretext's own is scored, None where no network is."""
        return (
            SAME_NETWORK
            if self.evaluated_stage in self.teachers
            else _backbone(self.evaluated_stage)
        )

    @property
    def evaluated_model(self) -> PlannedStage | None:
        """The network that the score is about: the scored one, or the one whose clusters are scored."""
        is_network = self.evaluated_stage is not None and issubclass(
            self.evaluated_stage.stage.produces, Model
        )
        return self.evaluated_stage if is_network else next(reversed(self.teachers), None)

    @property
    def backbone(self) -> Backbone | None:
        """Of the network that the score is about."""
        return _backbone(self.evaluated_model)

    def is_pretext(self, uses: str) -> bool:
        """Whether the score is about that pretext's own network."""
        return self.evaluated_model is not None and self.evaluated_model.uses == uses

    def distilled_from(self, uses: str) -> bool:
        """Whether it is about another network that learned from it."""
        return (
            self.evaluated_model not in self.teachers
            and self.teachers[-1:] != []
            and self.teachers[-1].uses == uses
        )

    @cached_property
    def seed(self) -> str:
        """By what runs are paired: the matrix variable `seed`; else the seeds of all that draws."""
        if "seed" in self.score.member:
            return str(self.score.member["seed"])
        seeds = [one.seed for one in [*self.stages, self.score] if one.stage.seeded]
        return ",".join(map(str, dict.fromkeys(seeds)))

    @property
    def training_packs(self) -> list[PlannedStage]:
        """The packed images that any of its networks was trained on."""
        trained = [one for one in _making(self.stages, Model) if one.stage.is_trained]
        return list({pack.key: pack for one in trained for pack in one.images.values()}.values())

    @cached_property
    def recipe(self) -> str:
        """The same for runs that differ in nothing but their seeds."""
        return key_for({name: _recipe(one) for name, one in self.score.inputs.items()})

    @cached_property
    def protocol_settings(self) -> dict[str, Any]:
        """All that must agree if two scores are to stand in one column: method, version, options, image sets.

        Training images may be drawn by a seed, test images must be the very same.
        """
        stage, packs = self.score.stage, self.score.images.items()
        keys = {role: _recipe(pack) if role == "train" else pack.key for role, pack in packs}
        images = {role: f"{pack.name.partition('@')[0]} ({keys[role][:8]})" for role, pack in packs}
        options = _seedless(stage.identity())
        return {
            "uses": self.score.uses,
            "version": stage.version,
            "images": images,
            "options": options,
        }

    def options(self) -> dict[str, Any]:
        """Every option of every stage, as `cluster.k`; images by the stage that reads them."""
        found: dict[str, Any] = {}
        for one in self.stages:
            name = one.uses.rpartition("/")[2]
            found |= {
                f"{name}.{option}": value
                for option, value in _seedless(one.stage.identity()).items()
            }
            found |= {
                f"{name}.{role}": f"{pack.name} {pack.key[:6]}" for role, pack in one.images.items()
            }
        return found


def _making(stages: Any, kind: type[Artifact]) -> list[PlannedStage]:
    return [one for one in stages if issubclass(one.stage.produces, kind)]


def _backbone(one: PlannedStage | None) -> Backbone | None:
    return one.stage.backbone_spec() if one is not None else None


def _recipe(one: PlannedStage) -> str:
    identity = {name: value for name, value in one.identity.items() if name != "seed"}
    identity["options"] = _seedless(identity["options"])
    return key_for(
        identity | {"inputs": {name: _recipe(other) for name, other in one.dependencies.items()}}
    )


def _seedless(value: Any) -> Any:
    """Without options that are seeds themselves, such as `subset_seed` of an image set."""
    if isinstance(value, dict):
        return {
            name: _seedless(one)
            for name, one in value.items()
            if name != "seed" and not name.endswith("_seed")
        }
    return [_seedless(one) for one in value] if isinstance(value, list) else value


def describe_backbones(backbones: list[Backbone | None]) -> Iterator[str]:
    """A short name for each, `alexnet ×0.5`; with the options that tell two of one name apart."""
    for one in backbones:
        if one is None:
            yield "–"
            continue
        alike = [other for other in backbones if other is not None and _short(other) == _short(one)]
        values = one.model_dump(mode="json")
        apart = {
            name: value
            for name, value in values.items()
            if any(other.model_dump(mode="json").get(name) != value for other in alike)
        }
        yield _short(one) + "".join(f", {name} {value}" for name, value in apart.items())


def _short(backbone: Backbone) -> str:
    return backbone.name + (f" ×{backbone.width:g}" if backbone.width != 1 else "")
