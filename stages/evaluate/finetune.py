"""Fine-tuning: the whole network learns the labels, beside the same network from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.evaluate._amounts import Amount, share, some_labels, told
from stages.evaluate._crops import resized
from stages.evaluate._labels import check_labels
from stages.evaluate._named import named
from transfer.artifacts import Model, Scores
from transfer.errors import BadOption
from transfer.lazy import np
from transfer.stage import Images as Reads
from transfer.stage import option, reads
from transfer.training.recipe import Trained

if TYPE_CHECKING:
    from transfer.plan import Planned
    from transfer.work import Work

PROTOCOL = "finetune/vissl-v1"


class Finetune(Trained):
    """Accuracy after fine-tuning on some or all labels, and the learning curves of both networks.

    Every amount of labels is drawn for each class, `draws` times; a larger draw of the same number holds the smaller
    one. Both networks get the same head, images, order and crops (random areas of 0.08 to 1, mirrored); whole images
    are scored, after the last epoch. The recipe is that of VISSL's semi-supervised evaluation: no weight decay, a tenth
    of the rate after 30 of 70 epochs.
    """

    produces = Scores
    images = {"train": Reads("train", labelled=True), "test": Reads("test", labelled=True)}

    model: str = reads(Model, "the network")
    amounts: list[Amount] = option([1.0], "labels: shares of each class, or so many of each class", min_length=1)
    draws: int = option(1, "times that an amount is drawn", ge=1)
    beside: bool = option(True, "teach the same network from random weights too")

    epochs: int = option(70, "passes over the images", ge=1)
    learning_rate: float = option(0.05, "the highest it gets", gt=0)
    weight_decay: float = option(0.0, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option("step", "of the learning rate, after the warm-up")
    drops: list[float] = option([30 / 70], "for `step`: shares of the training after which the rate falls to a tenth")

    def check(self, planned: Planned) -> None:
        """No class is asked for more labels than there are images."""
        count = planned.images["train"].stage.count
        most = max(self.amounts, key=lambda amount: amount if isinstance(amount, int) else 0)
        if isinstance(most, int) and most > count:
            raise BadOption("amounts", f"{most} labels of each class: the training split has {count} images in all")

    def run(self, work: Work) -> None:
        from stages.evaluate._taught import Lesson, taught  # imports torch
        from transfer.networks import backbone

        model, train, test = work.inputs["model"], work.images["train"], work.images["test"]
        check_labels(train, test, work)
        starts = {"finetuned": lambda draw: model.network()}
        if self.beside:
            spec = backbone(model.card["backbone"])
            starts["random weights"] = lambda draw: spec.build(work.seed_for("weights", draw))
        lesson = Lesson(self, resized, curve=True)
        outcomes, arrays, counts = {}, {}, {"test": len(test)}
        for amount in self.amounts:
            for name, start in starts.items():
                figure = name if len(self.amounts) == 1 else f"{name}, {told(amount)}"
                rights, curves = [], []
                for draw in range(1 if amount == 1.0 and isinstance(amount, float) else self.draws):
                    rows = some_labels(train, amount, draw)
                    counts[f"train, {told(amount)}"] = len(rows)
                    label = f"{name} {told(amount)} draw {draw + 1}".replace(" ", "-").replace("%", "percent")
                    right, curve = taught(work, label, lesson, start(draw), model, rows)
                    rights.append(right), curves.append(curve)
                outcomes[figure] = np.mean(rights, axis=0)
                arrays[f"curve.{figure}"] = np.stack(curves).astype(np.float32)
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        main = next(iter(figures)) if len(self.amounts) == 1 else f"finetuned, {told(max(self.amounts, key=share))}"
        Scores.write(
            work.folder, protocol=named(PROTOCOL, self), settings=self.identity(), main=main,
            selected={"epoch": "the last"}, figures=figures, outcomes=outcomes, counts=counts, arrays=arrays,
        )  # fmt: skip
        work.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})
