"""The `prepare` stage: it computes what scikit-learn does, in any blocks, and for other sets."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from stages.prepare import Prepare
from transfer.artifacts import Features
from transfer.artifacts.features import load_steps
from transfer.errors import Interrupted, InvalidOption, TransferError
from transfer.numerics import feature_transforms
from transfer.numerics.feature_transforms import (
    L2,
    fit_scaler,
    panel_transform,
    random_projection,
    transform,
)
from transfer.numerics.pca import Whitening, covariance_spectrum, fit_pca, ledoit_wolf
from transfer.stage import feature_blocks
from transfer.stage.base import Stage
from transfer.stage.context import StageContext
from transfer.stage.feature_blocks import finite_blocks
from transfer.storage.hdf5_tables import TableReader

from .conftest import SPACE

Make = Callable[..., StageContext]
Of = Callable[..., Features]
CPU = torch.device("cpu")


def drawn(n: int, d: int, seed: int = 0) -> np.ndarray:
    """(n, d) float32, correlated, with another scale and mean in each column."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((n, d)) @ random.standard_normal((d, d))
    return (mixed * random.uniform(0.5, 2, d) + 5 * random.standard_normal(d)).astype(np.float32)


def blocks_of(values: np.ndarray, size: int) -> Callable[[], Iterator[np.ndarray]]:
    return lambda: (values[first : first + size].copy() for first in range(0, len(values), size))


def prepare(work: StageContext, **options: Any) -> Features:
    defaults: dict[str, Any] = {"dtype": "float32"}
    Prepare(features="features", **(defaults | options)).run(work)
    return Features(work.folder)


def values_of(features: Features) -> np.ndarray:
    return features.table.read("features")


def up_to_sign(values: np.ndarray) -> np.ndarray:
    return values * np.sign(values[np.abs(values).argmax(axis=0), range(values.shape[1])])


@pytest.mark.parametrize("name", ["center", "standardize", "l2", "pca", "whiten"])
@pytest.mark.parametrize("shape", [(200, 12), (20, 50)], ids=["tall", "wide"])
def test_each_step_is_scikit_learns(
    features_of: Of, work_for: Make, name: str, shape: tuple[int, int]
) -> None:
    values = drawn(*shape)
    exact = values.astype(np.float64)
    expected = {
        "center": lambda: exact - exact.mean(axis=0),
        "standardize": lambda: StandardScaler().fit_transform(exact),
        "l2": lambda: exact / np.linalg.norm(exact, axis=1, keepdims=True),
        "pca": lambda: PCA(10, svd_solver="full").fit_transform(exact),
        "whiten": lambda: PCA(10, svd_solver="full", whiten=True).fit_transform(exact),
    }[name]()
    work = work_for(features=features_of(values))
    found = values_of(prepare(work, steps=[name], components=10, variance_floor=0.0))
    if name in ("pca", "whiten"):
        expected, found = up_to_sign(expected), up_to_sign(found)
        ratio = PCA(10, svd_solver="full").fit(exact).explained_variance_ratio_.sum()
        assert work.figures["variance kept"] == pytest.approx(ratio, rel=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 60),
    d=st.integers(1, 40),
    size=st.integers(1, 70),
    whiten=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_shape_in_any_blocks_has_the_directions_of_one_svd(
    n: int, d: int, size: int, whiten: bool, seed: int
) -> None:
    values, notes = drawn(n, d, seed), []
    limit = min(d, n - 1)
    floor = Whitening(1e-2) if whiten else None
    step, kept = fit_pca(blocks_of(values, size), n, d, None, floor, CPU, notes.append)
    centerd = values - values.mean(axis=0, dtype=np.float64)
    _, singular, right = np.linalg.svd(centerd, full_matrices=False)
    variances = singular[:limit] ** 2 / (n - 1)
    assert step["matrix"].shape == (d, limit)
    assert kept == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(
        step["mean"], values.mean(axis=0, dtype=np.float64), rtol=1e-6, atol=1e-6
    )
    if whiten:
        variances = variances / np.maximum(variances, 1e-2 * variances[0])
    found = transform([step], values).astype(np.float64)
    np.testing.assert_allclose(
        found.var(axis=0, ddof=1), variances, rtol=1e-2, atol=1e-4 * variances.max()
    )
    # The map keeps inner products of the rows; of whitened rows, those of numpy's own whitening.
    scale = np.sqrt(variances) * np.sqrt(n - 1) / singular[:limit]
    own = centerd @ (right[:limit].T * scale)
    tolerance = 2e-3 * np.abs(own).max() ** 2 * limit
    np.testing.assert_allclose(found @ found.T, own @ own.T, atol=tolerance)


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
@pytest.mark.parametrize("offset", [0, 1000])
def test_blocks_and_large_means_cost_no_digits(size: int, offset: float) -> None:
    values = drawn(300, 6) + np.float32(offset)
    found = covariance_spectrum(blocks_of(values, size), 300, 6, 6, CPU)
    mean, values_, vectors, total = found.mean, found.values, found.vectors, found.trace
    covariance = np.cov(values.astype(np.float64).T)
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(
        vectors * values_ @ vectors.T, covariance, rtol=1e-9, atol=1e-9 * total
    )
    assert total == pytest.approx(np.trace(covariance))
    assert found.squares == pytest.approx(np.square(covariance).sum())
    step = fit_scaler(blocks_of(values, size), 6, True, pytest.fail)
    np.testing.assert_allclose(1 / step["scale"], values.astype(np.float64).std(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(300, 6), (40, 30), (20, 50), (5, 60)])
