"""Agreement of clusters with true classes, and the balance of cluster sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluate._figure_text import percents
from stages.evaluate._label_checks import require_two_classes, true_labels
from transfer.artifacts import PseudoLabels, Scores
from transfer.datasets.packed.label_facts import class_counts
from transfer.errors import InvalidOption
from transfer.numerics.cluster_agreement import cluster_agreement, contingency, size_balance
from transfer.numerics.confidence_intervals import LEVEL
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "clusters/v1"
RESAMPLES = 200


class EvaluateClusters(Stage):
    """Pseudo-labels against true labels: agreement, purity, balance of sizes.

    NMI (arithmetic mean) and purity grow with k by construction: compare them at equal k, or use
    AMI and ARI. There are two accuracies. `hungarian` has the best one-to-one matching of clusters
    and classes; with more clusters than classes, most images cannot be correct. In `purity`, each
    cluster predicts its most frequent class.
    """

    produces = Scores
    version = 3  # 3: figures have intervals
    seeded = False
    images = {"images": ImageInput("train", same_as="labels", needs_labels=True)}

    labels: str = stage_input(PseudoLabels, "the pseudo-labels")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the images have true labels."""
        if not planned.images["images"].stage.is_labeled:
            raise InvalidOption(
                "labels",
                f"the images of '{planned.inputs['labels'].name}' have no true labels; "
                "choose a labeled set",
            )

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that the images have two classes."""
        require_two_classes(len(class_counts(planned.images["images"].stage)), "images")

    def run(self, context: StageContext) -> None:
        """Compute all figures over the images that have a pseudo-label."""
        images, pseudo = context.images["images"], context.inputs["labels"]
        assigned = labels_for_images(pseudo, images, context)
        rows = np.flatnonzero(assigned >= 0)
        true, clusters = true_labels(images)[rows], assigned[rows]
        require_two_classes(len(np.unique(true)), "images")
        purity = majority_accuracy(true, clusters)
        agreement = cluster_agreement(true, clusters)
        figures = agreement | {"purity": float(purity.mean())}
        sizes = size_figures(pseudo.cluster_ids[clusters], pseudo.k)
        figures["entropy"] = sizes.pop("entropy")
        Scores.write(
            context.folder,
            protocol=PROTOCOL,
            settings={"k": pseudo.k, **sizes},
            selected={},
            main="ami",
            figures=figures,
            outcomes={"purity": purity},
            intervals=agreement_intervals(agreement, true, clusters, context),
            counts={"images": len(rows)},
        )
        context.figures.update(percents(figures))
        context.figures.update({name: round(value, 2) for name, value in sizes.items()})


def agreement_intervals(
    figures: dict[str, float], true: numpy.ndarray, clusters: numpy.ndarray, context: StageContext
) -> dict[str, list[float]]:
    """Return [low, high], 95 %, of each figure of `cluster_agreement`, by bootstrap over images.

    An image that is drawn twice agrees with itself, so the figures of the draws are biased. The
    interval is therefore centered on the figure itself, and has the spread of the draws.

    Args:
        figures: over all images.
        true: (N,) int, true labels.
        clusters: (N,) int, numbers of clusters.
        context: the stage that runs.
    """
    random, draws = np.random.RandomState(0), []
    with context.progress("resampling", RESAMPLES, "draws") as progress:
        for _ in range(RESAMPLES):
            rows = random.randint(0, len(true), len(true))
            draws.append(cluster_agreement(true[rows], clusters[rows]))
            progress.advance(1)
            context.pause_point()
    intervals = {}
    for name, figure in figures.items():
        values = np.array([draw[name] for draw in draws])
        ends = np.quantile(values - values.mean(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        intervals[name] = np.clip(figure + ends, -100.0, 100.0).tolist()
    return intervals


def majority_accuracy(true: numpy.ndarray, clusters: numpy.ndarray) -> numpy.ndarray:
    """Return (N,): 100 for images of their cluster's most frequent class, 0 elsewhere.

    Of equally frequent classes, the first counts. The mean is the purity.
    """
    return 100.0 * (contingency(true, clusters).argmax(1)[clusters] == true)


def size_figures(clusters: numpy.ndarray, count: int) -> dict[str, float]:
    """Describe the sizes of `count` clusters, given the (N,) cluster of each image.

    Returns:
        Entropy (percent of that of equal clusters), imbalance, the smallest and largest size, and
        the number of empty clusters.
    """
    sizes = np.bincount(clusters, minlength=count)
    entropy, imbalance = size_balance(sizes)
    return {
        "entropy": 100.0 * entropy,
        "imbalance": imbalance,
        "smallest": float(sizes.min()),
        "largest": float(sizes.max()),
        "empty": float((sizes == 0).sum()),
    }
