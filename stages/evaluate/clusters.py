"""What clusters know of classes, and how even they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._label_checks import check_several
from transfer.artifacts import PseudoLabels, Scores
from transfer.errors import InvalidOption
from transfer.numerics.cluster_agreement import cluster_agreement, contingency, size_balance
from transfer.numerics.confidence_intervals import LEVEL
from transfer.stage.base import ImageInput, Stage
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "clusters/v1"
DRAWS = 200


class EvaluateClusters(Stage):
    """Pseudo-labels against true ones: agreement, purity, evenness.

    NMI (arithmetic mean) and purity grow with k by construction: compare them at equal k, or take AMI and ARI. Two
    accuracies: `hungarian`, with the best one-to-one matching of clusters and classes (with more clusters than classes
    most images cannot be right), and `purity`, where each cluster stands for its most frequent class.
    """

    produces = Scores
    version = 3  # since its figures have intervals
    seeded = False
    images = {"images": ImageInput("train", same_as="labels", needs_labels=True)}

    labels: str = stage_input(PseudoLabels, "the pseudo-labels")

    def validate_plan(self, planned: PlannedStage) -> None:
        """The images have true labels."""
        if not planned.images["images"].stage.is_labeled:
            raise InvalidOption(
                "labels", f"the images of '{planned.inputs['labels'].name}' have no true labels"
            )

    def run(self, context: StageContext) -> None:
        images, pseudo = context.images["images"], context.inputs["labels"]
        given = labels_for_images(pseudo, images, context)
        known = np.flatnonzero(given >= 0)
        true, named = images.labels[known], given[known]
        check_several(true, "images")
        purity = majority_accuracy(true, named)
        agreed = cluster_agreement(true, named)
        figures = agreed | {"purity": float(purity.mean())}
        sizes = size_figures(pseudo.cluster_ids[named], pseudo.k)
        figures["entropy"] = sizes.pop("entropy")
        Scores.write(
            context.folder,
            protocol=PROTOCOL,
            settings={"k": pseudo.k, **sizes},
            selected={},
            main="ami",
            figures=figures,
            outcomes={"purity": purity},
            intervals=intervals(agreed, true, named, context),
            counts={"images": len(known)},
        )
        context.figures.update(
            {name: round(value, 2) for name, value in {**figures, **sizes}.items()}
        )


def intervals(
    figures: dict[str, float], true: numpy.ndarray, named: numpy.ndarray, context: StageContext
) -> dict[str, list[float]]:
    """Figure of `agreement` -> [low, high], 95 %, by bootstrap over images.

    An image that is drawn twice agrees with itself, which shifts what clusters seem to know: the spread of the draws
    is told about the figure itself.
    """
    random, drawn = np.random.RandomState(0), []
    with context.progress("resampling", DRAWS, "draws") as progress:
        for _ in range(DRAWS):
            rows = random.randint(0, len(true), len(true))
            drawn.append(cluster_agreement(true[rows], named[rows]))
            progress.advance(1)
            context.pause_point()
    found = {}
    for name, value in figures.items():
        values = np.array([one[name] for one in drawn])
        ends = np.quantile(values - values.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = np.clip(value + ends, -100.0, 100.0).tolist()
    return found


def majority_accuracy(true: numpy.ndarray, named: numpy.ndarray) -> numpy.ndarray:
    """(N,) 100 for an image of its cluster's most frequent class (the first of equals), else 0; the mean is purity."""
    return 100.0 * (contingency(true, named).argmax(1)[named] == true)


def size_figures(named: numpy.ndarray, count: int) -> dict[str, float]:
    """Entropy (percent), imbalance, smallest, largest and number of empty ones of `count` clusters."""
    sizes = np.bincount(named, minlength=count)
    entropy, imbalance = size_balance(sizes)
    return {
        "entropy": 100.0 * entropy,
        "imbalance": imbalance,
        "smallest": float(sizes.min()),
        "largest": float(sizes.max()),
        "empty": float((sizes == 0).sum()),
    }
