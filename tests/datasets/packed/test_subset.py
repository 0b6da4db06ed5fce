"""Subsets of a split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.datasets.packed.subset import limit_per_class, subset
from transfer.datasets.spec import ImageSpec
from transfer.errors import TransferError

CLASSES = ["cat", "dog", "fish"]
LABELS = [row % 3 if row < 60 else 0 for row in range(90)]  # 50 cats, 20 dogs, 20 fish


def chosen(**options: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows, labels, names = subset(
        ImageSpec(card="mine", **options).subset_spec(), len(LABELS), LABELS, CLASSES
    )
    assert labels is not None
    return rows, labels, names


def test_nothing_asked_keeps_everything_in_the_sets_order() -> None:
    rows, labels, names = chosen()
    assert rows.tolist() == list(range(90))
    assert labels.tolist() == LABELS
    assert names == CLASSES


def test_so_many_images_of_each_class() -> None:
    rows, labels, _ = chosen(per_class=7)
    assert np.bincount(labels).tolist() == [7, 7, 7]
    assert [LABELS[row] for row in rows] == labels.tolist()


def test_a_share_of_each_class_keeps_at_least_one() -> None:
    assert np.bincount(chosen(per_class=0.1)[1]).tolist() == [5, 2, 2]
    assert np.bincount(chosen(per_class=0.001)[1]).tolist() == [1, 1, 1]


def test_classes_are_numbered_in_the_order_asked_for() -> None:
    rows, labels, names = chosen(classes=["fish", "cat"])
    assert names == ["fish", "cat"]
    assert np.bincount(labels).tolist() == [20, 50]
    assert {LABELS[row] for row in rows[labels == 0]} == {2}


def test_subsets_of_one_seed_lie_in_one_another_and_other_seeds_draw_others() -> None:
    small, large = set(chosen(limit=10)[0]), set(chosen(limit=40)[0])
    assert small < large
    assert set(chosen(per_class=3)[0]) < set(chosen(per_class=9)[0])
    assert small != set(chosen(limit=10, subset_seed=1)[0])


def test_the_draw_is_the_same_on_every_machine() -> None:
    assert chosen(limit=8)[0].tolist() == [2, 13, 30, 41, 43, 45, 53, 66]
    assert chosen(per_class=2)[0].tolist() == [2, 13, 30, 43, 53, 66]


@given(
    limit=st.none() | st.integers(1, 100),
    fraction=st.none() | st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
    per_class=st.none() | st.integers(1, 20) | st.floats(0.01, 0.99),
)
def test_the_plan_never_promises_fewer_than_there_are(limit, fraction, seed, per_class) -> None:
    spec = ImageSpec(
        card="mine", limit=limit, fraction=fraction, per_class=per_class, subset_seed=seed
    ).subset_spec()
    rows, labels, _ = subset(spec, len(LABELS), LABELS, CLASSES)
    assert labels is not None
    assert 1 <= len(rows) <= limit_per_class(spec, len(LABELS), len(CLASSES))
    assert (np.diff(rows) > 0).all()
    assert [LABELS[row] for row in rows] == labels.tolist()


def test_what_cannot_be_had_is_told() -> None:
    with pytest.raises(TransferError, match="class 'dog' of image set '' has 20 images, not 21"):
        chosen(per_class=21)
    with pytest.raises(TransferError, match=r"no class 'dgo'.*dog"):
        chosen(classes=["dgo"])
    with pytest.raises(TransferError, match="has no labels"):
        subset(ImageSpec(card="mine", per_class=1).subset_spec(), 5, None, [])
