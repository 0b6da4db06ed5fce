"""Nearest neighbors: the pictures of retrieval stages, or neighbors of stored features."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.artifacts import Features, Scores
from transfer.artifacts.images import Images
from transfer.errors import CorruptArtifact
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.image_sheets import LIKE, ODD, Color, EncodedImage, encode_image, sheet, tile
from transfer.report.members import (
    HiddenMembers,
    even_rows,
    hidden_members,
    sample_members,
)
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

PICTURE = "nearest.png"
PICTURE_WIDTH = 1000  # px of a retrieval picture on the page
QUERIES, NEAREST, SIDE = 6, 7, 72
FRAME_WIDTH = 4
MAX_VALUES = 1 << 26  # of features that are read, so that a large set does not delay the page
LEAST_ROWS = 1000  # that are read in any case


@dataclass(frozen=True)
class NeighborPicture:
    """A row for each query: the image and its nearest neighbors."""

    stage: FinishedStage
    picture: EncodedImage
    retrieved: bool  # made by a retrieval stage
    image_set: str = ""
    searched: int = 0  # rows that were compared, where these are not all


@dataclass(frozen=True)
class NeighborSection:
    """The pictures of the section."""

    pictures: list[NeighborPicture]
    hidden: HiddenMembers | None


def neighbor_section(report: ReportData) -> NeighborSection:
    """The pictures of retrieval stages; without any, neighbors of the features in the store."""
    retrieval = [stage for stage in report.finished(Scores) if PICTURE in stage.manifest.files]
    shown, others = sample_members(retrieval or _final_features(report))
    pictures = []
    for stage in shown:
        with report.reading(stage):
            picture = _retrieval_picture(stage) if retrieval else _feature_picture(report, stage)
            if picture is not None:
                pictures.append(picture)
    return NeighborSection(pictures, hidden_members(report, others))


def _final_features(report: ReportData) -> list[FinishedStage]:
    """Features from which no other features are made."""
    features = report.finished(Features)
    sources = {planned.key for stage in features for planned in stage.planned.inputs.values()}
    return [stage for stage in features if stage.planned.key not in sources]


def _retrieval_picture(stage: FinishedStage) -> NeighborPicture:
    from PIL import Image

    folder = stage.checked(Scores, PICTURE).folder
    try:
        with Image.open(io.BytesIO((folder / PICTURE).read_bytes()), formats=("PNG",)) as image:
            image.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
            picture = image.convert("RGB")
    except OSError as error:
        raise CorruptArtifact(folder, f"{PICTURE} cannot be read ({error})") from error
    alt = f"{stage.label}: each row shows a query and the training images nearest to it"
    return NeighborPicture(stage, encode_image(picture, alt), retrieved=True)


def _feature_picture(report: ReportData, stage: FinishedStage) -> NeighborPicture | None:
    """Queries with their neighbors by cosine similarity; None where no image is packed."""
    pack = report.images_of(stage.planned)
    if pack is None:
        return None
    images = report.open_images(pack)
    features = stage.checked(Features, "features.h5")
    limit = max(LEAST_ROWS, MAX_VALUES // features.shape[1])
    image_rows = {name: row for row, name in enumerate(images.ids)}
    rows = [image_rows.get(name, -1) for name in features.ids[:limit]]
    queries = [query for query in even_rows(len(rows), QUERIES) if rows[query] >= 0]
    if not queries:
        return None
    tiles: list[numpy.ndarray] = []
    frames: list[Color | None] = []
    for query, ranking in zip(queries, _rankings(features, queries, len(rows)), strict=True):
        nearest = [rows[row] for row in ranking if row != query and rows[row] >= 0][:NEAREST]
        blank = NEAREST - len(nearest)
        tiles += [tile(images, row, SIDE) for row in (rows[query], *nearest)]
        tiles += [np.full((SIDE, SIDE, 3), 128, np.uint8)] * blank
        frames += [None, *_class_frames(images, rows[query], nearest), *[None] * blank]
    alt = (
        f"each row shows an image and the {NEAREST} nearest to it by the features of {stage.label}"
    )
    picture = sheet(tiles, NEAREST + 1, frames, frame_width=FRAME_WIDTH)
    searched = len(rows) if len(rows) < len(features) else 0
    return NeighborPicture(stage, encode_image(picture, alt), False, pack.label, searched)


def _class_frames(images: Images, query: int, rows: list[int]) -> list[Color | None]:
    """A color for each row: whether it has the class of the query; None where that is unknown."""
    labels = images.labels
    if labels is None or labels[query] < 0:
        return [None] * len(rows)
    return [LIKE if labels[row] == labels[query] else ODD for row in rows]


def _rankings(features: Features, queries: list[int], limit: int) -> numpy.ndarray:
    """(queries, n) of the first `limit` rows, the most similar first.

    It reads block by block, so that memory does not grow with the set.
    """
    vectors = np.zeros((len(queries), features.shape[1]), np.float32)
    for start, block in _blocks(features, limit):
        for place, row in enumerate(queries):
            if start <= row < start + len(block):
                vectors[place] = block[row - start]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    best = np.zeros((len(queries), 0), np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for start, block in _blocks(features, limit):
        block = block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        block_rows = np.tile(np.arange(start, start + len(block)), (len(queries), 1))
        best = np.concatenate([best, vectors @ block.T], axis=1)
        rows = np.concatenate([rows, block_rows], axis=1)
        kept = np.argsort(-best, axis=1, kind="stable")[:, : 4 * NEAREST]
        best, rows = np.take_along_axis(best, kept, 1), np.take_along_axis(rows, kept, 1)
    return rows


def _blocks(features: Features, limit: int) -> Iterator[tuple[int, numpy.ndarray]]:
    """(first row, block) over the first `limit` rows."""
    for start, block in features.blocks():
        if start >= limit:
            return
        yield start, block[: limit - start]
