"""Fit the steps of a preparation on features, and write features mapped through steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from transfer.errors import TransferError
from transfer.numerics.feature_transforms import (
    L2,
    Step,
    fit_scaler,
    panel_transform,
    random_projection,
)
from transfer.numerics.pca import Whitening, fit_pca
from transfer.stage.feature_blocks import finite_blocks, non_finite_row
from transfer.storage.hdf5_tables import TableWriter
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Features
    from transfer.stage.context import StageContext


class StepOptions(Protocol):
    """The options of a preparation."""

    @property
    def steps(self) -> Sequence[str]: ...

    @property
    def components(self) -> int | None: ...

    @property
    def variance_floor(self) -> float: ...

    @property
    def shrinkage(self) -> float | Literal["ledoit-wolf"] | None: ...

    @property
    def projection_dim(self) -> int: ...

    @property
    def projection_seed(self) -> int: ...


def fit_steps(options: StepOptions, context: StageContext, features: list[Features]) -> list[Step]:
    """Fit each step on the features, as the steps before it map them.

    Args:
        options: which steps, and their settings.
        context: receives notes, and the figure `variance kept`.
        features: of the same images, joined row by row.
    """
    steps: list[Step] = []
    width, count = sum(source.shape[1] for source in features), len(features[0])

    def blocks() -> Iterator[numpy.ndarray]:
        mapped = panel_transform(steps)
        return (mapped(block) for _, block in finite_blocks(context, *features))

    device = context.runtime.device
    if device.type != "cuda":
        device = torch.device("cpu")  # Apple's GPUs have no float64
    for name in options.steps:
        if name == "l2":
            steps.append(L2)
        elif name in ("center", "standardize"):
            steps.append(fit_scaler(blocks, width, name == "standardize", context.note))
        elif name == "project":
            steps.append(random_projection(width, options.projection_dim, options.projection_seed))
            width = options.projection_dim
        else:
            whitening = None
            if name == "whiten":
                whitening = Whitening(options.variance_floor, options.shrinkage)
            step, kept = fit_pca(
                blocks, count, width, options.components, whitening, device, context.note
            )
            context.figures["variance kept"] = kept * context.figures.get("variance kept", 1.0)
            width = step["matrix"].shape[1]
            steps.append(step)
    return steps


def write_prepared(
    context: StageContext,
    features: list[Features],
    steps: list[Step],
    dtype: str,
    attributes: dict[str, Any],
) -> None:
    """Write `features.h5`, the features mapped through the steps.

    Args:
        context: of the stage.
        features: of the same images, joined row by row.
        steps: fitted steps.
        dtype: in which the features are saved.
        attributes: of the file.

    Raises:
        TransferError: a value is too large for `dtype`.
    """
    first = features[0]
    width = sum(source.shape[1] for source in features)
    for step in steps:
        width = step["matrix"].shape[1] if "matrix" in step else width
    # Ids stay encoded: a million texts would take 100 MB.
    extra: dict[str, numpy.ndarray[Any, Any]] = {"ids": first.table.read("ids")}
    if first.labels is not None:
        extra["labels"] = first.labels
    columns: dict[str, tuple[tuple[int, ...], str]] = {"features": ((width,), dtype)}
    columns |= {name: ((), str(values.dtype.str)) for name, values in extra.items()}
    mapped = panel_transform(steps)
    with (
        TableWriter(context.folder / "features.h5", len(first), columns, **attributes) as table,
        context.progress("preparing", len(first), "images") as progress,
    ):
        for start, block in finite_blocks(context, *features):
            with np.errstate(over="ignore"):
                prepared = mapped(block).astype(dtype)
            if (row := non_finite_row(prepared)) is not None:
                raise TransferError(
                    f"the prepared features of {first.ids[start + row]} are too large for {dtype}; "
                    "set `dtype: float32`"
                )
            table.append(features=prepared)
            progress.advance(len(block))
        table.append(**extra)
    context.figures.update(images=len(first), dimensions=width)


def input_width(steps: list[Step]) -> int | None:
    """Values of a row that fitted steps take; None where they take any number."""
    for step in steps:
        if step:
            return len(step["mean"] if "mean" in step else step["matrix"])
    return None


def joined_attributes(features: list[Features]) -> dict[str, Any]:
    """Return the attributes of features side by side, with their space as `source`.

    TransferError where they are of different images.
    """
    first = features[0]
    if len(features) == 1:
        return {**first.attributes, "source": first.space}
    ids, *others = (source.table.read("ids") for source in features)
    if not all(np.array_equal(ids, other) for other in others):
        raise TransferError("these features are of different images, so rows cannot be joined")
    layers = dict.fromkeys(source.attributes["layer"] for source in features)
    return {
        **first.attributes,
        "layer": " + ".join(layers),
        "source": {"side by side": [source.space for source in features]},
        "preparation": ["side by side"],
    }
