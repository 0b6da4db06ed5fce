"""Retrieval: for each test image, do the nearest training images show the same class?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._embeddings import embed_images
from stages.evaluate._label_checks import check_several
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.errors import TransferError
from transfer.stage.base import ImageInput, Stage
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.transforms.montage import SIDE, montage
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "retrieval/cosine-v1"
DEPTHS = (1, 5, 10)
BLOCK = 128  # queries ranked at once
QUERIES = 8  # of the picture
SHOWN = 8  # nearest images beside each
FRAME = 6  # px
FRAMES = {
    None: (255, 255, 255),
    True: (0, 158, 115),
    False: (213, 94, 0),
}  # told apart by color-blind people too


class Retrieval(Stage):
    """Training images ranked by cosine for each test image: mAP over the whole ranking, and recall at 1, 5 and 10.

    Recall at n: the share of queries with an image of their class among the first n. Average precision of a query: the
    mean of the precisions at each image of its class. A query whose class the training split does not have is left out.
    The picture `nearest.png` shows some queries and what was found nearest.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    seeded = False
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer to read; none: the network's deepest convolutional one")
    pool: int = option(1, "side of the grid over which the layer's map is averaged", ge=1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The model has the layer."""
        check_layers(planned, "layer", [self.layer])

    def run(self, context: StageContext) -> None:
        model, train, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        check_several(train.labels, "training images")
        layer = self.layer or model.card.default_layer
        bank, queries = (
            torch.from_numpy(embed_images(context, model, one, layer, self.pool))
            for one in (train, test)
        )
        asked = np.flatnonzero(np.isin(test.labels, train.labels))
        if not len(asked):
            raise TransferError(
                "no class of the test split is in the training split: nothing can be found"
            )
        if len(asked) < len(test):
            context.note(
                f"{len(test) - len(asked)} test images are of classes that no training image has: left out"
            )
        precisions, firsts, nearest = [], [], []
        labels = torch.from_numpy(train.labels)
        with context.progress("ranking", len(asked), "images") as progress:
            for start in range(0, len(asked), BLOCK):
                rows = asked[start : start + BLOCK]
                ranking = rank_gallery(queries[rows], bank)
                hits = labels[ranking] == torch.from_numpy(test.labels[rows])[:, None]
                precisions.append(average_precision(hits))
                firsts.append(hits.int().argmax(1))
                nearest.append(ranking[:, :SHOWN])
                progress.advance(len(rows))
                context.pause_point()
        first = torch.cat(firsts).numpy()
        outcomes = {"mAP": 100.0 * torch.cat(precisions).numpy()}
        outcomes |= {f"recall at {n}": 100.0 * (first < n) for n in DEPTHS}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings={**self.identity(), "layer": layer},
            selected={},
            main="mAP",
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(train), "test": len(asked)},
        )
        draw_nearest(train, test, asked, torch.cat(nearest).numpy()).save(
            context.folder / "nearest.png", format="PNG"
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})


def rank_gallery(queries: Tensor, bank: Tensor) -> Tensor:
    """(Q, D) and (N, D) of unit length to (Q, N): rows of the bank, the most similar first; equals in their order."""
    return (queries @ bank.T).argsort(dim=1, descending=True, stable=True)


def average_precision(hits: Tensor) -> Tensor:
    """(Q, N) bool, by rank, to (Q,) float64: the mean over the hits of the precision at each; every row has one."""
    hits = hits.double()
    places = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64)
    return (hits.cumsum(1) / places * hits).sum(1) / hits.sum(1)


def draw_nearest(
    train: Images, test: Images, asked: numpy.ndarray, nearest: numpy.ndarray
) -> object:
    """Queries spread over the test split, a row each, and what was found: framed green where the class is the same."""
    chosen = np.linspace(0, len(asked) - 1, min(QUERIES, len(asked))).astype(int)
    queries = asked[chosen]
    columns = {"query": _framed(test, queries, [None] * len(queries))}
    for n, rows in enumerate(nearest[chosen].T):
        same = (train.labels[rows] == test.labels[queries]).tolist()
        columns[f"nearest {n + 1}"] = _framed(train, rows, same)
    return montage(columns)


def _framed(images: Images, rows: numpy.ndarray, same: list[bool | None]) -> Tensor:
    """(n, 3, SIDE, SIDE) uint8: the pictures in frames, white where there is nothing to tell."""
    pictures = torch.from_numpy(np.stack([images.picture(int(row)) for row in rows])).permute(
        0, 3, 1, 2
    )
    sheet = torch.empty(len(rows), 3, SIDE, SIDE, dtype=torch.uint8)
    sheet[:] = torch.tensor([FRAMES[one] for one in same], dtype=torch.uint8)[:, :, None, None]
    inner = F.interpolate(pictures.float(), size=SIDE - 2 * FRAME, mode="nearest").byte()
    sheet[:, :, FRAME:-FRAME, FRAME:-FRAME] = inner
    return sheet
