"""Nearest neighbors: what retrieval found, or where nothing retrieved, what features in the store lie nearest."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from transfer.artifacts import Features, Scores
from transfer.errors import CorruptArtifact
from transfer.report.collect import ReportData, ReportStage, chosen, left_out, spread
from transfer.report.image_sheets import LIKE, ODD, EncodedImage, picture, sheet, tile
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

PICTURE = "nearest.png"
WIDE = 1000  # px of retrieval's picture on the page
QUERIES, NEAREST, SIDE = 6, 7, 72
VALUES = 1 << 26  # of features that are read at most: a page must not wait for what a large set has


def neighbors(report: ReportData) -> dict[str, Any]:
    """Pictures with the stage that each comes from; retrieval's own, or a row a query of features that are there."""
    retrieved = [one for one in report.of(Scores) if PICTURE in one.manifest.files]
    some, more = chosen(retrieved or _last(report))
    found = []
    for one in some:
        with report.reading(one):
            made = {"picture": _retrieved(one)} if retrieved else _nearest(report, one)
            if made is not None:
                found.append({"found": one, "retrieved": bool(retrieved), **made})
    return {"pictures": found, "left_out": left_out(report, more)}


def _last(report: ReportData) -> list[ReportStage]:
    """Features that no other features are made from, of images that are labeled or clustered."""
    features = report.of(Features)
    read = {other.key for one in features for other in one.planned.inputs.values()}
    return [one for one in features if one.planned.key not in read]


def _retrieved(one: ReportStage) -> EncodedImage:
    from PIL import Image

    folder = one.checked(PICTURE).folder
    try:
        with Image.open(io.BytesIO((folder / PICTURE).read_bytes()), formats=("PNG",)) as image:
            image.thumbnail((WIDE, 4 * WIDE))
            made = image.convert("RGB")
    except OSError as error:
        raise CorruptArtifact(folder, f"{PICTURE} cannot be read ({error})") from error
    return picture(
        made, f"a row a query of {one.label}: the image, and the training images nearest to it"
    )


def _nearest(report: ReportData, one: ReportStage) -> dict[str, Any] | None:
    """A row a query: the image and those whose features lie nearest by cosine."""
    pack = report.images_of(one.planned)
    if pack is None:
        return None
    images, features = report.opened(pack), one.checked("features.h5")
    place = {name: row for row, name in enumerate(images.ids)}
    most = max(1000, VALUES // features.shape[1])
    rows = [place.get(name, -1) for name in features.ids[:most]]
    asked = [row for row in spread(len(rows), QUERIES) if rows[row] >= 0]
    if not asked:
        return None
    ranked = _ranked(features, asked, len(rows))
    tiles, frames = [], []
    for query, order in zip(asked, ranked, strict=True):
        near = [row for row in order if row != query and rows[row] >= 0][:NEAREST]
        tiles += [tile(images, rows[row], SIDE) for row in (query, *near)]
        true = images.labels
        known = true is not None and true[rows[query]] >= 0
        frames += [
            None,
            *(
                (LIKE if true[rows[row]] == true[rows[query]] else ODD) if known else None
                for row in near
            ),
        ]
        tiles += [np.full((SIDE, SIDE, 3), 128, np.uint8)] * (NEAREST - len(near))
        frames += [None] * (NEAREST - len(near))
    alt = f"a row a query: the image, and the {NEAREST} whose features of {one.label} lie nearest to its own"
    among = len(rows) if len(rows) < len(features) else 0
    return {
        "picture": picture(sheet(tiles, NEAREST + 1, frames, frame=4), alt),
        "set": pack.label,
        "among": among,
    }


def _ranked(features: Features, asked: list[int], most: int) -> numpy.ndarray:
    """(queries, n) of the first `most` rows, the most similar first; block by block, so that memory does not grow."""
    queries = np.zeros((len(asked), features.shape[1]), np.float32)
    for start, block in _first(features, most):
        for place, row in enumerate(asked):
            if start <= row < start + len(block):
                queries[place] = block[row - start]
    queries /= np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    best, rows = np.zeros((len(asked), 0), np.float32), np.zeros((len(asked), 0), np.int64)
    for start, block in _first(features, most):
        block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        best = np.concatenate([best, queries @ block.T], axis=1)
        rows = np.concatenate(
            [rows, np.tile(np.arange(start, start + len(block)), (len(asked), 1))], axis=1
        )
        kept = np.argsort(-best, axis=1, kind="stable")[:, : 4 * NEAREST]
        best, rows = np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)
    return rows


def _first(features: Features, most: int) -> Iterator[tuple[int, numpy.ndarray]]:
    for start, block in features.blocks():
        if start >= most:
            return
        yield start, block[: most - start]
