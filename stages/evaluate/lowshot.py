"""Low-shot: what a few labels of each class make of a network, linear and fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.evaluate._finetune_recipe import FinetuneRecipe
from stages.evaluate._label_budgets import (
    LabelBudget,
    budget_share,
    budget_text,
    check_budgets,
    sample_budget,
)
from stages.evaluate._label_checks import check_labels
from stages.evaluate._layer_features import read_layers
from stages.evaluate._probe_crops import resize
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.stage.base import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "lowshot/v1"
DIMENSIONS = 9216


class Lowshot(FinetuneRecipe):
    """Accuracy with 1 %, 10 %, or n labels of each class, as a mean over draws.

    `linear`: logistic regression (C = 1) on features of unit length, which needs no recipe (as Tian et al., ECCV 2020,
    do with few images). `finetuned`: the whole network, by the recipe of `evaluate/finetune`. ImageNet's published
    lists are splits of its card: `data: {card: imagenet, split: {train: train_1percent}}` with `label_budgets: [1.0]`.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    smoke = {"epochs": 1, "repeats": 1}
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    label_budgets: list[LabelBudget] = option(
        [0.01, 0.1], "labels: shares of each class, or so many of each class", min_length=1
    )
    repeats: int = option(3, "times that an amount is drawn", ge=1)
    methods: list[Literal["linear", "finetuned"]] = option(
        ["linear", "finetuned"], "what learns", min_length=1
    )
    layer: str | None = option(
        None,
        "the layer; none: the network's deepest convolutional one",
        applies_when={"methods": ["linear"]},
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """The model has the layer, and no class is asked for more labels than there are images."""
        check_layers(planned, "layer", [self.layer])
        check_budgets(self.label_budgets, planned)

    def run(self, context: StageContext) -> None:
        from stages.evaluate._supervised_training import FinetuneConfig, finetune  # imports torch

        model, train, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        classes = check_labels(train, test, context)
        drawings = [
            (amount, sample_budget(train, amount, self.repeats)) for amount in self.label_budgets
        ]
        layer = self.layer or model.card.default_layer
        if "linear" in self.methods:
            read = {
                role: read_layers(context, model, one, [layer], role, DIMENSIONS)[layer]
                for role, one in context.images.items()
            }
        lesson, outcomes, spreads, counts = (
            FinetuneConfig(self, resize, classes),
            {},
            {},
            {"test": len(test)},
        )
        for amount, some in drawings:
            found: dict[str, list[numpy.ndarray]] = {way: [] for way in self.methods}
            for _, drawing, rows in some:
                counts[f"train, {budget_text(amount)}"] = len(rows)
                if "linear" in found:
                    found["linear"].append(
                        linear(read["train"], train.labels, rows, read["test"], test.labels)
                    )
                if "finetuned" in found:
                    found["finetuned"].append(
                        finetune(context, drawing, lesson, model.network(), model, rows)[0]
                    )
                context.pause_point()
            for way, rights in found.items():
                outcomes[f"{way}, {budget_text(amount)}"] = np.mean(rights, axis=0)
                spreads[f"{way}, {budget_text(amount)}"] = np.array(
                    [right.mean() for right in rights]
                )
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings={**self.identity(), "layer": layer},
            main=f"{self.methods[0]}, {budget_text(max(self.label_budgets, key=budget_share))}",
            selected={"epoch": "the last", "on": "nothing"},
            figures=figures,
            outcomes=outcomes,
            counts=counts,
            arrays={f"draws.{name}": values for name, values in spreads.items()},
        )
        apart = {
            name: f" ± {values.std(ddof=1):.2f}"
            for name, values in spreads.items()
            if len(values) > 1
        }
        context.figures.update(
            {name: f"{value:.2f}{apart.get(name, '')} %" for name, value in figures.items()}
        )


def linear(
    train: numpy.ndarray,
    labels: numpy.ndarray,
    rows: numpy.ndarray,
    test: numpy.ndarray,
    wanted: numpy.ndarray,
) -> numpy.ndarray:
    """(N,) 100 where logistic regression on the given training rows names a test row right, 0 elsewhere."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    head = LogisticRegression(C=1.0, max_iter=1000).fit(
        normalize(train[rows].astype(np.float32)), labels[rows]
    )
    named = [
        head.predict(normalize(test[at : at + 4096].astype(np.float32)))
        for at in range(0, len(test), 4096)
    ]
    return 100.0 * (np.concatenate(named) == wanted)