def test_the_best_shrinkage_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    from sklearn.covariance import ledoit_wolf_shrinkage

    values = drawn(*shape)
    blocks, few = blocks_of(values, 7), min(shape[1], shape[0] - 1, 3)
    found = covariance_spectrum(blocks, *shape, few, CPU)
    assert ledoit_wolf(blocks, found, *shape) == pytest.approx(
        ledoit_wolf_shrinkage(values.astype(np.float64)), rel=1e-6
    )


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0, "ledoit-wolf"])
def test_whitening_divides_by_shrunk_variances(
    features_of: Of, work_for: Make, shrinkage: Any
) -> None:
    from sklearn.covariance import LedoitWolf

    values = drawn(60, 8).astype(np.float64)
    work = work_for(features=features_of(values))
    found = values_of(prepare(work, steps=["whiten"], variance_floor=0.0, shrinkage=shrinkage))
    variances = np.linalg.eigvalsh(np.cov(values.T))[::-1]
    share = LedoitWolf().fit(values).shrinkage_ if shrinkage == "ledoit-wolf" else shrinkage
    expected = variances / ((1 - share) * variances + share * variances.mean())
    np.testing.assert_allclose(found.var(axis=0, ddof=1), expected, rtol=1e-3)
    assert any("Ledoit" in note for note in work.notes) == (shrinkage == "ledoit-wolf")


def test_a_projection_keeps_distances_and_is_of_its_seed_alone(
    features_of: Of, work_for: Make
) -> None:
    values = drawn(60, 900)
    work = work_for(features=features_of(values))
    found = values_of(prepare(work, steps=["project"], projection_dim=400))
    assert found.shape == (60, 400)
    before, after = (np.linalg.norm(one[:1] - one[1:], axis=1) for one in (values, found))
    np.testing.assert_allclose(after / before, 1, atol=0.2)
    again = prepare(
        work_for("again", features=features_of(values, "b")), steps=["project"], projection_dim=400
    )
    other = prepare(
        work_for("other", features=features_of(values, "c")),
        steps=["project"],
        projection_dim=400,
        projection_seed=1,
    )
    assert values_of(again).tobytes() == found.tobytes() != values_of(other).tobytes()
    taken = prepare(work_for("taken", features=features_of(values, "d"), like=again), like="again")
    assert values_of(taken).tobytes() == found.tobytes()
    with pytest.raises(TransferError, match="project` to 900 values of 900"):
        random_projection(900, 900, 0)


