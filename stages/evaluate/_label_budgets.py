"""Label budgets: the share of each class, or the number of images per class, that is labeled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from stages.evaluate._label_checks import true_labels
from transfer.datasets.packed.label_facts import class_counts, class_name
from transfer.datasets.packed.subset import subset
from transfer.datasets.spec import SubsetSpec
from transfer.errors import InvalidOption, TransferError
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from typing import Any

    import numpy

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage

LabelBudget = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


class LabelSample(NamedTuple):
    """Training rows drawn for a budget."""

    number: int  # of the draw, from 0
    name: str  # for files
    rows: numpy.ndarray  # (n,) int64, ascending


def check_budgets(budgets: Sequence[LabelBudget], planned: PlannedStage[Any]) -> None:
    """Raise InvalidOption for a budget per class that exceeds the whole training split."""
    count = planned.images["train"].stage.count
    largest = max((budget for budget in budgets if isinstance(budget, int)), default=0)
    if largest > count:
        raise InvalidOption(
            "label_budgets",
            f"{largest} labels of each class are more than the {count} images of the training "
            "split; lower the budget",
        )


def check_class_budgets(budgets: Sequence[LabelBudget], planned: PlannedStage[Any]) -> None:
    """Raise InvalidOption for a budget that exceeds the images of a class."""
    train = planned.images["train"].stage
    label, fewest = min(class_counts(train).items(), key=lambda entry: entry[1])
    for budget in budgets:
        if isinstance(budget, int) and budget > fewest:
            problem = _too_few(budget, class_name(train, label), fewest)
            raise InvalidOption("label_budgets", problem)


def smoke_budgets(budgets: Sequence[LabelBudget]) -> list[LabelBudget]:
    """Return budgets for a smoke run, in whose few images a class may have a single one."""
    return [*dict.fromkeys(1 if isinstance(budget, int) else budget for budget in budgets)]


def _too_few(budget: LabelBudget, name: str, count: int) -> str:
    return (
        f"{budget} labels of each class are asked for, but class '{name}' has {count} training "
        "images; lower the budget"
    )


def sample_budget(images: Images, budget: LabelBudget, repeats: int) -> list[LabelSample]:
    """Draw labeled training rows `repeats` times.

    A larger budget contains the smaller one of the same draw. All labels (1.0) need one draw only.

    Raises:
        TransferError: a class has fewer images than the budget.
    """
    name = budget_text(budget).replace(" ", "-").replace("%", "percent")
    if budget == 1.0 and isinstance(budget, float):
        return [LabelSample(0, f"{name}-draw-1", np.arange(len(images)))]
    labels = true_labels(images)
    names = images.classes or [str(label) for label in range(int(labels.max()) + 1)]
    present, counts = np.unique(labels, return_counts=True)
    if isinstance(budget, int) and counts.min() < budget:
        name = names[int(present[counts.argmin()])]
        raise TransferError(f"label_budgets: {_too_few(budget, name, counts.min())}")
    return [
        LabelSample(
            draw,
            f"{name}-draw-{draw + 1}",
            subset(SubsetSpec(per_class=budget, seed=draw), len(images), labels, names)[0],
        )
        for draw in range(repeats)
    ]


def budget_text(budget: LabelBudget) -> str:
    """Return a budget as text: `10 %`, or `5 a class`."""
    return f"{100 * budget:g} %" if isinstance(budget, float) else f"{budget} a class"


def largest_budget(budgets: Sequence[LabelBudget]) -> LabelBudget:
    """Return the largest budget; a share of each class counts as larger than any number."""
    return max(budgets, key=lambda budget: (isinstance(budget, float), budget))
