"""How many labels a protocol gives a network: shares of each class, or so many of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from transfer.images.spec import ImageSpec
from transfer.images.subset import subset
from transfer.lazy import np

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images

Amount = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]


def some_labels(images: Images, amount: float | int, draw: int) -> numpy.ndarray:
    """Rows with labels: so many of each class (a whole number), or a share of each (up to 1.0); `draw` says which."""
    if amount == 1.0 and isinstance(amount, float):
        return np.arange(len(images))
    spec = ImageSpec(folder="train", per_class=amount, subset_seed=draw)
    names = images.classes or [str(label) for label in range(int(images.labels.max()) + 1)]
    return subset(spec, len(images), images.labels, names)[0]


def told(amount: float | int) -> str:
    """`10 %`, or `5 a class`."""
    return f"{100 * amount:g} %" if isinstance(amount, float) else f"{amount} a class"


def share(amount: float | int) -> float:
    """For sorting: shares of a class are taken for more than numbers."""
    return amount if isinstance(amount, int) else 1e9 * amount
