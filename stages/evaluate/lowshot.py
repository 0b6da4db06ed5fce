"""Low-shot: accuracy with a few labels of each class, linear and fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stages.evaluate._figure_text import percent
from stages.evaluate._finetune_recipe import FinetuneRecipe
from stages.evaluate._label_budgets import (
    LabelBudget,
    budget_text,
    check_budgets,
    check_class_budgets,
    largest_budget,
    sample_budget,
    smoke_budgets,
)
from stages.evaluate._label_checks import (
    check_labels,
    check_planned_count,
    check_planned_labels,
    true_labels,
)
from stages.evaluate._layer_features import read_layers
from stages.evaluate._probe_crops import resized_crop
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "lowshot/v1"
DIMENSIONS = 9216
BLOCK = 4096  # test rows that are classified at once


class Lowshot(FinetuneRecipe):
    """Accuracy with 1 %, 10 %, or n labels of each class, as a mean over draws.

    `linear`: logistic regression (C = 1) on features of unit length, which needs no recipe (Tian
    et al., ECCV 2020, do so with few images). `finetuned`: the whole network, by the recipe of
    `evaluate/finetune`. The published lists of ImageNet are splits of its card:
    `data: {card: imagenet, split: {train: train_1percent}}` with `label_budgets: [1.0]`.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    smoke = {"epochs": 1, "repeats": 1}
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    label_budgets: list[LabelBudget] = option(
        [0.01, 0.1], "labels: shares of each class, or numbers of images per class", min_length=1
    )
    repeats: int = option(3, "how often a label budget is drawn", ge=1)
    methods: list[Literal["linear", "finetuned"]] = option(
        ["linear", "finetuned"], "how the labels are learned", min_length=1
    )
    layer: str | None = option(
        None,
        "the layer; none: the network's deepest convolutional one",
        applies_when={"methods": ["linear"]},
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the model has the layer, and that no budget exceeds the training split."""
        check_layers(planned, "layer", [self.layer])
        check_budgets(self.label_budgets, planned)
        check_planned_count(planned)

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check the number of training images and of their classes, and the label budgets."""
        check_planned_labels(planned)
        check_class_budgets(self.label_budgets, planned)

    def for_smoke_run(self) -> Stage:
        """Return the stage with at most one label of each class where a budget is a number."""
        budgets = {"label_budgets": smoke_budgets(self.label_budgets)}
        return super().for_smoke_run().model_copy(update=budgets)

    def run(self, context: StageContext) -> None:
        """Learn from each draw of each budget by each method."""
        from stages.evaluate._supervised_training import FinetuneConfig, finetune  # imports torch

        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        config = FinetuneConfig(self, resized_crop, check_labels(train, test, context))
        samples = {
            budget_text(budget): sample_budget(train, budget, self.repeats)
            for budget in self.label_budgets
        }
        layer = self.layer or model.card.default_layer
        features: dict[str, numpy.ndarray] = {}
        if "linear" in self.methods:
            for role, images in context.images.items():
                read = read_layers(context, model, images, [layer], role, DIMENSIONS)
                features[role] = read[layer]
        outcomes, means, counts = {}, {}, {"test": len(test)}
        for budget, draws in samples.items():
            accuracies: dict[str, list[numpy.ndarray]] = {method: [] for method in self.methods}
            for _, name, rows in draws:
                counts[f"train, {budget}"] = len(rows)
                if "linear" in accuracies:
                    correct = predict_linear(
                        features["train"][rows], true_labels(train)[rows], features["test"]
                    ) == true_labels(test)
                    accuracies["linear"].append(100.0 * correct)
                if "finetuned" in accuracies:
                    accuracy, _ = finetune(context, name, config, model.network(), model, rows)
                    accuracies["finetuned"].append(accuracy)
                context.pause_point()
            for method, per_draw in accuracies.items():
                figure = f"{method}, {budget}"
                outcomes[figure] = np.mean(per_draw, axis=0)
                means[figure] = np.array([accuracy.mean() for accuracy in per_draw])
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings={**self.identity(), "layer": layer},
            main=f"{self.methods[0]}, {budget_text(largest_budget(self.label_budgets))}",
            selected={"epoch": "the last", "on": "nothing"},
            figures=figures,
            outcomes=outcomes,
            counts=counts,
            arrays={f"draws.{name}": values for name, values in means.items()},
        )
        for name, figure in figures.items():
            context.figures[name] = _with_deviation(figure, means[name])


def _with_deviation(figure: float, means: numpy.ndarray) -> str:
    """Return `50.1 ± 0.4 %`: a figure with the deviation over draws, if there are several."""
    if len(means) == 1:
        return percent(figure)
    return f"{figure:.1f} ± {percent(means.std(ddof=1))}"


def predict_linear(
    train: numpy.ndarray, labels: numpy.ndarray, test: numpy.ndarray
) -> numpy.ndarray:
    """Return the (N,) label that logistic regression predicts for each test row.

    Args:
        train: (n, D) features; rows are scaled to unit length.
        labels: (n,) int64, of the training rows.
        test: (N, D) features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    head = LogisticRegression(C=1.0, max_iter=1000)
    head.fit(normalize(train.astype(np.float32)), labels)
    predicted = [
        head.predict(normalize(test[start : start + BLOCK].astype(np.float32)))
        for start in range(0, len(test), BLOCK)
    ]
    return np.concatenate(predicted)