def side_by_side(
    work_for: Make, *features: Features, name: str = "work", **options: Any
) -> Features:
    work = work_for(name, **{f"features.{place}": one for place, one in enumerate(features)})
    defaults: dict[str, Any] = {"dtype": "float32"}
    names = [str(place) for place in range(len(features))]
    Prepare(features=names, **(defaults | options)).run(work)
    return Features(work.folder)


def test_several_features_are_put_side_by_side(features_of: Of, work_for: Make) -> None:
    first, second = (
        features_of(drawn(200, 5)),
        features_of(drawn(200, 3, seed=1), "second", of="features"),
    )
    both = np.concatenate([drawn(200, 5), drawn(200, 3, seed=1)], axis=1)
    plain = side_by_side(work_for, first, second, steps=[])
    np.testing.assert_allclose(values_of(plain), both, rtol=2e-3)
    assert plain.ids == first.ids
    prepared = side_by_side(
        work_for, first, second, name="whitened", steps=["whiten"], variance_floor=0.0
    )
    np.testing.assert_allclose(np.cov(values_of(prepared).T), np.eye(8), atol=1e-3)
    work = work_for("taken", **{"features.0": first, "features.1": second, "like": prepared})
    Prepare(features=["0", "1"], like="whitened", dtype="float32").run(work)
    assert values_of(Features(work.folder)).tobytes() == values_of(prepared).tobytes()


def test_features_of_other_images_do_not_stand_beside_them(features_of: Of, work_for: Make) -> None:
    with pytest.raises(TransferError, match="of different images"):
        side_by_side(
            work_for, features_of(drawn(200, 5)), features_of(drawn(90, 3), "few"), steps=[]
        )


