"""HOG: the directions of edges, equal to scikit-image's, in a pipeline like learned features."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from skimage.color import rgb2gray
from skimage.feature import hog

from stages.extract import _resumable_writer
from stages.extract.hog import BLOCK, FORKING, ExtractHog
from tests.conftest import Said
from tests.stages.handmade import make_work, pack_images, run_stage
from transfer.artifacts import Features, Images
from transfer.errors import Interrupted, InvalidOption
from transfer.stage.feature_space import planned_space
from transfer.training import inference


def pictures(count: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def values(features: Features) -> np.ndarray:
    return np.concatenate([block for _, block in features.blocks()])


def slow(picture: np.ndarray, cell: int, block: int, orientations: int) -> np.ndarray:
    """HOG of a gray picture by plain loops, with L2-Hys."""
    rows, columns = np.zeros_like(picture), np.zeros_like(picture)
    rows[1:-1] = picture[2:] - picture[:-2]
    columns[:, 1:-1] = picture[:, 2:] - picture[:, :-2]
    strength, angle = np.hypot(rows, columns), np.rad2deg(np.arctan2(rows, columns)) % 180
    cells = len(picture) // cell
    histograms = np.zeros((cells, cells, orientations))
    for y in range(cells * cell):
        for x in range(cells * cell):
            number = min(int(angle[y, x] / (180 / orientations)), orientations - 1)
            histograms[y // cell, x // cell, number] += strength[y, x] / cell**2
    found = []
    for y in range(cells - block + 1):
        for x in range(cells - block + 1):
            part = histograms[y : y + block, x : x + block].ravel()
            part = np.minimum(part / np.sqrt((part**2).sum() + 1e-10), 0.2)
            found.append(part / np.sqrt((part**2).sum() + 1e-10))
    return np.concatenate(found)


@pytest.mark.parametrize(("cell", "block", "orientations"), [(8, 2, 9), (5, 3, 6), (16, 1, 4)])
def test_features_are_what_plain_loops_give(
    tmp_path: Path, cell: int, block: int, orientations: int
) -> None:
    pixels = pictures(3)
    options: dict[str, Any] = {
        "pixels_per_cell": cell,
        "cells_per_block": block,
        "orientations": orientations,
        "dtype": "float32",
    }
    made = run_stage(
        ExtractHog(color=False, **options), tmp_path, {"images": pack_images(tmp_path, pixels)}
    )
    expected = np.stack([slow(255 * rgb2gray(one), cell, block, orientations) for one in pixels])
    np.testing.assert_allclose(values(made), expected, rtol=1e-4, atol=1e-5)
    side = 32 // cell - block + 1
    assert made.shape == (3, side**2 * block**2 * orientations)


@pytest.mark.parametrize("norm", ["L1", "L1-sqrt", "L2", "L2-Hys"])
@pytest.mark.parametrize("color", [True, False])
def test_features_are_scikit_images(tmp_path: Path, norm: Any, color: bool) -> None:
    pixels = pictures(3)
    stage = ExtractHog(block_norm=norm, color=color, dtype="float32")
    made = run_stage(stage, tmp_path, {"images": pack_images(tmp_path, pixels)})
    shown, axis = (pixels, -1) if color else (255 * rgb2gray(pixels), None)
    settings = {"pixels_per_cell": (8, 8), "cells_per_block": (2, 2), "orientations": 9}
    expected = [hog(one, block_norm=norm, channel_axis=axis, **settings) for one in shown]
    np.testing.assert_allclose(values(made), expected, rtol=1e-6, atol=1e-7)


def test_the_histogram_says_which_way_edges_run_also_where_only_colors_differ(
    tmp_path: Path,
) -> None:
    stripes = np.zeros((3, 32, 32, 3), np.uint8)
    stripes[0, :, ::4] = stripes[1, ::4] = 255
    stripes[2] = 0, 70, 0
    stripes[2, ::4] = 0, 0, 70  # blue beside green
    made = run_stage(ExtractHog(), tmp_path, {"images": pack_images(tmp_path, stripes)})
    upright, lying, colored = values(made).reshape(3, -1, 9)
    assert (upright.argmax(1) == 0).all()  # the gradient runs along the rows
    assert (lying.argmax(1) == 4).all()
    assert (colored.argmax(1) == 4).all()


def test_a_picture_of_one_color_has_no_edges_and_is_no_error(tmp_path: Path) -> None:
    images = pack_images(tmp_path, np.full((2, 32, 32, 3), 77, np.uint8))
    assert not values(run_stage(ExtractHog(), tmp_path, {"images": images})).any()


def test_ids_and_labels_are_those_of_the_images(tmp_path: Path) -> None:
    labels = np.arange(5) % 3
    images = pack_images(tmp_path, pictures(5), labels)
    made = run_stage(ExtractHog(), tmp_path, {"images": images})
    assert made.ids == images.ids
    np.testing.assert_array_equal(made.labels, labels)
    assert made.attributes["layer"] == "hog"
    assert made.attributes["preparation"] == []
    assert made.table.dtypes["features"] == "<f2"
    assert (
        run_stage(
            ExtractHog(), tmp_path / "b", {"images": pack_images(tmp_path / "b", pictures(5))}
        ).labels
        is None
    )


def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setattr(_resumable_writer, "PART", 2 * BLOCK)
    return pack_images(tmp_path / "set", pictures((FORKING + 1) * BLOCK + 7, 16))


def test_several_processes_give_what_one_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many(tmp_path, monkeypatch)
    made = []
    for threads in (1, 2):
        work = make_work(tmp_path / str(threads), {"images": images}, requested_threads=threads)
        ExtractHog().run(work)
        made.append((work.folder / "features.h5").read_bytes())
    assert made[0] == made[1]


def test_an_extraction_goes_on_at_the_start_of_a_block() -> None:
    assert _resumable_writer.PART % inference.BLOCK == _resumable_writer.PART % BLOCK == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stopped_extraction_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    images = many(tmp_path, monkeypatch)
    straight = run_stage(ExtractHog(), tmp_path / "straight", {"images": images})
    work = make_work(tmp_path / "stopped", {"images": images}, requested_threads=threads)
    pauses, pause = iter(range(3)), work.pause_point

    def stop_later() -> None:
        if next(pauses, None) is None:
            work.stop.number = 15
        pause()

    monkeypatch.setattr(work, "pause_point", stop_later)
    start = time.monotonic()
    with pytest.raises(Interrupted):
        ExtractHog().run(work)
    assert time.monotonic() - start < 20
    whole = sorted(work.checkpoints.glob("part-*.npy"))
    assert len(whole) == 2
    stamps = [path.stat().st_mtime_ns for path in whole]
    whole[1].write_bytes(whole[1].read_bytes()[:1000])  # and a part that the disk lost
    work = make_work(tmp_path / "stopped", {"images": images}, requested_threads=threads)
    ExtractHog().run(work)
    assert whole[0].stat().st_mtime_ns == stamps[0]
    assert (work.folder / "features.h5").read_bytes() == (
        straight.folder / "features.h5"
    ).read_bytes()


# In a plan.


def planned(size: int = 64, **options: Any) -> Any:
    images = {"images": SimpleNamespace(stage=SimpleNamespace(size=size))}
    return SimpleNamespace(key=str(options), inputs={}, images=images, stage=ExtractHog(**options))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({}, True),
        ({"dtype": "float32"}, True),
        ({"orientations": 8}, False),
        ({"block_norm": "L2"}, False),
        ({"color": False}, False),
        ({"size": 32}, False),
    ],
)
def test_features_of_other_settings_or_sizes_are_not_compared(
    other: dict[str, Any], same: bool
) -> None:
    assert (planned_space(planned()) == planned_space(planned(**other))) is same


def test_images_too_small_for_a_block_are_refused() -> None:
    ExtractHog().validate_plan(planned(16))
    with pytest.raises(
        InvalidOption, match=re.escape("images of 15 px hold 1 x 1 cells of 8 px")
    ) as caught:
        ExtractHog().validate_plan(planned(15))
    assert caught.value.option == "cells_per_block"


PIPELINE = """
data: {card: drawings, limit: 48, size: 32}
stages:
  model: {uses: pretext/random, backbone: conv4}
  learned: {uses: extract/network, model: model}
  hog: {uses: extract/hog}
  others: {uses: extract/hog, data: {card: drawings, split: test, limit: 48, size: 32}}
  prepared: {uses: prepare, features: hog, components: 8}
  taken: {uses: prepare, features: others, like: prepared}
  clusters: {uses: cluster, features: prepared, k: 4, iterations: 3}
  labels: {uses: assign, features: taken, clusters: clusters}
  raw: {uses: cluster, features: hog, k: 4, iterations: 3}
  target: {uses: target/pseudo_label, labels: labels, backbone: conv4, epochs: 1, batch_size: 16}
"""


def test_features_without_a_network_go_through_the_pipeline_and_only_their_kind_is_compared(
    pipeline: Callable[..., Path], invoke: Callable[..., Said]
) -> None:
    file = pipeline(PIPELINE)
    said = invoke("run", file, "--threads", 1).out
    assert "hog: done" in said
    assert "target: done" in said
    wrong = "--set=stages.wrong={uses: assign, features: learned, clusters: raw}"
    message = "'learned' and the centroids of 'raw' (of 'hog') differ in network, layer"
    assert message in invoke("status", file, wrong, check=2).err
    right = "--set=stages.right={uses: assign, features: others, clusters: raw}"
    assert "right" in invoke("status", file, right).out
    said = invoke("status", file, "--set", "stages.hog.pixels_per_cell=20", check=2).err
    assert "stages.hog.cells_per_block: images of 32 px hold 1 x 1 cells of 20 px" in said
