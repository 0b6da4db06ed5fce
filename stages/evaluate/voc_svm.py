"""VOC by linear SVMs on frozen features: all training images, and a few of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluate._layer_features import probed_layers, read_layers
from stages.evaluate._linear_svm import FOLDS, LinearSVMs, sample_rows, unit_length
from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import (
    check_annotated,
    check_learnable,
    classes_counted,
    load_annotations,
)
from transfer.artifacts import Model, Scores
from transfer.errors import InvalidOption
from transfer.numerics.average_precision import map_interval, mean_precision, precisions, rankings
from transfer.stage.base import ImageInput, Stage
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "voc_svm/vissl-v1"


class VocSvm(Stage):
    """A linear SVM a class on each of the network's layers (Goyal et al. 2019, VISSL); mean average precision.

    Activations after their ReLU are averaged over the largest grid that leaves at most `dimensions` values, and brought
    to unit length. Squared hinge, L2, dual, positives weigh 2. Trained on `trainval`; a class's cost is that with the
    best average precision in three folds of it, and the layer of `mAP` that with the best mean of those. A layer's
    figure is the area under the interpolated precision on `test`; VOC's 11 points stand beside it.

    Low-shot, on that layer: k images that show a class, and for each of them as many that do not as there are other
    classes, drawn anew `samples` times; mean and deviation over these. As published, the cost of a k is that with the
    best mean on the test split: too good by so much, for every network.

    What differs: difficult images are left out of the training too; images of equal score count at once.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    smoke = {"shots": [1, 2], "samples": 2, "shot_costs": [1.0]}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    layers: list[str] | None = option(
        None,
        "layers to score; none: all with a ReLU of their own, from the first to the last",
        min_length=1,
    )
    dimensions: int = option(9600, "values of a layer that the SVMs see, at most", ge=1)
    costs: list[float] = option(
        [0.1, 0.01], "the SVM's C, to choose from for all training images", min_length=1
    )
    shots: list[int] = option([1, 2, 4, 8, 16, 32, 64, 96], "k of low-shot; empty: none")
    shot_costs: list[float] = option(
        [0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 50.0, 100.0, 1000.0],
        "the SVM's C in low-shot",
        min_length=1,
    )
    samples: int = option(5, "draws of a low-shot training set", ge=1)
    iterations: int = option(2000, "of the SVM's solver, at most", ge=1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The sets are annotated, the model has the layers, and costs and shots can be."""
        check_annotated(planned)
        check_layers(planned, "layers", self.layers or [])
        for name in ("costs", "shots", "shot_costs"):
            if any(value <= 0 for value in getattr(self, name)):
                raise InvalidOption(name, f"above zero (found {getattr(self, name)})")

    def run(self, context: StageContext) -> None:
        model, train = context.inputs["model"], context.images["train"]
        targets = {
            role: load_annotations(images).targets for role, images in context.images.items()
        }
        check_learnable(targets["train"])
        trained, tested = ((targets[role] == 1).any(axis=0) for role in ("train", "test"))
        counted = classes_counted(context, train.classes, trained, tested)
        names = [train.classes[label] for label in counted]
        wanted, asked = targets["train"][:, counted], targets["test"][:, counted]
        layers = self.layers or probed_layers(model)
        files = {
            role: read_layers(context, model, images, layers, role, self.dimensions)
            for role, images in context.images.items()
        }

        def features(layer: str) -> tuple[numpy.ndarray, numpy.ndarray]:
            return tuple(unit_length(files[role][layer]) for role in ("train", "test"))

        machines = LinearSVMs(self.iterations)
        folded, ranked, costs = {}, {}, {}
        with context.progress("classifying", len(layers) * len(counted), "classes") as progress:
            for layer in layers:
                seen, unseen = features(layer)
                scores, marks, costs[layer] = np.zeros(asked.shape), [], {}
                for place, target in enumerate(wanted.T):
                    rows = np.flatnonzero(target)
                    # A class that every training image shows, or none, teaches nothing: its scores stay alike.
                    if len(np.unique(target[rows])) == 2:
                        shows = target[rows] == 1
                        cost, mark = machines.best_cost(self.costs, seen[rows], shows)
                        scores[:, place] = machines.fit(cost, seen[rows], shows).decision_function(
                            unseen
                        )
                        costs[layer][names[place]] = cost
                        marks.append(mark)
                    progress.advance(1)
                    context.pause_point()
                folded[layer], ranked[layer] = (
                    float(np.mean(marks or [0.0])),
                    rankings(scores, asked),
                )
        best = max(layers, key=lambda layer: folded[layer])
        figures = {
            "mAP": mean_precision(ranked[best], "area"),
            "mAP (11 points)": mean_precision(ranked[best], "11 points"),
            **{layer: mean_precision(ranked[layer], "area") for layer in layers},
        }
        few, few_costs = self._low_shot(context, machines, *features(best), wanted, asked)
        if machines.unfinished:
            context.note(
                f"{machines.unfinished} of {machines.fitted} SVMs were stopped after {self.iterations} iterations"
            )
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            main="mAP",
            figures=figures | few,
            selected={
                "layer": best,
                "costs": costs,
                "on": f"{FOLDS} folds of the training split",
                **few_costs,
            },
            intervals={
                "mAP": map_interval(
                    lambda counts: precisions(ranked[best], "area", counts), len(asked)
                )
            },
            counts={"train": len(wanted), "test": len(asked), "classes": len(counted)},
        )
        shown = {name: round(value, 2) for name, value in (figures | few).items()}
        context.figures.update({"best": f"{best} {figures['mAP']:.2f} %", **shown})

    def _low_shot(
        self,
        context: StageContext,
        machines: LinearSVMs,
        seen: numpy.ndarray,
        unseen: numpy.ndarray,
        wanted: numpy.ndarray,
        asked: numpy.ndarray,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Mean and deviation of each k that every class has the images for, and how their costs were selected."""
        figures, selected = {}, {}
        fewest, others = int((wanted == 1).sum(axis=0).min()), max(1, wanted.shape[1] - 1)
        possible = [k for k in self.shots if k <= fewest and (wanted == -1).any(axis=0).all()]
        if left := [str(k) for k in self.shots if k not in possible]:
            context.note(
                f"no low-shot with {', '.join(left)}: a class has {fewest} training images that show it"
            )
        with context.progress("low-shot", len(possible) * self.samples, "draws") as progress:
            for k in possible:
                marks = np.zeros((len(self.shot_costs), self.samples))
                for draw in range(self.samples):
                    scores = np.zeros((len(self.shot_costs), *asked.shape))
                    for place, target in enumerate(wanted.T):
                        rows = sample_rows(
                            target, k, k * others, context.seed_for("shots", k, draw, place)
                        )
                        for number, cost in enumerate(self.shot_costs):
                            runtime = machines.fit(cost, seen[rows], target[rows] == 1)
                            scores[number, :, place] = runtime.decision_function(unseen)
                        context.pause_point()
                    marks[:, draw] = [
                        mean_precision(rankings(some, asked), "area") for some in scores
                    ]
                    progress.advance(1)
                best = int(marks.mean(axis=1).argmax())
                figures[f"{k} shot"] = float(marks[best].mean())
                figures[f"{k} shot deviation"] = (
                    float(marks[best].std(ddof=1)) if self.samples > 1 else 0.0
                )
                selected[f"{k} shot"] = {
                    "cost": self.shot_costs[best],
                    "on": "the test split, as published",
                }
        return figures, selected
