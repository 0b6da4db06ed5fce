"""Preparation: what is done to features before they are clustered. It weighs more than k does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from stages._space import count_of, space_of
from transfer.artifacts import Features
from transfer.errors import BadOption, TransferError
from transfer.lazy import np, torch
from transfer.preparation import Step, apply, directions, scaling
from transfer.stage import Stage, option, reads
from transfer.tables import Table, TableWriter, encode_strings, write_table

if TYPE_CHECKING:
    import numpy

    from transfer.plan import Planned
    from transfer.work import Work


class Prepare(Stage):
    """Features in, features out: steps in the order given, fitted on these features or taken over from another stage.

    Fitting is exact: every row counts, sums are in float64, and memory does not grow with the number of rows.
    """

    produces = Features
    seeded = False
    smoke = {"components": 16}

    features: str = reads(Features, "what is prepared")
    like: str | None = reads(
        Features, "a `prepare` stage whose fitted steps are applied instead of fitting new ones", optional=True
    )
    steps: list[Literal["centre", "standardise", "l2", "pca", "whiten"]] = option(
        ["l2", "whiten"],
        "centre: subtract the mean; standardise: unit deviation too; l2: unit length; "
        "pca, whiten: `components` directions",
    )
    components: int | None = option(None, "directions that pca and whiten keep; none: as many as there are", ge=1)
    floor: float = option(
        1e-4, "whitening takes an eigenvalue for no smaller than this share of the largest", ge=0, lt=1
    )
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def check(self, planned: Planned) -> None:
        """Something is to be done, there are rows enough, and what is taken over fits features of this kind."""
        features, like = planned.inputs["features"], planned.inputs.get("like")
        if like is not None:
            if not isinstance(like.stage, Prepare):
                raise BadOption(
                    "like", f"'{like.name}' ({like.uses}) has no fitted steps: name a stage that `uses: prepare`"
                )
            fitted = like
            while "like" in fitted.inputs:
                fitted = fitted.inputs["like"]
            if space_of(features) != space_of(fitted.inputs["features"]):
                theirs = fitted.inputs["features"].name
                raise BadOption(
                    "like",
                    f"'{fitted.name}' was fitted on '{theirs}', which '{features.name}' are not of one kind with",
                )
            return
        if not self.steps:
            raise BadOption("steps", "an empty list does nothing")
        count = count_of(features)
        if count is not None and self.components and {"pca", "whiten"} & set(self.steps) and self.components >= count:
            raise BadOption(
                "components", f"{self.components} components of {count} images: at most {count - 1} can be had"
            )

    def run(self, work: Work) -> None:
        features: Features = work.inputs["features"]
        like: Features | None = work.inputs.get("like")
        facts = dict(features.attributes)
        if like is None:
            names, steps, space = list(self.steps), self._fit(work, features), {"prepare": work.key}
        else:
            names, space = like.attributes["steps"], like.space
            steps = _load(Table(like.folder / "preparation.h5"), names)
            width = next((len(step["mean"]) for step in steps if step), features.shape[1])
            if width != features.shape[1]:
                raise TransferError(f"the steps were fitted on {width} values, these features have {features.shape[1]}")
            if like.attributes["source"] != features.space:
                raise TransferError(
                    "these features are not of the kind that the steps were fitted on (another network or layer)"
                )
        facts |= {"space": space, "source": features.space, "steps": names}
        facts |= {"preparation": [*features.attributes["preparation"], *names]}
        self._write(work, features, steps, facts)
        columns = {f"{i}.{name}": values for i, step in enumerate(steps) for name, values in step.items()}
        write_table(work.folder / "preparation.h5", columns)

    def _fit(self, work: Work, features: Features) -> list[Step]:
        steps: list[Step] = []

        def blocks() -> Iterator[numpy.ndarray]:
            return (apply(steps, block) for _, block in _rows(work, features))

        width, device = features.shape[1], work.machine.device
        if device.type != "cuda":
            device = torch.device("cpu")  # Apple's GPUs have no float64
        for name in self.steps:
            if name == "l2":
                steps.append({})
            elif name in ("centre", "standardise"):
                steps.append(scaling(blocks, width, name == "standardise", work.note))
            else:
                floor = self.floor if name == "whiten" else None
                step, kept = directions(blocks, len(features), width, self.components, floor, device, work.note)
                work.figures["variance kept"] = kept
                width = step["matrix"].shape[1]
                steps.append(step)
        return steps

    def _write(self, work: Work, features: Features, steps: list[Step], facts: dict[str, object]) -> None:
        width = next((step["matrix"].shape[1] for step in reversed(steps) if "matrix" in step), features.shape[1])
        others = {"ids": encode_strings(features.ids)}
        if features.labels is not None:
            others["labels"] = features.labels
        columns = {"features": ((width,), self.dtype)} | {name: ((), one.dtype.str) for name, one in others.items()}
        with (
            TableWriter(work.folder / "features.h5", len(features), columns, **facts) as table,
            work.progress("preparing", len(features), "images") as progress,
        ):
            for first, block in _rows(work, features):
                with np.errstate(over="ignore"):
                    prepared = apply(steps, block).astype(self.dtype)
                if not np.isfinite(prepared).all():
                    name = features.ids[first + int((~np.isfinite(prepared).all(axis=1)).argmax())]
                    raise TransferError(
                        f"the prepared features of {name} are too large for {self.dtype}: set `dtype: float32`"
                    )
                table.append(features=prepared)
                progress.advance(len(block))
            table.append(**others)
        work.figures.update(images=len(features), dimensions=width)


def _rows(work: Work, features: Features) -> Iterator[tuple[int, numpy.ndarray]]:
    """The blocks of features, each looked at for values that are no numbers."""
    for first, block in features.blocks():
        work.pause_point()
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            name = features.ids[first + int((~finite).argmax())]
            raise TransferError(f"the features of {name} are not finite numbers")
        yield first, block


def _load(table: Table, names: list[str]) -> list[Step]:
    parts = ("mean", "matrix", "scale")
    return [{part: table.read(f"{i}.{part}") for part in parts if f"{i}.{part}" in table} for i in range(len(names))]