def test_steps_follow_one_another(features_of: Of, work_for: Make) -> None:
    values = drawn(200, 12).astype(np.float64)
    found = values_of(
        prepare(
            work_for(features=features_of(values)), steps=["standardize", "pca", "l2"], components=5
        )
    )
    reduced = PCA(5, svd_solver="full").fit_transform(StandardScaler().fit_transform(values))
    expected = reduced / np.linalg.norm(reduced, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_the_variance_kept_is_that_of_all_steps_together(features_of: Of, work_for: Make) -> None:
    values = drawn(200, 12)
    one, two = (
        work_for(features=features_of(values)),
        work_for(features=features_of(values, "again")),
    )
    prepare(one, steps=["center", "pca"], components=3)
    prepare(two, steps=["center", "pca", "whiten"], components=3)
    assert 0 < one.figures["variance kept"] < 1
    assert two.figures["variance kept"] == pytest.approx(one.figures["variance kept"])


def test_constant_values_become_zero_and_are_told(features_of: Of, work_for: Make) -> None:
    values = drawn(100, 6)
    values[:, 2], values[:, 4] = 1234.567, 0
    values[:, 5] *= 1e-7  # small, but not constant
    work = work_for(features=features_of(values))
    found = values_of(prepare(work, steps=["standardize"]))
    assert work.notes == ["2 of 6 values are the same for all images; they become zero"]
    np.testing.assert_array_equal(found[:, [2, 4]], 0)
    np.testing.assert_allclose(found[:, [0, 1, 3, 5]].std(axis=0), 1, rtol=1e-4)


@pytest.mark.parametrize("rows", [100, 9], ids=["tall", "wide"])
def test_a_rank_below_what_was_asked_is_told_and_gives_zeros(
    features_of: Of, work_for: Make, rows: int
) -> None:
    values = np.repeat(drawn(rows, 5), 2, axis=1)  # every column twice
    work = work_for(features=features_of(values))
    made = prepare(work, steps=["whiten"], components=8, variance_floor=0.0)
    assert work.notes == ["the rows vary in 5 directions only: the other 3 of 8 are zero"]
    found = values_of(made)
    np.testing.assert_array_equal(found[:, 5:], 0)
    np.testing.assert_allclose(np.cov(found[:, :5].T), np.eye(5), atol=1e-3)
    # Rows of another set, that do vary in the other directions, are not blown up.
    other = drawn(50, 10, seed=1)
    taken = prepare(work_for("other", features=features_of(other, "other"), like=made), like="x")
    assert np.isfinite(values_of(taken)).all()
    np.testing.assert_array_equal(values_of(taken)[:, 5:], 0)


def test_the_floor_keeps_small_directions_small(features_of: Of, work_for: Make) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((500, 3)) * [100, 10, 0.1]
    work = work_for(features=features_of(values))
    found = values_of(prepare(work, steps=["whiten"], variance_floor=1e-3))
    np.testing.assert_allclose(found.std(axis=0)[:2], 1, rtol=0.01)
    assert found.std(axis=0)[2] < 0.1
    assert any("1 of 3 directions have less variance than the floor" in note for note in work.notes)


@pytest.mark.parametrize(("shape", "asked"), [((5, 20), 5), ((50, 8), 9), ((1, 8), None)])
def test_more_components_than_can_be_had_are_told(
    features_of: Of, work_for: Make, shape: tuple[int, int], asked: int | None
) -> None:
    with pytest.raises(
        TransferError, match=rf"components of {shape[0]} rows of {shape[1]} values: at most"
    ):
        prepare(work_for(features=features_of(drawn(*shape))), steps=["pca"], components=asked)


def test_equal_rows_have_no_directions(features_of: Of, work_for: Make) -> None:
    with pytest.raises(TransferError, match="all rows are the same"):
        prepare(work_for(features=features_of(np.ones((30, 4)))), steps=["whiten"])


@pytest.mark.parametrize("steps", [["l2"], ["center"], ["l2", "whiten"]])
def test_rows_that_are_no_numbers_are_named(
    features_of: Of, work_for: Make, steps: list[str]
) -> None:
    values = drawn(60, 4)
    values[41, 2] = np.nan
    features = features_of(values)
    with pytest.raises(TransferError, match=f"features of {features.ids[41]} are not finite"):
        prepare(work_for(features=features), steps=steps)


def test_values_too_large_for_float16_are_named(features_of: Of, work_for: Make) -> None:
    values = drawn(60, 4)
    values[41] *= 1e5 / np.abs(values[41]).max()
    features = features_of(values)
    with pytest.raises(TransferError, match=f"{features.ids[41]} are too large for float16"):
        prepare(work_for(features=features), steps=["center"], dtype="float16")


@pytest.mark.parametrize(
    "steps", [["l2", "whiten"], ["standardize"], ["center", "pca", "l2"], ["l2"]]
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_like_gives_the_same_bits_for_the_same_rows(
    features_of: Of, work_for: Make, steps: list[str], dtype: str
) -> None:
    features = features_of(drawn(200, 12), dtype="float16")
    own = prepare(work_for("own", features=features), steps=steps, dtype=dtype)
    taken = prepare(work_for("taken", features=features, like=own), like="own", dtype=dtype)
    again = prepare(work_for("again", features=features, like=taken), like="taken", dtype=dtype)
    for made in (taken, again):
        assert values_of(made).tobytes() == values_of(own).tobytes()
        assert made.attributes == own.attributes
        assert (
            TableReader(made.folder / "preparation.h5").shapes
            == TableReader(own.folder / "preparation.h5").shapes
        )
    assert own.ids == features.ids
    np.testing.assert_array_equal(own.labels, features.labels)
    assert own.space == {"prepare": "key of own"}
    assert own.attributes["preparation"] == steps


def both_ways(features_of: Of, work_for: Make, part: slice) -> Iterator[np.ndarray]:
    """Rows mapped in the whole of a set, and as a set of their own; how far those may lie apart."""
    own = prepare(work_for("own", features=features_of(drawn(200, 64))), components=40)
    other = drawn(90, 64, seed=5)
    whole = prepare(work_for("whole", features=features_of(other, "whole"), like=own), like="own")
    features = features_of(other[part], "part")
    alone = prepare(work_for("part", features=features, like=own), like="own")
    _, last = load_steps(own)
    rows = other[part] / np.linalg.norm(other[part], axis=1, keepdims=True) - last["mean"]
    yield from (values_of(whole)[part], values_of(alone), rounding(rows, last["matrix"]))


def rounding(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """How far two products of these in float32 may lie apart, in whatever order they are summed."""
    return 1e-5 * np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(matrix, axis=0)


@pytest.mark.parametrize("part", [slice(0, 60), slice(0, 1), slice(0, 2)])
def test_a_row_keeps_its_bytes_whatever_follows(
    features_of: Of, work_for: Make, part: slice
) -> None:
    whole, alone, _ = both_ways(features_of, work_for, part)
    assert whole.tobytes() == alone.tobytes()


@pytest.mark.parametrize("part", [slice(30, 90), slice(7, 8), slice(88, 90)])
def test_a_row_of_another_set_is_mapped_alike_at_another_place_but_for_rounding(
    features_of: Of, work_for: Make, part: slice
) -> None:
    whole, alone, apart = both_ways(features_of, work_for, part)
    assert (np.abs(whole - alone) <= apart).all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("panel", [1, 16, 4096])
def test_a_panel_has_one_shape_so_rows_beside_a_row_do_not_count(
    panel: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_transforms, "PANEL", panel)
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    matrix = random.standard_normal((300, 40), np.float32)
    mean, rows = (random.standard_normal(shape, np.float32) for shape in (300, (100, 300)))
    mapped = panel_transform([L2, {"mean": mean, "matrix": matrix}])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True) - mean
    whole, apart = mapped(rows), rounding(unit, matrix)
    for count in (1, 2, 3, 15, 16, 17, 99):
        assert mapped(rows[:count]).tobytes() == whole[:count].tobytes()
    others = np.concatenate([rows[:50], 1000 * rows[:50]])
    assert mapped(others)[:50].tobytes() == whole[:50].tobytes()
    unaligned = np.empty(rows.size + 1, np.float32)[1:].reshape(rows.shape)
    unaligned[:] = rows
    assert mapped(unaligned).tobytes() == whole.tobytes()
    order = random.permutation(100)
    assert (np.abs(mapped(rows[order]) - whole[order]) <= apart[order]).all()
    assert (np.abs(whole - (unit.astype(np.float64) @ matrix)) <= apart).all()


@pytest.mark.parametrize(("panel", "longest"), [(16, 48), (64, 50)])
def test_blocks_are_of_whole_panels(
    features_of: Of, work_for: Make, monkeypatch: pytest.MonkeyPatch, panel: int, longest: int
) -> None:
    monkeypatch.setattr(feature_transforms, "PANEL", panel)
    monkeypatch.setattr(feature_blocks, "BLOCK_VALUES", 50 * 64)
    features = features_of(drawn(200, 64))
    blocks = [block for _, block in finite_blocks(work_for(features=features), features)]
    assert {len(block) for block in blocks[:-1]} == {longest}
    assert sum(map(len, blocks)) == 200


def test_a_preparation_of_a_preparation_remembers_both(features_of: Of, work_for: Make) -> None:
    features = features_of(drawn(200, 12))
    first = prepare(work_for("first", features=features), steps=["standardize"])
    second = prepare(work_for("second", features=first), steps=["pca", "l2"], components=5)
    assert second.attributes["preparation"] == ["standardize", "pca", "l2"]
    taken = prepare(work_for("taken", features=first, like=second), like="second")
    assert values_of(taken).tobytes() == values_of(second).tobytes()


@pytest.mark.parametrize("steps", [["center"], ["l2", "whiten"]])
def test_like_refuses_features_of_another_kind(
    features_of: Of, work_for: Make, steps: list[str]
) -> None:
    own = prepare(work_for("own", features=features_of(drawn(200, 12))), steps=steps)
    with pytest.raises(TransferError, match="fitted on 12 values, these features have 9"):
        prepare(
            work_for("narrow", features=features_of(drawn(50, 9), "narrow"), like=own), like="own"
        )
    another = features_of(drawn(50, 12), "another", space=SPACE | {"layer": "conv4"})
    with pytest.raises(TransferError, match="differ in network, layer"):
        prepare(work_for("another.work", features=another, like=own), like="own")


def test_a_stop_is_heeded(features_of: Of, work_for: Make) -> None:
    work = work_for(features=features_of(drawn(50, 4)))
    work.stop.number = 15
    with pytest.raises(Interrupted):
        prepare(work)


def planned(name: str, stage: Stage | None = None, count: int | None = 100, **inputs: Any) -> Any:
    pack = SimpleNamespace(count=count, shares_ids=lambda other: True)
    images = {} if inputs else {"images": SimpleNamespace(stage=pack, key=f"images of {name}")}
    return SimpleNamespace(
        name=name, key=name, uses="some/stage", stage=stage or Stage(), images=images, inputs=inputs
    )


A, B = planned("a"), planned("b")
FEWER = planned("d", count=90)
OF_A = planned("of_a", Prepare(features="a"), features=A)


@pytest.mark.parametrize(
    ("stage", "inputs", "message"),
    [
        (Prepare(features="a", components=99), {"features": A}, None),
        (
            Prepare(features="a", components=100),
            {"features": A},
            "100 components of 100 images: at most 99",
        ),
        (
            Prepare(features="a", components=100),
            {"features": OF_A},
            "100 components of 100 images: at most 99",
        ),
        (Prepare(features="a", components=100, steps=["l2"]), {"features": A}, None),
        (Prepare(features="a", components=100), {"features": planned("c", count=None)}, None),
        (Prepare(features="a", steps=[]), {"features": A}, "an empty list does nothing"),
        (Prepare(features="a", like="of_a"), {"features": A, "like": OF_A}, None),
        (
            Prepare(features="a", steps=[], like="of_a"),
            {"features": A, "like": OF_A},
            "those of 'of_a'; remove this option",
        ),
        (
            Prepare(features="a", components=3, like="of_a"),
            {"features": A, "like": OF_A},
            "those of 'of_a'; remove",
        ),
        (
            Prepare(features="b", like="of_a"),
            {"features": B, "like": OF_A},
            "'b' and 'a', on which 'of_a' was fitted, differ",
        ),
        (Prepare(features="a", like="b"), {"features": A, "like": B}, "has no fitted steps"),
        (
            Prepare(features=["a", "b"], steps=[]),
            {"features.0": A, "features.1": A},
            "names 'a' twice",
        ),
        (
            Prepare(features=["a", "b"], steps=[]),
            {"features.0": A, "features.1": planned("d", count=90)},
            "different im",
        ),
        (Prepare(features=["a", "c"], steps=[]), {"features.0": A, "features.1": OF_A}, None),
        (
            Prepare(features="a", components=60, projection_dim=50, steps=["project", "pca"]),
            {"features": A},
            "60 comp",
        ),
        (
            Prepare(features="a", components=60, projection_dim=50, steps=["pca", "project"]),
            {"features": A},
            None,
        ),
    ],
)
def test_what_cannot_be_is_found_in_the_plan(
    stage: Prepare, inputs: dict[str, Any], message: str | None
) -> None:
    if message is None:
        stage.validate_plan(planned("it", stage, **inputs))
    else:
        with pytest.raises(InvalidOption, match=message):
            stage.validate_plan(planned("it", stage, **inputs))


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["l2", "whiten", "project"], (16, 8)),
        (["project", "whiten"], (16, 16)),
        (["pca"], (16, 512)),
    ],
)
def test_a_smoke_run_leaves_each_step_values_enough(steps: Any, expected: tuple[int, int]) -> None:
    options: dict[str, Any] = {"projection_dim": 32} if "project" in steps else {}
    small = Prepare(features="a", steps=steps, components=48, **options).for_smoke_run()
    assert isinstance(small, Prepare)
    assert (small.components, small.projection_dim) == expected
    small.validate_plan(planned("it", small, features=A))


