"""Preparation: what is done to features before they are clustered. It weighs more than k does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from transfer.artifacts import Features
from transfer.errors import BadOption, TransferError
from transfer.lazy import np, torch
from transfer.stage import Stage, option, reads
from transfer.tables import Table, TableWriter, encode_strings, write_table

if TYPE_CHECKING:
    import numpy

    from transfer.pipeline import Planned
    from transfer.work import Work

Step = dict[str, "numpy.ndarray"]  # a fitted step: `mean` and `matrix` or `scale`; empty: rows to unit length
Blocks = Callable[[], "Iterator[numpy.ndarray]"]


class Prepare(Stage):
    """Features in, features out: steps in the order given, fitted on these features or taken over from another stage.

    Fitting is exact: every row counts, sums are in float64, and memory does not grow with the number of rows.
    """

    produces = Features
    seeded = False
    smoke = {"components": 16}

    features: str = reads(Features, "what is prepared")
    like: str | None = reads(
        Features,
        "a `prepare` stage whose fitted steps are applied instead of fitting new ones",
        optional=True,
    )
    steps: list[Literal["centre", "standardise", "l2", "pca", "whiten"]] = option(
        ["l2", "whiten"],
        "centre: subtract the mean; standardise: unit deviation too; l2: unit length; pca, whiten: `components` directions",
    )
    components: int | None = option(None, "directions that pca and whiten keep; none: as many as there are", ge=1)
    floor: float = option(
        1e-4, "whitening takes an eigenvalue for no smaller than this share of the largest", ge=0, lt=1
    )
    dtype: Literal["float16", "float32"] = option("float16", "how features are kept")

    def check(self, planned: Planned) -> None:
        """Something is to be done, and what is taken over was fitted by a stage of this kind."""
        like = planned.inputs.get("like")
        if like is not None and not isinstance(like.stage, Prepare):
            raise BadOption(
                "like", f"'{like.name}' ({like.uses}) has no fitted steps: name a stage that `uses: prepare`"
            )
        if like is None and not self.steps:
            raise BadOption("steps", "an empty list does nothing")

    def run(self, work: Work) -> None:
        features: Features = work.inputs["features"]
        like: Features | None = work.inputs.get("like")
        if like is None:
            names, steps, space = list(self.steps), self._fit(work, features), {"prepare": work.key}
        else:
            names, space = like.attributes["preparation"], like.space
            steps = _load(Table(like.folder / "preparation.h5"), names)
        if len(steps[0].get("mean", features.shape)) != features.shape[1] and "mean" in steps[0]:
            raise TransferError(
                f"the steps were fitted on {len(steps[0]['mean'])} values, these features have {features.shape[1]}"
            )
        self._write(work, features, steps, names, space)
        columns = {f"{i}.{name}": values for i, step in enumerate(steps) for name, values in step.items()}
        write_table(work.folder / "preparation.h5", columns)

    def _fit(self, work: Work, features: Features) -> list[Step]:
        steps: list[Step] = []
        for name in self.steps:

            def blocks() -> Iterator[numpy.ndarray]:
                for _, block in features.blocks():
                    yield apply(steps, block)
                    work.pause_point()

            steps.append(self._fit_step(name, blocks, len(features), work))
        return steps

    def _fit_step(self, name: str, blocks: Blocks, count: int, work: Work) -> Step:
        if name == "l2":
            return {}
        mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks()) / count
        if name == "centre":
            return {"mean": mean.astype(np.float32)}
        if name == "standardise":
            variance = sum(np.square(block - mean).sum(axis=0) for block in blocks()) / count
            constant = variance < 1e-12 * max(variance.max(), 1e-30)
            if constant.any():
                work.note(f"{int(constant.sum())} of {len(mean)} values are the same for all images; they become zero")
            scale = np.where(constant, 0, 1 / np.sqrt(np.where(constant, 1, variance)))
            return {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
        return self._principal(name, blocks, count, mean, work)

    def _principal(self, name: str, blocks: Blocks, count: int, mean: numpy.ndarray, work: Work) -> Step:
        """Directions of the largest variance; for `whiten`, each scaled to unit variance."""
        wanted, limit = self.components or min(len(mean), count - 1), min(len(mean), count - 1)
        if wanted > limit:
            raise TransferError(
                f"{wanted} components of {count} rows of {len(mean)} values: at most {limit} can be had"
            )
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for block in blocks():
            centred = torch.from_numpy(block.astype(np.float64) - mean)
            covariance.addmm_(centred.T, centred)
        values, vectors = torch.linalg.eigh(covariance / (count - 1))
        values, vectors = values.flip(0)[:wanted].clamp(min=0), vectors.flip(1)[:, :wanted]
        # An eigenvector's sign means nothing: the largest entry is made positive, so that every machine agrees.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        vectors = vectors * torch.where(largest < 0, -1.0, 1.0)
        small = values < max(self.floor, 1e-12) * values[0]
        if name == "whiten":
            if small.any():
                work.note(
                    f"{int(small.sum())} of {wanted} directions have less variance than the floor: they are not blown up to one"
                )
            vectors = vectors / values.clamp(min=max(self.floor, 1e-12) * float(values[0])).sqrt()
        kept = float(values.sum() / covariance.diagonal().sum() * (count - 1))
        work.figures.update({"variance kept": kept})
        return {"mean": mean.astype(np.float32), "matrix": vectors.float().numpy()}

    def _write(
        self, work: Work, features: Features, steps: list[Step], names: list[str], space: dict[str, str]
    ) -> None:
        width = next((step["matrix"].shape[1] for step in reversed(steps) if "matrix" in step), features.shape[1])
        ids = encode_strings(features.ids)
        columns = {"features": ((width,), self.dtype), "ids": ((), ids.dtype.str)}
        labels = {} if features.labels is None else {"labels": features.labels}
        columns |= {"labels": ((), "int64")} if labels else {}
        facts = {**features.attributes, "space": space, "preparation": names}
        with (
            TableWriter(work.folder / "features.h5", len(features), columns, **facts) as table,
            work.progress("preparing", len(features), "images") as progress,
        ):
            for first, block in features.blocks():
                prepared = apply(steps, block).astype(self.dtype)
                if not np.isfinite(prepared).all():
                    row = first + int((~np.isfinite(prepared).all(axis=1)).argmax())
                    raise TransferError(f"the prepared features of {features.ids[row]} are not finite numbers")
                table.append(features=prepared)
                progress.advance(len(block))
                work.pause_point()
            table.append(ids=ids, **labels)
        work.figures.update(images=len(features), dimensions=width)


def apply(steps: list[Step], block: numpy.ndarray) -> numpy.ndarray:
    """(n, D) float32 through fitted steps."""
    for step in steps:
        if not step:
            block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        else:
            block = block - step["mean"]
            block = block @ step["matrix"] if "matrix" in step else block * step["scale"] if "scale" in step else block
    return block


def _load(table: Table, names: list[str]) -> list[Step]:
    return [
        {part: table.read(f"{i}.{part}") for part in ("mean", "matrix", "scale") if f"{i}.{part}" in table}
        for i in range(len(names))
    ]
