"""Clusters as montages: the purest, the largest, the most confused, some at random; nearest to the centroid first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from transfer.artifacts import Clusters, Images, PseudoLabels
from transfer.report.collect import ReportData, ReportStage, apart, by_name, chosen, drawn, left_out
from transfer.report.image_sheets import GAP, ODD, EncodedImage, picture, sheet, tile
from transfer.report.svg_plots import Series, lines
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

TILES, COLUMNS, SIDE = 12, 6, 56  # pictures of a cluster
GROUP = 4  # clusters of a kind
ALL = 8  # so many clusters are all shown
TOLD = 3  # classes of a cluster that are named
LINES = 8  # sizes in one plot


@dataclass
class ClusterView:
    """One cluster: how large, of which classes (name and count, the most frequent first), and its nearest images."""

    number: int
    size: int
    classes: list[tuple[str, int]]
    purity: float | None
    picture: EncodedImage


@dataclass
class ClusterTable:
    """Pseudo-labels joined with their images by id. `order`: rows by label, each label's nearest first."""

    labels: numpy.ndarray
    clusters: numpy.ndarray  # label -> the cluster's number
    rows: numpy.ndarray  # of the packed images
    order: numpy.ndarray
    starts: numpy.ndarray
    true: numpy.ndarray | None  # -1 where not known

    @property
    def sizes(self) -> numpy.ndarray:
        return np.diff(self.starts)

    def nearest(self, label: int, count: int) -> numpy.ndarray:
        return self.order[self.starts[label] : self.starts[label + 1]][:count]


def montages(report: ReportData) -> dict[str, Any]:
    """Some members' clusters, by groups; which members are left out, and how to see them."""
    shown, others = [], []
    for members in by_name(report.of(PseudoLabels)).values():
        some, more = chosen(members)
        shown += some
        others += more
    found = []
    for one in shown:
        with report.reading(one):
            if (made := _montage(report, one)) is not None:
                found.append(made)
    return {
        "members": found,
        "full": COLUMNS * (SIDE + GAP) - GAP,
        "left_out": left_out(report, others),
    }


def _montage(report: ReportData, one: ReportStage) -> dict[str, Any] | None:
    pack = report.images_of(one.planned)
    if pack is None:
        return None
    images = report.opened(pack)
    table = _joined(one.checked("labels.h5"), images)
    if not len(table.order):
        return None
    counts = _contingency(table, len(images.classes))
    groups = [
        {
            "title": title,
            "clusters": [
                _cluster(images, table, counts, label) for label in labels if table.sizes[label]
            ],
        }
        for title, labels in _groups(table.sizes, counts)
        if labels
    ]
    return {
        "found": one,
        "set": pack.label,
        "labeled": counts is not None,
        "groups": groups,
        "count": len(table.sizes),
    }


def _joined(labels: PseudoLabels, images: Images) -> ClusterTable:
    place = {name: row for row, name in enumerate(images.ids)}
    rows = np.array([place.get(name, -1) for name in labels.ids], dtype=np.int64)
    order = np.lexsort((labels.table.read("distance"), labels.labels))
    order = order[rows[order] >= 0]
    starts = np.searchsorted(labels.labels[order], np.arange(labels.count + 1))
    true = None
    if images.labels is not None and len(images.classes):
        true = np.where(rows >= 0, images.labels[np.maximum(rows, 0)], -1)
    return ClusterTable(labels.labels, labels.cluster_ids, rows, order, starts, true)


def _contingency(table: ClusterTable, classes: int) -> numpy.ndarray | None:
    """(labels, classes) how many images of each class each label has; None without true labels."""
    if table.true is None:
        return None
    known = table.order[table.true[table.order] >= 0]
    pairs = table.labels[known] * classes + table.true[known]
    return np.bincount(pairs, minlength=len(table.sizes) * classes).reshape(-1, classes)