WIDE = """\
name: wide
seed: 0
data: {card: drawings, limit: 64}
stages:
  deep: {uses: pretext/random, backbone: {name: conv4, width: 0.5}}
  flat: {uses: extract/network, model: deep, layer: avgpool}
  grid: {uses: extract/network, model: deep, layer: conv4, pool: 2, pooling: average}
  whole: {uses: extract/network, model: deep, layer: conv4, pool: 99}
  narrow: {uses: prepare, features: [flat, grid], steps: [project, l2], projection_dim: 40}
  few: {uses: prepare, features: narrow, steps: [whiten], components: 7}
  all: {uses: prepare, features: grid, steps: [pca]}
  again: {uses: prepare, features: [flat, grid], like: narrow}
  faulty: {uses: prepare, features: FEATURES, steps: [STEP], OPTION}
"""


def test_widths_are_known_before_anything_is_run(
    pipeline: Callable[..., Any], invoke: Callable[..., Any]
) -> None:
    from transfer.api import Pipeline
    from transfer.stage.feature_space import planned_width

    file = pipeline(WIDE.partition("  faulty")[0])
    invoke("run", file, "--store", "store", "--threads", 1, "--device", "cpu")
    made = Pipeline.load(file, store=file.parent / "store")
    for one in made.plan:
        if one.stage.produces is Features:
            artifact = made.artifact(one.name)
            assert isinstance(artifact, Features)
            assert planned_width(one) == artifact.shape[1], one.name
    assert planned_width(made.plan.find("all")[0]) == 63  # of 64 images


