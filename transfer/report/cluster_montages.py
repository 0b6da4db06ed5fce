"""Clusters as montages: the purest, the largest, the most confused and random ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transfer.artifacts import Images, PseudoLabels
from transfer.numerics.cluster_agreement import contingency
from transfer.report.collect import FinishedStage, ReportData
from transfer.report.image_sheets import GAP, ODD, Color, EncodedImage, encode_image, sheet, tile
from transfer.report.members import (
    HiddenMembers,
    group_by_name,
    hidden_members,
    random_rows,
    sample_members,
)
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

TILES, COLUMNS, SIDE = 12, 6, 56  # images of a cluster; of a row; px of one
FULL_WIDTH = COLUMNS * (SIDE + GAP) - GAP  # px of a montage
GROUP_SIZE = 4  # clusters of a group
SMALL_CLUSTERING = 8  # clusters, up to which all are shown


@dataclass(frozen=True)
class ClusterView:
    """A cluster with its classes (name and count, the most frequent first) and its montage."""

    number: int
    size: int
    classes: list[tuple[str, int]]
    purity: float | None  # percent; None without true labels
    picture: EncodedImage


@dataclass(frozen=True)
class ClusterGroup:
    """Clusters with a common title."""

    title: str
    clusters: list[ClusterView]


@dataclass(frozen=True)
class Montage:
    """The clusters of a stage."""

    stage: FinishedStage
    image_set: str
    is_labeled: bool
    groups: list[ClusterGroup]
    count: int  # clusters with images


@dataclass(frozen=True)
class MontageSection:
    """The montages of the section."""

    montages: list[Montage]
    hidden: HiddenMembers | None


@dataclass(frozen=True)
class ClusterTable:
    """Pseudo-labels joined with the packed images by id."""

    labels: numpy.ndarray  # (N,) the pseudo-label of each row
    clusters: numpy.ndarray  # (labels,) the number of the cluster of each label
    image_rows: numpy.ndarray  # (N,) rows of the packed images; -1 where an image is missing
    order: numpy.ndarray  # rows by label, the nearest to the centroid first
    starts: numpy.ndarray  # (labels + 1,) where each label starts in `order`
    classes: numpy.ndarray | None  # (N,) true class, -1 where unknown; None without true labels

    @property
    def sizes(self) -> numpy.ndarray:
        """(labels,) images of each label."""
        return np.diff(self.starts)

    def nearest(self, label: int, count: int) -> numpy.ndarray:
        """The rows of a label that are nearest to its centroid."""
        return self.order[self.starts[label] : self.starts[label + 1]][:count]

    def class_counts(self, class_count: int) -> numpy.ndarray | None:
        """(labels, classes) images of each class; None without true labels."""
        if self.classes is None:
            return None
        counts = np.zeros((len(self.sizes), class_count), np.int64)
        known = self.order[self.classes[self.order] >= 0]
        if len(known):
            # It ends at the last label and class with an image.
            present = contingency(self.classes[known], self.labels[known])
            counts[: present.shape[0], : present.shape[1]] = present
        return counts


def montage_section(report: ReportData) -> MontageSection:
    """The clusters of a sample of the members of each stage."""
    montages, hidden = [], []
    for members in group_by_name(report.finished(PseudoLabels)).values():
        shown, others = sample_members(members)
        hidden += others
        for stage in shown:
            with report.reading(stage):
                montage = _montage(report, stage)
                if montage is not None:
                    montages.append(montage)
    return MontageSection(montages, hidden_members(report, hidden))


def _montage(report: ReportData, stage: FinishedStage) -> Montage | None:
    pack = report.images_of(stage.planned)
    if pack is None:
        return None
    images = report.open_images(pack)
    table = _cluster_table(stage.checked(PseudoLabels, "labels.h5"), images)
    if not len(table.order):
        return None
    counts = table.class_counts(len(images.classes))
    groups = []
    for title, labels in _groups(table.sizes, counts):
        if labels:
            clusters = [
                _cluster_view(images, table, counts, label)
                for label in labels
                if table.sizes[label]
            ]
            groups.append(ClusterGroup(title, clusters))
    return Montage(stage, pack.label, counts is not None, groups, len(table.sizes))


def _cluster_table(labels: PseudoLabels, images: Images) -> ClusterTable:
    image_rows = {name: row for row, name in enumerate(images.ids)}
    rows = np.array([image_rows.get(name, -1) for name in labels.ids], dtype=np.int64)
    order = np.lexsort((labels.table.read("distance"), labels.labels))
    order = order[rows[order] >= 0]
    starts = np.searchsorted(labels.labels[order], np.arange(labels.count + 1))
    classes = None
    if images.labels is not None and len(images.classes):
        classes = np.where(rows >= 0, images.labels[np.maximum(rows, 0)], -1)
    return ClusterTable(labels.labels, labels.cluster_ids, rows, order, starts, classes)


def _groups(sizes: numpy.ndarray, counts: numpy.ndarray | None) -> list[tuple[str, list[int]]]:
    """Titles, and the labels to show under each."""
    is_small = len(sizes) <= SMALL_CLUSTERING
    largest = np.lexsort((np.arange(len(sizes)), -sizes))
    if counts is None:
        if is_small:
            return [("All clusters, the largest first", largest.tolist())]
        rankings = {"The largest": largest, "The smallest": largest[::-1]}
    else:
        shares = counts / np.maximum(1, counts.sum(1))[:, None]
        purity = shares.max(1)
        entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1)
        if is_small:
            return [("All clusters, the purest first", np.lexsort((-sizes, -purity)).tolist())]
        # Small clusters are pure, or confused, by chance.
        ranked = np.flatnonzero(sizes >= min(TILES, np.median(sizes)))
        purest = ranked[np.lexsort((-sizes[ranked], -purity[ranked]))]
        confused = ranked[np.lexsort((-sizes[ranked], -entropy[ranked]))]
        rankings = {"The purest": purest, "The largest": largest, "The most confused": confused}
    groups = [(title, ranking[:GROUP_SIZE].tolist()) for title, ranking in rankings.items()]
    shown = {label for _, labels in groups for label in labels}
    rest = [label for label in range(len(sizes)) if label not in shown]
    return [*groups, ("At random", [rest[row] for row in random_rows(len(rest), GROUP_SIZE)])]


def _cluster_view(
    images: Images, table: ClusterTable, counts: numpy.ndarray | None, label: int
) -> ClusterView:
    """The view of a cluster.

    Args:
        images: the packed images.
        table: all pseudo-labels.
        counts: (labels, classes) images of each class; None without true labels.
        label: the label of the cluster.
    """
    rows = table.nearest(label, TILES)
    if len(rows) > COLUMNS:  # an even number fills two rows
        rows = rows[: len(rows) - len(rows) % 2]
    columns = len(rows) // 2 if len(rows) > COLUMNS else len(rows)
    number, classes, purity = int(table.clusters[label]), [], None
    frames: list[Color | None] = [None] * len(rows)
    alt = f"cluster {number}: the {len(rows)} images nearest to its centroid"
    if counts is not None and table.classes is not None:
        ranking = np.argsort(-counts[label], kind="stable")
        classes = [(images.classes[i], int(counts[label, i])) for i in ranking if counts[label, i]]
        purity = 100.0 * float(counts[label].max() / max(1, counts[label].sum()))
        true = table.classes[rows]
        frames = [None if name in (-1, ranking[0]) else ODD for name in true]
        names = [images.classes[i] if i >= 0 else "unknown" for i in true]
        alt += f", of the classes {', '.join(names)}"
    tiles = [tile(images, row, SIDE) for row in table.image_rows[rows]]
    picture = encode_image(sheet(tiles, columns, frames), alt)
    return ClusterView(number, int(table.sizes[label]), classes, purity, picture)
