"""k nearest neighbors: what a network's features say without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._embeddings import embed_images
from stages.evaluate._label_checks import check_labels
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.errors import InvalidOption
from transfer.stage.base import ImageInput, Stage
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import faiss, np, torch

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "knn/weighted-v1"
TELLING = ("k", "temperature")  # papers differ in them: they are named even where they are as here


class Knn(Stage):
    """Weighted vote of the k nearest training images by cosine, with exp(similarity / T) (Wu et al. 2018); and 1-NN."""

    produces = Scores
    version = 4  # since its name says k and T
    seeded = False
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer to read; none: the network's deepest convolutional one")
    pool: int = option(1, "side of the grid over which the layer's map is averaged", ge=1)
    k: int = option(20, "neighbors that vote (Wu et al.: 200 on ImageNet)", ge=1)
    temperature: float = option(0.07, "T of the weights", gt=0)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The model has the layer, and the training split k images."""
        check_layers(planned, "layer", [self.layer])
        count = planned.images["train"].stage.count
        if self.k > count:
            raise InvalidOption("k", f"{self.k} neighbors of {count} training images")

    def run(self, context: StageContext) -> None:
        model, train, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        check_labels(train, test, context)
        layer = self.layer or model.card.default_layer
        bank = embed_images(context, model, train, layer, self.pool)
        index = faiss.IndexFlatIP(bank.shape[1])
        index.add(bank)
        similarity, nearest = index.search(
            embed_images(context, model, test, layer, self.pool), self.k
        )
        neighbors = train.labels[nearest]
        outcomes = {
            "knn": 100.0 * (vote(neighbors, similarity, self.temperature) == test.labels),
            "1-nn": 100.0 * (neighbors[:, 0] == test.labels),
        }
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self, TELLING),
            settings={**self.identity(), "layer": layer},
            selected={},
            main="knn",
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(train), "test": len(test)},
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})


def vote(labels: numpy.ndarray, similarity: numpy.ndarray, temperature: float) -> numpy.ndarray:
    """(n, k) neighbors' labels and similarities to (n,) the label with the largest weight."""
    weights = np.exp(
        (similarity - similarity[:, :1]) / temperature
    )  # relative to the nearest, so that none overflows
    totals = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.float64)
    totals.scatter_add_(1, torch.from_numpy(labels), torch.from_numpy(weights).double())
    return totals.argmax(1).numpy()