@pytest.mark.parametrize(
    ("features", "step", "option", "message"),
    [
        (
            "flat",
            "pca",
            "components: 33",
            "components: 33 components are more than the 32 values of the features",
        ),
        (
            "few",
            "whiten",
            "components: 8",
            "components: 8 components are more than the 7 values of the features",
        ),
        (
            "[few, flat]",
            "project",
            "projection_dim: 39",
            "projection_dim: 39 values are not fewer than the 39 of the features; lower it",
        ),
    ],
)
def test_more_values_than_there_are_is_refused_before_the_run(
    features: str,
    step: str,
    option: str,
    message: str,
    pipeline: Callable[..., Any],
    invoke: Callable[..., Any],
) -> None:
    file = pipeline(
        WIDE.replace("FEATURES", features).replace("STEP", step).replace("OPTION", option)
    )
    said = invoke("run", file, "--store", "store", check=2)
    assert re.search(rf"pipeline.yaml:13:\d\d: stages.faulty.{re.escape(message)}", said.err)
    assert "done in" not in said.text


@pytest.mark.parametrize(
    ("step", "option", "message"),
    [
        (
            "l2",
            "components: 8",
            "`components` has no effect unless `steps: pca or whiten`",
        ),
        ("pca", "shrinkage: 0.1", "`shrinkage` has no effect unless `steps: whiten`"),
        ("pca", "components: 8", ""),
    ],
)
def test_an_option_without_effect_is_told_in_the_plan(
    step: str, option: str, message: str, pipeline: Callable[..., Any], invoke: Callable[..., Any]
) -> None:
    file = pipeline(
        WIDE.replace("FEATURES", "flat").replace("STEP", step).replace("OPTION", option)
    )
    for smoke in ([], ["--smoke"]):
        said = invoke("run", file, "--store", "store", "--dry-run", *smoke).out
        (line,) = [line for line in said.splitlines() if " faulty " in line]
        assert message in line
        assert bool(message) == ("no effect" in said)
