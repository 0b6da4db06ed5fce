"""How many labels a protocol gives a network: shares of each class, or so many of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from transfer.datasets.packed.subset import subset
from transfer.datasets.spec import ImageSpec
from transfer.errors import InvalidOption, TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage

LabelBudget = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


def check_budgets(amounts: Sequence[LabelBudget], planned: PlannedStage) -> None:
    """BadOption where no class can have so many images."""
    count = planned.images["train"].stage.count
    most = max((amount for amount in amounts if isinstance(amount, int)), default=0)
    if most > count:
        raise InvalidOption(
            "label_budgets",
            f"{most} labels of each class: the training split has {count} images in all",
        )


def sample_budget(
    images: Images, amount: float | int, draws: int
) -> list[tuple[int, str, numpy.ndarray]]:
    """(number, name for files, rows with labels) of each draw: so many of each class, or a share of each.

    A larger amount of the same number holds the smaller one. All labels (1.0) are one draw, whatever `draws` says.
    TransferError for a class that has fewer.
    """
    name = budget_text(amount).replace(" ", "-").replace("%", "percent")
    if amount == 1.0 and isinstance(amount, float):
        return [(0, f"{name}-draw-1", np.arange(len(images)))]
    names = images.classes or [str(label) for label in range(int(images.labels.max()) + 1)]
    labels, counts = np.unique(images.labels, return_counts=True)
    if isinstance(amount, int) and counts.min() < amount:
        least = f"{counts.min()} training images of class '{names[labels[counts.argmin()]]}'"
        raise TransferError(
            f"`amounts` asks for {amount} labels of each class, and there are {least}"
        )
    specs = [ImageSpec(folder="train", per_class=amount, subset_seed=draw) for draw in range(draws)]
    return [
        (draw, f"{name}-draw-{draw + 1}", subset(spec, len(images), images.labels, names)[0])
        for draw, spec in enumerate(specs)
    ]


def budget_text(amount: float | int) -> str:
    """`10 %`, or `5 a class`."""
    return f"{100 * amount:g} %" if isinstance(amount, float) else f"{amount} a class"


def budget_share(amount: float | int) -> float:
    """For sorting: shares of a class are taken for more than numbers."""
    return amount if isinstance(amount, int) else 1e9 * amount
