"""k nearest neighbors: accuracy of a network's features without any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluate._embeddings import embed_images
from stages.evaluate._figure_text import percents
from stages.evaluate._label_checks import (
    check_labels,
    check_planned_count,
    check_planned_labels,
    true_labels,
)
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.label_facts import image_count
from transfer.errors import InvalidOption
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import faiss, np, torch

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "knn/weighted-v1"
ALWAYS_NAMED = ("k", "temperature")  # papers differ in them, so the name has them at any value


class Knn(Stage):
    """Weighted vote of the k nearest training images by cosine, and 1-NN.

    The weights are exp(similarity / T) (Wu et al. 2018).
    """

    produces = Scores
    version = 4  # 4: the protocol's name has k and T
    seeded = False
    smoke = {"k": 20}
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer to read; none: the network's deepest convolutional one")
    pool: int = option(1, "side of the grid over which the layer's map is averaged", ge=1)
    k: int = option(20, "neighbors that vote (Wu et al.: 200 on ImageNet)", ge=1)
    temperature: float = option(0.07, "T of the neighbors' weights", gt=0)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the model has the layer, and the training split k images."""
        check_layers(planned, "layer", [self.layer])
        self._check_neighbors(planned.images["train"].stage.count)
        check_planned_count(planned)

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check the number of training images and of their classes, and k."""
        check_planned_labels(planned)
        self._check_neighbors(image_count(planned.images["train"].stage))

    def _check_neighbors(self, count: int) -> None:
        if self.k > count:
            raise InvalidOption(
                "k", f"{self.k} neighbors are more than the {count} training images; lower k"
            )

    def run(self, context: StageContext) -> None:
        """Classify each test image by its neighbors among the training images."""
        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        check_labels(train, test, context)
        layer = self.layer or model.card.default_layer
        gallery = embed_images(context, model, train, layer, self.pool)
        index = faiss.IndexFlatIP(gallery.shape[1])
        index.add(gallery)
        queries = embed_images(context, model, test, layer, self.pool)
        similarity, nearest = index.search(queries, self.k)
        neighbors, true = true_labels(train)[nearest], true_labels(test)
        outcomes = {
            "knn": 100.0 * (vote(neighbors, similarity, self.temperature) == true),
            "1-nn": 100.0 * (neighbors[:, 0] == true),
        }
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self, ALWAYS_NAMED),
            settings={**self.identity(), "layer": layer},
            selected={},
            main="knn",
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(train), "test": len(test)},
        )
        context.figures.update(percents(figures))


def vote(labels: numpy.ndarray, similarity: numpy.ndarray, temperature: float) -> numpy.ndarray:
    """Return (n,) the label with the largest weight.

    Args:
        labels: (n, k) int64, of each neighbor.
        similarity: (n, k), the nearest neighbor first.
        temperature: T of the weights.
    """
    # Relative to the nearest neighbor, so that no weight overflows.
    weights = np.exp((similarity - similarity[:, :1]) / temperature)
    totals = torch.zeros(len(labels), int(labels.max()) + 1, dtype=torch.float64)
    totals.scatter_add_(1, torch.from_numpy(labels), torch.from_numpy(weights).double())
    return totals.argmax(1).numpy()
