"""Fine-tuning: the whole network learns the labels, compared with one from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluate._figure_text import percents
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
)
from stages.evaluate._probe_crops import resized_crop
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.models.build import build_network
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.options import option, stage_input
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "finetune/vissl-v1"
FINETUNED = "finetuned"
BASELINE = "random weights"


class Finetune(FinetuneRecipe):
    """Accuracy after fine-tuning on some or all labels, and learning curves.

    Each label budget is drawn `repeats` times, for each class; a larger budget of a draw contains
    the smaller one. The network from random weights gets the same head, images, order and crops
    (random areas of 0.08 to 1, mirrored). Whole images are scored, after the last epoch. The recipe
    is that of VISSL's semi-supervised evaluation: no weight decay, and a tenth of the learning rate
    after 30 of 70 epochs.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    label_budgets: list[LabelBudget] = option(
        [1.0], "labels: shares of each class, or numbers of images per class", min_length=1
    )
    repeats: int = option(1, "how often a label budget is drawn", ge=1)
    random_baseline: bool = option(True, "also train the same network from random weights")

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that no budget exceeds the training split."""
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
        """Train and score a network for each budget, draw and start."""
        from stages.evaluate._supervised_training import FinetuneConfig, finetune  # imports torch

        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        config = FinetuneConfig(self, resized_crop, check_labels(train, test, context), curve=True)
        samples = {
            budget_text(budget): sample_budget(train, budget, self.repeats)
            for budget in self.label_budgets
        }
        starts = [FINETUNED, *([BASELINE] if self.random_baseline else [])]
        outcomes, arrays, counts = {}, {}, {"test": len(test)}
        for budget, draws in samples.items():
            for start in starts:
                figure = start if len(self.label_budgets) == 1 else f"{start}, {budget}"
                accuracies, curves = [], []
                for number, name, rows in draws:
                    counts[f"train, {budget}"] = len(rows)
                    accuracy, curve = finetune(
                        context,
                        f"{start.replace(' ', '-')}-{name}",
                        config,
                        _start(context, model, start, number),
                        model,
                        rows,
                    )
                    accuracies.append(accuracy)
                    curves.append(curve)
                outcomes[figure] = np.mean(accuracies, axis=0)
                arrays[f"curve.{figure}"] = np.stack(curves).astype(np.float32)
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        main = FINETUNED
        if len(self.label_budgets) > 1:
            main = f"{FINETUNED}, {budget_text(largest_budget(self.label_budgets))}"
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
        context.figures.update(percents(figures))


def _start(context: StageContext, model: Model, start: str, draw: int) -> Network:
    """Return the network before its training: the model's, or one from random weights."""
    if start == FINETUNED:
        return model.network()
    return build_network(model.backbone, context.seed_for("weights", draw))
