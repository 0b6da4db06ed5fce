"""Fine-tuning: the whole network learns the labels, beside the same network from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._finetune_recipe import FinetuneRecipe
from stages.evaluate._label_budgets import (
    LabelBudget,
    budget_share,
    budget_text,
    check_budgets,
    sample_budget,
)
from stages.evaluate._label_checks import check_labels
from stages.evaluate._probe_crops import resize
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.models.build import build_network
from transfer.stage.base import ImageInput
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "finetune/vissl-v1"


class Finetune(FinetuneRecipe):
    """Accuracy after fine-tuning on some or all labels, and the learning curves of both networks.

    Every amount of labels is drawn for each class, `draws` times; a larger draw of the same number holds the smaller
    one. Both networks get the same head, images, order and crops (random areas of 0.08 to 1, mirrored); whole images
    are scored, after the last epoch. The recipe is that of VISSL's semi-supervised evaluation: no weight decay, a tenth
    of the rate after 30 of 70 epochs.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    label_budgets: list[LabelBudget] = option(
        [1.0], "labels: shares of each class, or so many of each class", min_length=1
    )
    repeats: int = option(1, "times that an amount is drawn", ge=1)
    random_baseline: bool = option(True, "teach the same network from random weights too")

    def validate_plan(self, planned: PlannedStage) -> None:
        """No class is asked for more labels than there are images."""
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
        starts = {"finetuned": lambda draw: model.network()}
        if self.random_baseline:
            starts["random weights"] = lambda draw: build_network(
                model.backbone, context.seed_for("weights", draw)
            )
        lesson = FinetuneConfig(self, resize, classes, curve=True)
        outcomes, arrays, counts = {}, {}, {"test": len(test)}
        for amount, some in drawings:
            for name, start in starts.items():
                figure = name if len(self.label_budgets) == 1 else f"{name}, {budget_text(amount)}"
                rights, curves = [], []
                for draw, drawing, rows in some:
                    counts[f"train, {budget_text(amount)}"] = len(rows)
                    label = f"{name.replace(' ', '-')}-{drawing}"
                    right, curve = finetune(context, label, lesson, start(draw), model, rows)
                    rights.append(right), curves.append(curve)
                outcomes[figure] = np.mean(rights, axis=0)
                arrays[f"curve.{figure}"] = np.stack(curves).astype(np.float32)
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        main = (
            next(iter(figures))
            if len(self.label_budgets) == 1
            else f"finetuned, {budget_text(max(self.label_budgets, key=budget_share))}"
        )
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            main=main,
            selected={"epoch": "the last", "on": "nothing"},
            figures=figures,
            outcomes=outcomes,
            counts=counts,
            arrays=arrays,
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})
