"""Fine-tuning: the whole network learns the labels, beside the same network from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.evaluate._finetune_recipe import FineTuning
from stages.evaluate._label_budgets import Amount, check_amounts, drawn, share, told
from stages.evaluate._label_checks import check_labels
from stages.evaluate._probe_crops import resized
from stages.evaluate._protocol_name import named
from transfer.artifacts import Model, Scores
from transfer.stage.base import Images as Reads
from transfer.stage.base import option, reads
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from transfer.pipeline.plan import Planned
    from transfer.stage.context import Work

PROTOCOL = "finetune/vissl-v1"


class Finetune(FineTuning):
    """Accuracy after fine-tuning on some or all labels, and the learning curves of both networks.

    Every amount of labels is drawn for each class, `draws` times; a larger draw of the same number holds the smaller
    one. Both networks get the same head, images, order and crops (random areas of 0.08 to 1, mirrored); whole images
    are scored, after the last epoch. The recipe is that of VISSL's semi-supervised evaluation: no weight decay, a tenth
    of the rate after 30 of 70 epochs.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    images = {"train": Reads("train", labelled=True), "test": Reads("test", labelled=True)}

    model: str = reads(Model, "the network")
    amounts: list[Amount] = option(
        [1.0], "labels: shares of each class, or so many of each class", min_length=1
    )
    draws: int = option(1, "times that an amount is drawn", ge=1)
    beside: bool = option(True, "teach the same network from random weights too")

    def check(self, planned: Planned) -> None:
        """No class is asked for more labels than there are images."""
        check_amounts(self.amounts, planned)

    def run(self, work: Work) -> None:
        from stages.evaluate._supervised_training import Lesson, taught  # imports torch

        model, train, test = work.inputs["model"], work.images["train"], work.images["test"]
        classes = check_labels(train, test, work)
        drawings = [(amount, drawn(train, amount, self.draws)) for amount in self.amounts]
        starts = {"finetuned": lambda draw: model.network()}
        if self.beside:
            starts["random weights"] = lambda draw: model.backbone.build(
                work.seed_for("weights", draw)
            )
        lesson = Lesson(self, resized, classes, curve=True)
        outcomes, arrays, counts = {}, {}, {"test": len(test)}
        for amount, some in drawings:
            for name, start in starts.items():
                figure = name if len(self.amounts) == 1 else f"{name}, {told(amount)}"
                rights, curves = [], []
                for draw, drawing, rows in some:
                    counts[f"train, {told(amount)}"] = len(rows)
                    label = f"{name.replace(' ', '-')}-{drawing}"
                    right, curve = taught(work, label, lesson, start(draw), model, rows)
                    rights.append(right), curves.append(curve)
                outcomes[figure] = np.mean(rights, axis=0)
                arrays[f"curve.{figure}"] = np.stack(curves).astype(np.float32)
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        main = (
            next(iter(figures))
            if len(self.amounts) == 1
            else f"finetuned, {told(max(self.amounts, key=share))}"
        )
        Scores.write(
            work.folder,
            protocol=named(PROTOCOL, self),
            settings=self.identity(),
            main=main,
            selected={"epoch": "the last", "on": "nothing"},
            figures=figures,
            outcomes=outcomes,
            counts=counts,
            arrays=arrays,
        )
        work.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})
