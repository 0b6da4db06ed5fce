"""Retrieval: whether the training images nearest to a test image show the same class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from stages.evaluate._embeddings import embed_images
from stages.evaluate._figure_text import percents
from stages.evaluate._label_checks import require_two_classes, true_labels
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.label_facts import class_counts
from transfer.errors import TransferError
from transfer.numerics.average_precision import ranked_precisions
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.transforms.montage import SIDE, montage
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    import numpy
    from PIL import Image
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "retrieval/cosine-v1"
DEPTHS = (1, 5, 10)  # n of recall at n
BLOCK = 128  # queries that are ranked at once
QUERIES = 8  # rows of the picture
NEIGHBORS = 8  # of each query in the picture
FRAME = 6  # px
# Colors of frames by whether the class is the query's; color-blind readers can distinguish them.
FRAMES = {None: (255, 255, 255), True: (0, 158, 115), False: (213, 94, 0)}


class Retrieval(Stage):
    """Training images ranked by cosine for each test image: mAP, and recall at 1, 5 and 10.

    mAP is the mean of the queries' average precision, which is the mean of the precisions at each
    image of the query's class, over the whole ranking. Recall at n is the share of queries with an
    image of their class among the first n. Queries whose class the training split lacks are left
    out. The picture `nearest.png` shows a few queries with their nearest images.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    seeded = False
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer to read; none: the network's deepest convolutional one")
    pool: int = option(1, "side of the grid over which the layer's map is averaged", ge=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the model has the layer."""
        check_layers(planned, "layer", [self.layer])

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that the training images have two classes, of which a test image has one."""
        train, test = (class_counts(planned.images[role].stage) for role in ("train", "test"))
        require_two_classes(len(train), "training images")
        _require_common_class(len(train.keys() & test.keys()))

    def run(self, context: StageContext) -> None:
        """Rank the training images for each test image, and draw a few rankings."""
        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        train_labels, test_labels = true_labels(train), true_labels(test)
        require_two_classes(len(np.unique(train_labels)), "training images")
        layer = self.layer or model.card.default_layer
        gallery, embeddings = (
            torch.from_numpy(embed_images(context, model, images, layer, self.pool))
            for images in (train, test)
        )
        queries = np.flatnonzero(np.isin(test_labels, train_labels))
        _require_common_class(len(queries))
        if len(queries) < len(test):
            context.note(
                f"{len(test) - len(queries)} test images are left out, because no training image "
                "has their class"
            )
        precisions, first_hits, nearest = [], [], []
        labels = torch.from_numpy(train_labels)
        with context.progress("ranking", len(queries), "images") as progress:
            for start in range(0, len(queries), BLOCK):
                rows = queries[start : start + BLOCK]
                ranking = rank_gallery(embeddings[rows], gallery)
                hits = labels[ranking] == torch.from_numpy(test_labels[rows])[:, None]
                precisions.append(ranked_precisions(hits.numpy()))
                first_hits.append(hits.int().argmax(1))
                nearest.append(ranking[:, :NEIGHBORS])
                progress.advance(len(rows))
                context.pause_point()
        first = torch.cat(first_hits).numpy()
        outcomes = {"mAP": 100.0 * np.concatenate(precisions)}
        outcomes |= {f"recall at {depth}": 100.0 * (first < depth) for depth in DEPTHS}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings={**self.identity(), "layer": layer},
            selected={},
            main="mAP",
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(train), "test": len(queries)},
        )
        picture = draw_nearest(train, test, queries, torch.cat(nearest).numpy())
        picture.save(context.folder / "nearest.png", format="PNG")
        context.figures.update(percents(figures))


def _require_common_class(count: int) -> None:
    if not count:
        raise TransferError(
            "the test split has no class of the training split; choose splits of one set"
        )


def rank_gallery(queries: Tensor, gallery: Tensor) -> Tensor:
    """Return (Q, N) rows of the gallery, the most similar first, ties in their order.

    `queries` (Q, D) and `gallery` (N, D) are of unit length.
    """
    return (queries @ gallery.T).argsort(dim=1, descending=True, stable=True)


def draw_nearest(
    train: Images, test: Images, queries: numpy.ndarray, nearest: numpy.ndarray
) -> Image.Image:
    """Draw a few queries, a row each, with their nearest images.

    A frame is green where the class is that of the query.

    Args:
        train: the ranked images.
        test: the images of the queries.
        queries: (Q,) rows of `test`; those drawn are spread over them.
        nearest: (Q, n) rows of `train`, the nearest first.
    """
    chosen = np.linspace(0, len(queries) - 1, min(QUERIES, len(queries))).astype(int)
    rows = queries[chosen]
    query_labels, train_labels = true_labels(test)[rows], true_labels(train)
    columns = {"query": _framed(test, rows, [None] * len(rows))}
    for number, neighbors in enumerate(nearest[chosen].T, 1):
        same = (train_labels[neighbors] == query_labels).tolist()
        columns[f"nearest {number}"] = _framed(train, neighbors, same)
    return cast("Image.Image", montage(columns))


def _framed(images: Images, rows: numpy.ndarray, same: list[bool | None]) -> Tensor:
    """Return (n, 3, SIDE, SIDE) uint8 images in frames, white for a query."""
    pixels = np.stack([images.picture(int(row)) for row in rows])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    sheet = torch.empty(len(rows), 3, SIDE, SIDE, dtype=torch.uint8)
    colors = torch.tensor([FRAMES[is_same] for is_same in same], dtype=torch.uint8)
    sheet[:] = colors[:, :, None, None]
    inner = F.interpolate(pictures.float(), size=SIDE - 2 * FRAME, mode="nearest").byte()
    sheet[:, :, FRAME:-FRAME, FRAME:-FRAME] = inner
    return sheet
