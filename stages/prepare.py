"""Preparation: what is done to features before anything learns from them. It weighs more than k does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from transfer.artifacts import Features
from transfer.artifacts.features import load_steps
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.feature_transforms import (
    L2,
    Step,
    fit_scaler,
    panel_transform,
    random_projection,
)
from transfer.numerics.pca import Whitening, fit_pca
from transfer.stage.base import Stage
from transfer.stage.feature_blocks import finite_blocks, non_finite_row
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
from transfer.storage.hdf5_tables import TableWriter, write_table
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext


class Prepare(Stage):
    """Features in, features out: steps in the order given, fitted on these features or taken over from another stage.

    Several features of the same images (`features: [a, b]`) are put side by side first: prepare each of them before,
    or the one of the largest values outweighs the others.

    Fitting is exact: every row counts, sums are in float64, and memory does not grow with the number of rows.
    """

    produces = Features
    seeded = False
    smoke = {"components": 16}

    features: OneOrMoreStages = stage_input(
        Features, "what is prepared; several are put side by side"
    )
    like: str | None = stage_input(
        Features,
        "a `prepare` stage whose fitted steps are applied instead of fitting new ones",
        optional=True,
    )
    steps: list[Literal["center", "standardize", "l2", "pca", "whiten", "project"]] = option(
        ["l2", "whiten"],
        "center: subtract the mean; standardize: unit deviation too; l2: unit length; "
        "pca, whiten: `components` directions; project: at random, to `projected` values",
    )
    components: int | None = option(
        None,
        "directions that are kept; none: as many as there are",
        applies_when={"steps": ["pca", "whiten"]},
        ge=1,
    )
    variance_floor: float = option(
        1e-4,
        "whitening takes an eigenvalue for no smaller than this share of the largest",
        applies_when={"steps": ["whiten"]},
        ge=0,
        lt=1,
    )
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["ledoit-wolf"] | None = option(
        None,
        "whitening draws the eigenvalues toward their mean by this share; ledoit-wolf: by the best one",
        applies_when={"steps": ["whiten"]},
    )
    projection_dim: int = option(
        512, "values that `project` leaves", applies_when={"steps": ["project"]}, ge=1
    )
    projection_seed: int = option(
        0,
        "of the random projection: another one",
        applies_when={"steps": ["project"]},
        ge=0,
        lt=2**32,
    )
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def validate_plan(self, planned: PlannedStage) -> None:
        """Something is to be done, there are rows enough, and what is taken over fits features of this kind."""
        features, like = inputs_named(planned.inputs, "features"), planned.inputs.get("like")
        check_side_by_side("features", features)
        if like is not None:
            if not isinstance(like.stage, Prepare):
                raise InvalidOption(
                    "like",
                    f"'{like.name}' ({like.uses}) has no fitted steps: name a stage that `uses: prepare`",
                )
            fitted = like
            while "like" in fitted.inputs:
                fitted = fitted.inputs["like"]
            theirs = inputs_named(fitted.inputs, "features")
            if [*map(planned_space, features)] != [*map(planned_space, theirs)]:
                ours, those = (", ".join(one.name for one in some) for some in (features, theirs))
                raise InvalidOption(
                    "like",
                    f"'{fitted.name}' was fitted on '{those}', which '{ours}' are not of one kind with",
                )
            for name, field in type(self).model_fields.items():
                fits = name == "steps" or "steps" in conditions(field)
                if fits and getattr(self, name) != field.default:
                    raise InvalidOption(
                        name,
                        f"the steps are those of '{fitted.name}', as they were fitted: leave it out",
                    )
            return
        if not self.steps and len(features) == 1:
            raise InvalidOption("steps", "an empty list does nothing")
        count = planned_count(features[0])
        if (
            count is not None
            and self.components
            and {"pca", "whiten"} & set(self.steps)
            and self.components >= count
        ):
            raise InvalidOption(
                "components",
                f"{self.components} components of {count} images: at most {count - 1} can be had",
            )
        after = self.steps[self.steps.index("project") :] if "project" in self.steps else []
        if {"pca", "whiten"} & set(after) and (self.components or 0) > self.projection_dim:
            raise InvalidOption(
                "components",
                f"{self.components} components of {self.projection_dim} projected values",
            )

    def validate_build(self, planned: PlannedStage) -> None:
        """No step keeps more values than it is given."""
        self.output_width(planned)

    def output_space(self, planned: PlannedStage) -> object:
        fitted = planned.inputs.get("like")
        return planned.key if fitted is None else planned_space(fitted)

    def output_width(self, planned: PlannedStage) -> int | None:
        """Values after all steps; InvalidOption where a step gets too few, None where unknown."""
        if "like" in planned.inputs:
            return planned_width(planned.inputs["like"])
        widths = [planned_width(one) for one in inputs_named(planned.inputs, "features")]
        width = None if None in widths else sum(widths)
        for step in self.steps if width else ():
            if step in ("pca", "whiten"):
                if (self.components or 0) > width:
                    raise InvalidOption(
                        "components", f"{self.components} of features of {width} values"
                    )
                width = self.components or min(width, (planned_count(planned) or width + 1) - 1)
            elif step == "project":
                if self.projection_dim >= width:
                    told = (
                        f"{self.projection_dim} values of features of {width}: leave `project` out"
                    )
                    raise InvalidOption("projection_dim", told)
                width = self.projection_dim
        return width

    def for_smoke_run(self) -> Stage:
        """A projection leaves as many values as the directions after it need, and fewer than those before it gave."""
        small = super().for_smoke_run()
        if "project" not in self.steps:
            return small
        last = {"pca", "whiten"} & {*self.steps[: self.steps.index("project")]}
        return small.model_copy(
            update={"projection_dim": min(self.projection_dim, 8 if last else 16)}
        )

    def run(self, context: StageContext) -> None:
        features: list[Features] = inputs_named(context.inputs, "features")
        like: Features | None = context.inputs.get("like")
        facts, width = dict(features[0].attributes), sum(one.shape[1] for one in features)
        source, before = features[0].space, features[0].attributes["preparation"]
        if len(features) > 1:
            ids, *others = (one.table.read("ids") for one in features)
            if not all(np.array_equal(ids, other) for other in others):
                raise TransferError(
                    "these features are of different images, and cannot stand side by side"
                )
            source, before = {"side by side": [one.space for one in features]}, ["side by side"]
            facts["layer"] = " + ".join(dict.fromkeys(one.attributes["layer"] for one in features))
        if like is None:
            names, steps, space = (
                list(self.steps),
                self._fit(context, features, width),
                {"prepare": context.key},
            )
        else:
            names, space = like.attributes["steps"], like.space
            steps = load_steps(like)
            fitted = width_before(steps) or width
            if fitted != width:
                raise TransferError(
                    f"the steps were fitted on {fitted} values, these features have {width}"
                )
            if like.attributes["source"] != source:
                raise TransferError(
                    "these features are not of the kind that the steps were fitted on (another network or layer)"
                )
        facts |= {
            "space": space,
            "source": source,
            "steps": names,
            "preparation": [*before, *names],
        }
        self._write(context, features, steps, facts)
        columns = {
            f"{i}.{name}": values for i, step in enumerate(steps) for name, values in step.items()
        }
        write_table(context.folder / "preparation.h5", columns)

    def _fit(self, context: StageContext, features: list[Features], width: int) -> list[Step]:
        steps: list[Step] = []

        def blocks() -> Iterator[numpy.ndarray]:
            mapped = panel_transform(steps)
            return (mapped(block) for _, block in finite_blocks(context, *features))

        count, device = len(features[0]), context.runtime.device
        if device.type != "cuda":
            device = torch.device("cpu")  # Apple's GPUs have no float64
        for name in self.steps:
            if name == "l2":
                steps.append(L2)
            elif name in ("center", "standardize"):
                steps.append(fit_scaler(blocks, width, name == "standardize", context.note))
            elif name == "project":
                steps.append(random_projection(width, self.projection_dim, self.projection_seed))
                width = self.projection_dim
            else:
                whiten = (
                    Whitening(self.variance_floor, self.shrinkage) if name == "whiten" else None
                )
                step, kept = fit_pca(
                    blocks, count, width, self.components, whiten, device, context.note
                )
                context.figures["variance kept"] = kept * context.figures.get("variance kept", 1.0)
                width = step["matrix"].shape[1]
                steps.append(step)
        return steps

    def _write(
        self,
        context: StageContext,
        features: list[Features],
        steps: list[Step],
        facts: dict[str, object],
    ) -> None:
        first = features[0]
        width = next(
            (step["matrix"].shape[1] for step in reversed(steps) if "matrix" in step), None
        )
        width = width or sum(one.shape[1] for one in features)
        others = {
            "ids": first.table.read("ids")
        }  # as they are kept: a million texts would take 100 MB
        if first.labels is not None:
            others["labels"] = first.labels
        mapped = panel_transform(steps)
        columns = {"features": ((width,), self.dtype)} | {
            name: ((), one.dtype.str) for name, one in others.items()
        }
        with (
            TableWriter(context.folder / "features.h5", len(first), columns, **facts) as table,
            context.progress("preparing", len(first), "images") as progress,
        ):
            for start, block in finite_blocks(context, *features):
                with np.errstate(over="ignore"):
                    prepared = mapped(block).astype(self.dtype)
                if (bad := non_finite_row(prepared)) is not None:
                    name = first.ids[start + bad]
                    raise TransferError(
                        f"the prepared features of {name} are too large for {self.dtype}: set `dtype: float32`"
                    )
                table.append(features=prepared)
                progress.advance(len(block))
            table.append(**others)
        context.figures.update(images=len(first), dimensions=width)


def width_before(steps: list[Step]) -> int | None:
    """How many values the steps take; None where they take any number."""
    return next((len(step.get("mean", step.get("matrix"))) for step in steps if step), None)
