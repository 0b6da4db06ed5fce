"""Preparation: what is done to features before anything learns from them. It weighs more than k does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from stages._features import sound_blocks, unsound
from stages._space import check_side_by_side, count_of, space_of, width_of
from transfer.artifacts import Features
from transfer.errors import BadOption, TransferError
from transfer.lazy import np, torch
from transfer.preparation import Step, Whitening, directions, mapping, projection, scaling
from transfer.stage import Names, Stage, counts_where, option, reads, several
from transfer.tables import Table, TableWriter, write_table

if TYPE_CHECKING:
    import numpy

    from transfer.plan import Planned
    from transfer.work import Work


class Prepare(Stage):
    """Features in, features out: steps in the order given, fitted on these features or taken over from another stage.

    Several features of the same images (`features: [a, b]`) are put side by side first: prepare each of them before,
    or the one of the largest values outweighs the others.

    Fitting is exact: every row counts, sums are in float64, and memory does not grow with the number of rows.
    """

    produces = Features
    seeded = False
    smoke = {"components": 16}

    features: Names = reads(Features, "what is prepared; several are put side by side")
    like: str | None = reads(
        Features, "a `prepare` stage whose fitted steps are applied instead of fitting new ones", optional=True
    )
    steps: list[Literal["centre", "standardise", "l2", "pca", "whiten", "project"]] = option(
        ["l2", "whiten"],
        "centre: subtract the mean; standardise: unit deviation too; l2: unit length; "
        "pca, whiten: `components` directions; project: at random, to `projected` values",
    )
    components: int | None = option(
        None, "directions that are kept; none: as many as there are", where={"steps": ["pca", "whiten"]}, ge=1
    )
    floor: float = option(
        1e-4,
        "whitening takes an eigenvalue for no smaller than this share of the largest",
        where={"steps": ["whiten"]},
        ge=0,
        lt=1,
    )
    shrinkage: Annotated[float, Field(ge=0, le=1)] | Literal["ledoit-wolf"] | None = option(
        None,
        "whitening draws the eigenvalues towards their mean by this share; ledoit-wolf: by the best one",
        where={"steps": ["whiten"]},
    )
    projected: int = option(512, "values that `project` leaves", where={"steps": ["project"]}, ge=1)
    projection_seed: int = option(
        0, "of the random projection: another one", where={"steps": ["project"]}, ge=0, lt=2**32
    )
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def check(self, planned: Planned) -> None:
        """Something is to be done, there are rows enough, and what is taken over fits features of this kind."""
        features, like = several(planned.inputs, "features"), planned.inputs.get("like")
        check_side_by_side("features", features)
        if like is not None:
            if not isinstance(like.stage, Prepare):
                raise BadOption(
                    "like", f"'{like.name}' ({like.uses}) has no fitted steps: name a stage that `uses: prepare`"
                )
            fitted = like
            while "like" in fitted.inputs:
                fitted = fitted.inputs["like"]
            theirs = several(fitted.inputs, "features")
            if [*map(space_of, features)] != [*map(space_of, theirs)]:
                ours, those = (", ".join(one.name for one in some) for some in (features, theirs))
                raise BadOption(
                    "like", f"'{fitted.name}' was fitted on '{those}', which '{ours}' are not of one kind with"
                )
            for name, field in type(self).model_fields.items():
                fits = name == "steps" or "steps" in counts_where(field)
                if fits and getattr(self, name) != field.default:
                    raise BadOption(name, f"the steps are those of '{fitted.name}', as they were fitted: leave it out")
            return
        if not self.steps and len(features) == 1:
            raise BadOption("steps", "an empty list does nothing")
        count = count_of(features[0])
        if count is not None and self.components and {"pca", "whiten"} & set(self.steps) and self.components >= count:
            raise BadOption(
                "components", f"{self.components} components of {count} images: at most {count - 1} can be had"
            )
        after = self.steps[self.steps.index("project") :] if "project" in self.steps else []
        if {"pca", "whiten"} & set(after) and (self.components or 0) > self.projected:
            raise BadOption("components", f"{self.components} components of {self.projected} projected values")

    def rehearse(self, planned: Planned) -> None:
        """No step keeps more values than it is given."""
        self.planned_width(planned)

    def planned_width(self, planned: Planned) -> int | None:
        """How many values there will be, None where it is not known; BadOption where a step has too few."""
        if "like" in planned.inputs:
            return width_of(planned.inputs["like"])
        widths = [width_of(one) for one in several(planned.inputs, "features")]
        width = None if None in widths else sum(widths)
        for step in self.steps if width else ():
            if step in ("pca", "whiten"):
                if (self.components or 0) > width:
                    raise BadOption("components", f"{self.components} of features of {width} values")
                width = self.components or min(width, (count_of(planned) or width + 1) - 1)
            elif step == "project":
                if self.projected >= width:
                    told = f"{self.projected} values of features of {width}: leave `project` out"
                    raise BadOption("projected", told)
                width = self.projected
        return width

    def smoked(self) -> Stage:
        """A projection leaves as many values as the directions after it need, and fewer than those before it gave."""
        small = super().smoked()
        if "project" not in self.steps:
            return small
        last = {"pca", "whiten"} & {*self.steps[: self.steps.index("project")]}
        return small.model_copy(update={"projected": min(self.projected, 8 if last else 16)})

    def run(self, work: Work) -> None:
        features: list[Features] = several(work.inputs, "features")
        like: Features | None = work.inputs.get("like")
        facts, width = dict(features[0].attributes), sum(one.shape[1] for one in features)
        source, before = features[0].space, features[0].attributes["preparation"]
        if len(features) > 1:
            ids, *others = (one.table.read("ids") for one in features)
            if not all(np.array_equal(ids, other) for other in others):
                raise TransferError("these features are of different images, and cannot stand side by side")
            source, before = {"side by side": [one.space for one in features]}, ["side by side"]
            facts["layer"] = " + ".join(dict.fromkeys(one.attributes["layer"] for one in features))
        if like is None:
            names, steps, space = list(self.steps), self._fit(work, features, width), {"prepare": work.key}
        else:
            names, space = like.attributes["steps"], like.space
            steps = load_steps(like)
            fitted = width_before(steps) or width
            if fitted != width:
                raise TransferError(f"the steps were fitted on {fitted} values, these features have {width}")
            if like.attributes["source"] != source:
                raise TransferError(
                    "these features are not of the kind that the steps were fitted on (another network or layer)"
                )
        facts |= {"space": space, "source": source, "steps": names, "preparation": [*before, *names]}
        self._write(work, features, steps, facts)
        columns = {f"{i}.{name}": values for i, step in enumerate(steps) for name, values in step.items()}
        write_table(work.folder / "preparation.h5", columns)

    def _fit(self, work: Work, features: list[Features], width: int) -> list[Step]:
        steps: list[Step] = []

        def blocks() -> Iterator[numpy.ndarray]:
            mapped = mapping(steps)
            return (mapped(block) for _, block in sound_blocks(work, *features))

        count, device = len(features[0]), work.machine.device
        if device.type != "cuda":
            device = torch.device("cpu")  # Apple's GPUs have no float64
        for name in self.steps:
            if name == "l2":
                steps.append({})
            elif name in ("centre", "standardise"):
                steps.append(scaling(blocks, width, name == "standardise", work.note))
            elif name == "project":
                steps.append(projection(width, self.projected, self.projection_seed))
                width = self.projected
            else:
                whiten = Whitening(self.floor, self.shrinkage) if name == "whiten" else None
                step, kept = directions(blocks, count, width, self.components, whiten, device, work.note)
                work.figures["variance kept"] = kept * work.figures.get("variance kept", 1.0)
                width = step["matrix"].shape[1]
                steps.append(step)
        return steps

    def _write(self, work: Work, features: list[Features], steps: list[Step], facts: dict[str, object]) -> None:
        first = features[0]
        width = next((step["matrix"].shape[1] for step in reversed(steps) if "matrix" in step), None)
        width = width or sum(one.shape[1] for one in features)
        others = {"ids": first.table.read("ids")}  # as they are kept: a million texts would take 100 MB
        if first.labels is not None:
            others["labels"] = first.labels
        mapped = mapping(steps)
        columns = {"features": ((width,), self.dtype)} | {name: ((), one.dtype.str) for name, one in others.items()}
        with (
            TableWriter(work.folder / "features.h5", len(first), columns, **facts) as table,
            work.progress("preparing", len(first), "images") as progress,
        ):
            for start, block in sound_blocks(work, *features):
                with np.errstate(over="ignore"):
                    prepared = mapped(block).astype(self.dtype)
                if (bad := unsound(prepared)) is not None:
                    name = first.ids[start + bad]
                    raise TransferError(
                        f"the prepared features of {name} are too large for {self.dtype}: set `dtype: float32`"
                    )
                table.append(features=prepared)
                progress.advance(len(block))
            table.append(**others)
        work.figures.update(images=len(first), dimensions=width)


def load_steps(prepared: Features) -> list[Step]:
    """The fitted steps that prepared features went through last."""
    table, parts = Table(prepared.folder / "preparation.h5"), ("mean", "matrix", "scale")
    return [
        {part: table.read(f"{i}.{part}") for part in parts if f"{i}.{part}" in table}
        for i in range(len(prepared.attributes["steps"]))
    ]


def width_before(steps: list[Step]) -> int | None:
    """How many values the steps take; None where they take any number."""
    return next((len(step.get("mean", step.get("matrix"))) for step in steps if step), None)
