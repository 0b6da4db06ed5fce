"""VOC by linear SVMs on frozen features: with all training images, and with a few of each class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from stages.evaluate._figure_text import chosen_layer, percent, percents
from stages.evaluate._layer_features import probed_layers, read_layers
from stages.evaluate._linear_svm import FOLDS, LinearSVMs, Split, sample_rows, unit_length
from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import (
    check_annotated,
    check_learnable,
    check_planned_classes,
    classes_counted,
    load_annotations,
)
from transfer.artifacts import Model, Scores
from transfer.errors import InvalidOption
from transfer.numerics.average_precision import (
    Ranking,
    map_interval,
    mean_precision,
    precisions,
    rankings,
)
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.utils.progress import Progress

PROTOCOL = "voc_svm/vissl-v1"


class LayerResult(NamedTuple):
    """SVMs of all classes on one layer."""

    fold_precision: float  # mean over the classes of the average precision in folds, from 0 to 1
    ranked: list[Ranking]  # of the test images, for each class
    costs: dict[str, float]  # class -> C


class VocSvm(Stage):
    """A linear SVM a class on each of the network's layers (Goyal et al. 2019, VISSL); mAP.

    Activations after their ReLU are averaged over the largest grid with at most `dimensions`
    values, and scaled to unit length. SVMs have squared hinge loss and L2 penalty, in the dual;
    positives weigh 2. They are trained on `trainval`. The cost of a class is the one with the best
    average precision in three folds of it, and the layer of `mAP` the one with the best mean of
    these. The figure of a layer is the area under the interpolated precision on `test`; another
    figure is by VOC's 11 points.

    Low-shot, on the same layer: k images that show a class, and for each of them as many that do
    not as there are other classes, drawn `samples` times; mean and deviation over the draws. As
    published, the cost of a k is the one with the best mean on the test split, which flatters
    every network.

    Differences from the published protocol: difficult images are left out of the training too, and
    images of equal score enter the ranking at once.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    smoke = {"shots": [1, 2], "samples": 2, "shot_costs": [1.0]}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    layers: list[str] | None = option(
        None,
        "layers to score; none: all with a ReLU of their own, from the first to the last",
        min_length=1,
    )
    dimensions: int = option(9600, "values of a layer for the SVMs, at most", ge=1)
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
    iterations: int = option(2000, "largest number of iterations of the SVM solver", ge=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the sets are annotated, that layers exist, and that numbers are positive."""
        check_annotated(planned)
        check_layers(planned, "layers", self.layers or [])
        numbers = {"costs": self.costs, "shots": self.shots, "shot_costs": self.shot_costs}
        for name, values in numbers.items():
            if any(value <= 0 for value in values):
                raise InvalidOption(name, f"must be above zero, not {values}")

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that the training images can be learned from, and the test images scored."""
        check_planned_classes(planned)

    def run(self, context: StageContext) -> None:
        """Score all layers with all images, and the chosen one with a few."""
        model, train = context.inputs["model"], context.images["train"]
        targets = {
            role: load_annotations(images).targets for role, images in context.images.items()
        }
        check_learnable(targets["train"])
        trained, tested = ((targets[role] == 1).any(axis=0) for role in ("train", "test"))
        counted = classes_counted(context, train.classes, trained, tested)
        names = [train.classes[label] for label in counted.tolist()]
        layers = self.layers or probed_layers(model)
        files = {
            role: read_layers(context, model, images, layers, role, self.dimensions)
            for role, images in context.images.items()
        }

        def split_of(role: str, layer: str) -> Split:
            return Split(unit_length(files[role][layer]), targets[role][:, counted])

        svms = LinearSVMs(self.iterations)
        results: dict[str, LayerResult] = {}
        with context.progress("classifying", len(layers) * len(counted), "classes") as progress:
            for layer in layers:
                train_split, test_split = split_of("train", layer), split_of("test", layer)
                results[layer] = self._fit_layer(
                    context, progress, svms, train_split, test_split, names
                )
        chosen = max(layers, key=lambda layer: results[layer].fold_precision)
        ranked = results[chosen].ranked
        figures = {
            "mAP": mean_precision(ranked, "area"),
            "mAP (11 points)": mean_precision(ranked, "11 points"),
            **{layer: mean_precision(results[layer].ranked, "area") for layer in layers},
        }
        train_split, test_split = split_of("train", chosen), split_of("test", chosen)
        few, few_costs = self._low_shot(context, svms, train_split, test_split)
        if svms.unfinished:
            context.note(
                f"{svms.unfinished} of {svms.fitted} SVMs were stopped after {self.iterations} "
                "iterations"
            )
        count = len(test_split.targets)
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            main="mAP",
            figures=figures | few,
            selected={
                "layer": chosen,
                "costs": {layer: results[layer].costs for layer in layers},
                "on": f"{FOLDS} folds of the training split",
                **few_costs,
            },
            intervals={
                "mAP": map_interval(lambda counts: precisions(ranked, "area", counts), count)
            },
            counts={"train": len(train), "test": count, "classes": len(counted)},
        )
        context.figures[chosen_layer(chosen)] = percent(figures["mAP"])
        context.figures.update(percents(figures | few))

    def _fit_layer(
        self,
        context: StageContext,
        progress: Progress,
        svms: LinearSVMs,
        train: Split,
        test: Split,
        names: list[str],
    ) -> LayerResult:
        """Fit and score the SVM of each class on all training images of one layer."""
        scores = np.zeros(test.targets.shape)
        fold_precisions, costs = [], {}
        for number, target in enumerate(train.targets.T):
            rows = np.flatnonzero(target)
            # Nothing is learned of a class that all training images show, or none: its scores
            # stay equal.
            if len(np.unique(target[rows])) == 2:
                features, positive = train.features[rows], target[rows] == 1
                cost, fold_precision = svms.best_cost(self.costs, features, positive)
                svm = svms.fit(cost, features, positive)
                scores[:, number] = svm.decision_function(test.features)
                costs[names[number]] = cost
                fold_precisions.append(fold_precision)
            progress.advance(1)
            context.pause_point()
        mean = float(np.mean(fold_precisions or [0.0]))
        return LayerResult(mean, rankings(scores, test.targets), costs)

    def _low_shot(
        self, context: StageContext, svms: LinearSVMs, train: Split, test: Split
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Score each k for which every class has enough images.

        Returns:
            Mean and deviation over the draws of each k; and the costs, with how they were selected.
        """
        figures, selected = {}, {}
        fewest = int((train.targets == 1).sum(axis=0).min())
        has_negatives = bool((train.targets == -1).any(axis=0).all())
        possible = [k for k in self.shots if k <= fewest and has_negatives]
        if left_out := [str(k) for k in self.shots if k not in possible]:
            context.note(
                f"no low-shot with {', '.join(left_out)}: a class has only {fewest} training "
                "images that show it"
            )
        with context.progress("low-shot", len(possible) * self.samples, "draws") as progress:
            for k in possible:
                by_cost = np.zeros((len(self.shot_costs), self.samples))
                for draw in range(self.samples):
                    by_cost[:, draw] = self._draw_figures(context, svms, train, test, k, draw)
                    progress.advance(1)
                best = int(by_cost.mean(axis=1).argmax())
                deviation = float(by_cost[best].std(ddof=1)) if self.samples > 1 else 0.0
                figures[f"{k} shot"] = float(by_cost[best].mean())
                figures[f"{k} shot deviation"] = deviation
                selected[f"{k} shot"] = {
                    "cost": self.shot_costs[best],
                    "on": "the test split, as published",
                }
        return figures, selected

    def _draw_figures(
        self, context: StageContext, svms: LinearSVMs, train: Split, test: Split, k: int, draw: int
    ) -> list[float]:
        """Return the mAP in percent of each cost of low-shot, for one draw of k images a class."""
        others = max(1, train.targets.shape[1] - 1)
        scores = np.zeros((len(self.shot_costs), *test.targets.shape))
        for number, target in enumerate(train.targets.T):
            seed = context.seed_for("shots", k, draw, number)
            rows = sample_rows(target, k, k * others, seed)
            for cost_number, cost in enumerate(self.shot_costs):
                svm = svms.fit(cost, train.features[rows], target[rows] == 1)
                scores[cost_number, :, number] = svm.decision_function(test.features)
            context.pause_point()
        return [
            mean_precision(rankings(scores[cost_number], test.targets), "area")
            for cost_number in range(len(self.shot_costs))
        ]
