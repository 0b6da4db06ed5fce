from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.datasets.drawings import render

# A change of pixels needs a higher render.VERSION and new digests.
GOLDEN_TEST_SPLIT = "026824f0660bdeb432b5cd428651eb01206290eb3a038f5aacc116576a5c75ac"
GOLDEN_CLASSES = {
    "house": "489a7279dc8e045b",
    "tree": "ae550778a207ceeb",
    "car": "b0b5e4a5e6ed0f45",
    "boat": "5c4007657dea839c",
    "face": "380aedc2af190a39",
    "fish": "6d2b675ddcf429ff",
    "flower": "737e399668d1235d",
    "cup": "917a575c8b8b387c",
    "lamp": "acb6a9e4ac1ba004",
    "cat": "4d6f01a1312b0e63",
}


def digest(pictures: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pictures).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def train() -> np.ndarray:
    return render.render("train", range(2000))


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """The whole test split."""
    return render.render("test", range(1000))


@pytest.mark.parametrize("name", render.CLASSES)
def test_pictures_of_a_class_are_the_known_bytes(name: str) -> None:
    first = render.CLASSES.index(name)
    pictures = render.render("unlabeled", [first, first + 10, first + 4000, first + 7990])
    assert digest(pictures)[:16] == GOLDEN_CLASSES[name]


def test_the_test_split_is_the_known_bytes(whole: np.ndarray) -> None:
    assert digest(whole) == GOLDEN_TEST_SPLIT


def test_shape_type_and_range(whole: np.ndarray) -> None:
    assert whole.shape == (1000, 64, 64, 3)
    assert whole.dtype == np.uint8
    assert whole.min() < 20
    assert whole.max() > 235
    assert render.render("train", []).shape == (0, 64, 64, 3)


@settings(max_examples=25, deadline=None)
@given(indices=st.lists(st.integers(0, 999), max_size=40))
def test_any_subset_in_any_order_is_the_same_rows_of_the_whole(
    whole: np.ndarray, indices: list[int]
) -> None:
    np.testing.assert_array_equal(render.render("test", indices), whole[indices])


def test_a_split_drawn_backwards_is_the_split_reversed(whole: np.ndarray) -> None:
    backwards = np.arange(1000)[::-1]
    np.testing.assert_array_equal(render.render("test", backwards), whole[backwards])


def test_batch_size_does_not_show(whole: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "BATCH", 7)
    np.testing.assert_array_equal(render.render("test", range(200)), whole[:200])


@pytest.mark.parametrize(("split", "count"), render.SPLITS.items())
def test_labels_are_balanced(split: str, count: int) -> None:
    labels = render.labels(split)
    assert labels.shape == (count,)
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [count // 10] * 10


def test_no_two_pictures_are_alike(train: np.ndarray, whole: np.ndarray) -> None:
    unlabeled = render.render("unlabeled", range(1000))
    assert len({digest(picture) for picture in (*train, *whole, *unlabeled)}) == 4000


def test_classes_differ_in_shape(train: np.ndarray) -> None:
    """The mean outlines of the classes differ, whatever their colors."""
    gray = train.astype(np.float64).mean(axis=3)
    edges = np.abs(np.diff(gray, axis=1))[:, :, :-1] + np.abs(np.diff(gray, axis=2))[:, :-1]
    outlines = [edges[label::10].mean(axis=0).ravel() for label in range(10)]
    assert (np.corrcoef(outlines) - np.eye(10)).max() < 0.95


def test_every_kind_of_object_is_both_lighter_and_darker_than_its_ground(train: np.ndarray) -> None:
    gray = train.astype(np.float64).mean(axis=3)
    ground = (gray[:, :6, :6] + gray[:, :6, -6:] + gray[:, -6:, :6] + gray[:, -6:, -6:]).mean(
        axis=(1, 2)
    ) / 4
    lighter = gray[:, 16:48, 16:48].mean(axis=(1, 2)) > ground
    shares = lighter.reshape(-1, 10).mean(axis=0)
    assert shares.min() > 0.1
    assert shares.max() < 0.5


def ridge_accuracy(train: np.ndarray, test: np.ndarray, weight: float) -> float:
    """Accuracy of ridge regression to the ten classes on standardized columns, in the dual form."""
    train, test = (x.reshape(len(x), -1).astype(np.float32) for x in (train, test))
    middle, spread = train.mean(axis=0), train.std(axis=0)
    train, test = (train - middle) / spread, (test - middle) / spread
    targets = np.eye(10, dtype=np.float32)[render.labels("train")] - 0.1
    kernel = train @ train.T + weight * len(train) * np.eye(len(train), dtype=np.float32)
    guesses = (test @ (train.T @ np.linalg.solve(kernel, targets))).argmax(axis=1)
    return float((guesses == render.labels("test")).mean())


@pytest.mark.slow
def test_raw_pixels_do_not_give_the_class_away(train: np.ndarray, whole: np.ndarray) -> None:
    assert 0.15 < ridge_accuracy(train, whole, weight=10) < 0.4


@pytest.mark.slow
def test_colors_do_not_give_the_class_away(train: np.ndarray, whole: np.ndarray) -> None:
    assert ridge_accuracy(train.mean(axis=(1, 2)), whole.mean(axis=(1, 2)), weight=0.01) < 0.15
    thumbnails = (x.reshape(-1, 4, 16, 4, 16, 3).mean(axis=(2, 4)) for x in (train, whole))
    assert ridge_accuracy(*thumbnails, weight=0.01) < 0.3


def test_global_random_state_is_left_alone() -> None:
    before = str(np.random.get_state()), random.getstate()
    render.render("train", range(20))
    assert (str(np.random.get_state()), random.getstate()) == before


@pytest.mark.parametrize("wrong", [[-1], [1000], [3, 1000]])
def test_an_index_outside_the_split_is_refused(wrong: list[int]) -> None:
    with pytest.raises(IndexError, match="0 to 999"):
        render.render("test", wrong)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(KeyError):
        render.render("validation", [0])