def _groups(sizes: numpy.ndarray, counts: numpy.ndarray | None) -> list[tuple[str, list[int]]]:
    """Titles, and the labels to show under each."""
    largest = np.lexsort((np.arange(len(sizes)), -sizes))
    if counts is None:
        if len(sizes) <= ALL:
            return [("All clusters, the largest first", largest.tolist())]
        told = [
            ("The largest", largest[:GROUP].tolist()),
            ("The smallest", largest[::-1][:GROUP].tolist()),
        ]
    else:
        total = np.maximum(1, counts.sum(1))
        share = counts / total[:, None]
        purity, entropy = share.max(1), -(share * np.log(np.where(share > 0, share, 1))).sum(1)
        # A cluster of two images is pure by chance, or wholly confused.
        enough = np.flatnonzero(sizes >= min(TILES, np.median(sizes)))
        purest = enough[np.lexsort((-sizes[enough], -purity[enough]))]
        if len(sizes) <= ALL:
            return [("All clusters, the purest first", np.lexsort((-sizes, -purity)).tolist())]
        confused = enough[np.lexsort((-sizes[enough], -entropy[enough]))]
        told = [
            ("The purest", purest[:GROUP].tolist()),
            ("The largest", largest[:GROUP].tolist()),
            ("The most confused", confused[:GROUP].tolist()),
        ]
    seen = {label for _, labels in told for label in labels}
    rest = [label for label in range(len(sizes)) if label not in seen]
    return [*told, ("At random", [rest[i] for i in drawn(len(rest), GROUP)])]


def _cluster(
    images: Images, table: ClusterTable, counts: numpy.ndarray | None, label: int
) -> ClusterView:
    rows = table.nearest(label, TILES)
    rows = rows[: len(rows) - len(rows) % 2] if len(rows) > COLUMNS else rows  # two full rows
    classes: list[tuple[str, int]] = []
    purity, frames = None, [None] * len(rows)
    if counts is not None:
        ranked = np.argsort(-counts[label], kind="stable")
        classes = [(images.classes[i], int(counts[label, i])) for i in ranked if counts[label, i]]
        purity = float(counts[label].max() / max(1, counts[label].sum()))
        frames = [ODD if table.true[row] not in (-1, ranked[0]) else None for row in rows]
    names = (
        []
        if table.true is None
        else [images.classes[i] if i >= 0 else "unknown" for i in table.true[rows]]
    )
    number = int(table.clusters[label])
    alt = f"cluster {number}: the {len(rows)} images nearest to its centroid" + (
        f", of the classes {', '.join(names)}" if names else ""
    )
    columns = len(rows) if len(rows) <= COLUMNS else len(rows) // 2
    tiles = [tile(images, row, SIDE) for row in table.rows[rows]]
    return ClusterView(
        number,
        int(table.sizes[label]),
        classes,
        purity,
        picture(sheet(tiles, columns, frames), alt),
    )


def sizes(report: ReportData) -> list[dict[str, Any]]:
    """For each clustering stage, the sizes of its clusters from the largest on, a line a member."""
    found = []
    for name, members in by_name(report.of(Clusters)).items():
        some, more = chosen(members, LINES)
        series, even = [], []
        for one, told in zip(some, apart([one.planned for one in some]), strict=True):
            with report.reading(one):
                values = np.sort(one.checked("clusters.h5").sizes)[::-1]
                series.append(Series(told, np.arange(1, len(values) + 1).tolist(), values.tolist()))
                even.append(values.mean())
        level = (
            ("all of one size", float(even[0]))
            if even and len({round(one, 6) for one in even}) == 1
            else None
        )
        plot: Markup = lines(
            f"sizes of the clusters of {name}",
            series,
            "cluster, from the largest",
            "images",
            level=level,
            floor=0.0,
            steps=True,
        )
        if plot:
            found.append(
                {"name": name, "members": some, "plot": plot, "left_out": left_out(report, more)}
            )
    return found
