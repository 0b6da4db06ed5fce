"""What clusters know of classes, and how even they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._label_checks import check_several
from transfer.artifacts import PseudoLabels, Scores
from transfer.errors import InvalidOption
from transfer.numerics.confidence_intervals import LEVEL
from transfer.stage.base import ImageInput as Reads
from transfer.stage.base import Stage, stage_input
from transfer.stage.label_joining import labels_for_images
from transfer.utils.lazy_imports import np, sparse

if TYPE_CHECKING:
    import numpy

    from transfer.pipeline.plan import PlannedStage
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
    images = {"images": Reads("train", follow="labels", labeled=True)}

    labels: str = stage_input(PseudoLabels, "the pseudo-labels")

    def validate_plan(self, planned: PlannedStage) -> None:
        """The images have true labels."""
        if not planned.images["images"].stage.facts.labeled:
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
        sizes = evenness(pseudo.cluster_ids[named], pseudo.k)
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


def contingency(true: numpy.ndarray, named: numpy.ndarray) -> numpy.ndarray:
    """(clusters, classes) int64: how many images of each class each cluster holds."""
    shape = (int(named.max()) + 1, int(true.max()) + 1)
    return sparse.coo_matrix((np.ones(len(true), np.int64), (named, true)), shape=shape).toarray()


def cluster_agreement(true: numpy.ndarray, named: numpy.ndarray) -> dict[str, float]:
    """Percent: NMI (arithmetic), AMI, ARI, and accuracy under the best one-to-one matching."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import (
        adjusted_mutual_info_score,
        adjusted_rand_score,
        normalized_mutual_info_score,
    )

    counts = contingency(true, named)
    matched = counts[linear_sum_assignment(-counts)].sum()
    return {
        "nmi": 100.0 * float(normalized_mutual_info_score(true, named)),
        "ami": 100.0 * float(adjusted_mutual_info_score(true, named)),
        "ari": 100.0 * float(adjusted_rand_score(true, named)),
        "hungarian": 100.0 * float(matched) / len(true),
    }


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


def evenness(named: numpy.ndarray, count: int) -> dict[str, float]:
    """Of cluster sizes: entropy (percent of that of equal ones), imbalance (1: all equal), smallest, largest, empty."""
    sizes = np.bincount(named, minlength=count)
    share = sizes[sizes > 0] / sizes.sum()
    return {
        "entropy": 100.0 * float(-(share * np.log(share)).sum() / np.log(max(2, count))),
        "imbalance": float(count * (share**2).sum()),
        "smallest": float(sizes.min()),
        "largest": float(sizes.max()),
        "empty": float((sizes == 0).sum()),
    }
