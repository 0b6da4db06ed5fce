"""Preparation of features before clustering or training; it matters more than k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from transfer.artifacts import Features
from transfer.artifacts.features import load_steps
from transfer.datasets.packed.label_facts import image_count
from transfer.errors import InvalidOption, TransferError
from transfer.stage.base import Stage
from transfer.stage.feature_space import (
    check_side_by_side,
    planned_count,
    planned_space,
    planned_width,
)
from transfer.stage.options import (
    OneOrMoreStages,
    conditions,
    inputs_named,
    option,
    stage_input,
)
from transfer.stage.prepared_features import (
    fit_steps,
    input_width,
    joined_attributes,
    write_prepared,
)
from transfer.stage.upstream import source_pack
from transfer.storage.hdf5_tables import write_table

if TYPE_CHECKING:
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext


class Prepare(Stage):
    """Apply steps to features in the given order, fitted on them or taken from another stage.

    Several features of the same images (`features: [a, b]`) are first joined side by side. Prepare
    each of them before; otherwise the one with the largest values outweighs the others.

    Fitting is exact: it uses every row, sums are in float64, and memory does not grow with the
    number of rows.
    """

    produces = Features
    seeded = False
    smoke = {"components": 16}

    features: OneOrMoreStages = stage_input(
        Features, "the features to prepare; several are joined side by side"
    )
    like: str | None = stage_input(
        Features,
        "a `prepare` stage whose fitted steps are applied instead of fitting new ones",
        optional=True,
    )
    steps: list[Literal["center", "standardize", "l2", "pca", "whiten", "project"]] = option(
        ["l2", "whiten"],
        "center: subtract the mean; standardize: unit deviation too; l2: unit length; pca, whiten: "
        "`components` directions; project: random directions, to `projection_dim` values",
    )
    components: int | None = option(
        None,
        "directions that are kept; none: as many as possible",
        applies_when={"steps": ["pca", "whiten"]},
        ge=1,
    )
    variance_floor: float = option(
        1e-4,
        "smallest eigenvalue that whitening divides by, as a share of the largest",
        applies_when={"steps": ["whiten"]},
        ge=0,
        lt=1,
    )
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["ledoit-wolf"] | None = option(
        None,
        "share by which whitening moves eigenvalues to their mean; ledoit-wolf: the best share",
        applies_when={"steps": ["whiten"]},
    )
    projection_dim: int = option(
        512, "values that `project` leaves", applies_when={"steps": ["project"]}, ge=1
    )
    projection_seed: int = option(
        0,
        "seed of the random projection",
        applies_when={"steps": ["project"]},
        ge=0,
        lt=2**32,
    )
    dtype: Literal["float16", "float32"] = option("float16", "number format of the saved features")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for empty or impossible steps, or steps fitted on other features."""
        features, like = inputs_named(planned.inputs, "features"), planned.inputs.get("like")
        check_side_by_side("features", features)
        if like is not None:
            self._check_like(features, like)
        else:
            self._check_steps(features)

    def _check_like(self, features: list[PlannedStage[Any]], like: PlannedStage[Any]) -> None:
        if not isinstance(like.stage, Prepare):
            raise InvalidOption(
                "like",
                f"'{like.name}' ({like.uses}) has no fitted steps; name a stage that "
                "`uses: prepare`",
            )
        fitted = like
        while "like" in fitted.inputs:
            fitted = fitted.inputs["like"]
        fitted_on = inputs_named(fitted.inputs, "features")
        if [*map(planned_space, features)] != [*map(planned_space, fitted_on)]:
            names = ", ".join(source.name for source in features)
            fitted_names = ", ".join(source.name for source in fitted_on)
            raise InvalidOption(
                "like",
                f"'{names}' and '{fitted_names}', on which '{fitted.name}' was fitted, differ in "
                "network, layer, pooling or preparation",
            )
        for name, field in type(self).model_fields.items():
            is_fitted = name == "steps" or "steps" in conditions(field)
            if is_fitted and getattr(self, name) != field.default:
                raise InvalidOption(
                    name, f"the fitted steps are those of '{fitted.name}'; remove this option"
                )

    def _check_steps(self, features: list[PlannedStage[Any]]) -> None:
        if not self.steps and len(features) == 1:
            raise InvalidOption("steps", "an empty list does nothing")
        self._check_components(planned_count(features[0]))
        after = self.steps[self.steps.index("project") :] if "project" in self.steps else []
        components = self.components or 0
        if {"pca", "whiten"} & set(after) and components > self.projection_dim:
            raise InvalidOption(
                "components", f"{components} components of {self.projection_dim} projected values"
            )

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check `components` for a subset by classes, whose images are counted by their labels."""
        pack = source_pack(inputs_named(planned.inputs, "features")[0])
        if pack is not None and "like" not in planned.inputs:
            self._check_components(image_count(pack.stage))

    def _check_components(self, count: int | None) -> None:
        if count is None or not {"pca", "whiten"} & set(self.steps):
            return
        if count < 2:
            raise InvalidOption("steps", "directions need two images or more, and there is one")
        if (self.components or 0) >= count:
            raise InvalidOption(
                "components", f"{self.components} components of {count} images: at most {count - 1}"
            )

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption if a step keeps more values than it is given."""
        self.output_width(planned)

    def prepared_from(self, planned: PlannedStage[Any]) -> list[PlannedStage[Any]]:
        like = planned.inputs.get("like")
        if like is not None:
            return like.stage.prepared_from(like)
        return inputs_named(planned.inputs, "features")

    def output_space(self, planned: PlannedStage[Any]) -> object:
        fitted = planned.inputs.get("like")
        return planned.key if fitted is None else planned_space(fitted)

    def output_width(self, planned: PlannedStage[Any]) -> int | None:
        """Values of a row after all steps; InvalidOption if a step is given too few."""
        if "like" in planned.inputs:
            return planned_width(planned.inputs["like"])
        width = 0
        for source in inputs_named(planned.inputs, "features"):
            source_width = planned_width(source)
            if source_width is None:
                return None
            width += source_width
        for step in self.steps if width else ():
            if step in ("pca", "whiten"):
                if (self.components or 0) > width:
                    raise InvalidOption(
                        "components",
                        f"{self.components} components are more than the {width} values of "
                        "the features",
                    )
                count = planned_count(planned)
                width = self.components or (min(width, count - 1) if count else width)
            elif step == "project":
                if self.projection_dim >= width:
                    raise InvalidOption(
                        "projection_dim",
                        f"{self.projection_dim} values are not fewer than the {width} of the "
                        "features; lower it, or leave `project` out",
                    )
                width = self.projection_dim
        return width

    def for_smoke_run(self) -> Stage:
        """Limit a projection too, between the values of the steps before it and after it."""
        small = super().for_smoke_run()
        if "project" not in self.steps:
            return small
        before = self.steps[: self.steps.index("project")]
        limit = 8 if {"pca", "whiten"} & set(before) else 16
        return small.model_copy(update={"projection_dim": min(self.projection_dim, limit)})

    def run(self, context: StageContext) -> None:
        features: list[Features] = inputs_named(context.inputs, "features")
        like: Features | None = context.inputs.get("like")
        attributes = joined_attributes(features)
        if like is None:
            names, space = list(self.steps), {"prepare": context.key}
            steps = fit_steps(self, context, features)
        else:
            names, space = like.attributes["steps"], like.space
            steps = load_steps(like)
            width = sum(source.shape[1] for source in features)
            fitted_width = input_width(steps) or width
            if fitted_width != width:
                raise TransferError(
                    f"the steps were fitted on {fitted_width} values, these features have {width}"
                )
            if like.attributes["source"] != attributes["source"]:
                raise TransferError(
                    "these features and those that the steps were fitted on differ in network, "
                    "layer, pooling or preparation"
                )
        attributes |= {
            "space": space,
            "steps": names,
            "preparation": [*attributes["preparation"], *names],
        }
        write_prepared(context, features, steps, self.dtype, attributes)
        columns = {
            f"{number}.{name}": values
            for number, step in enumerate(steps)
            for name, values in step.items()
        }
        write_table(context.folder / "preparation.h5", columns)
