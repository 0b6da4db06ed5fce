"""Recipe of the protocols that fine-tune whole networks on labels."""

from __future__ import annotations

from typing import Literal

from transfer.stage.options import option
from transfer.training.recipe import TrainableStage, lr_milestones


class FinetuneRecipe(TrainableStage):
    """The recipe of VISSL's semi-supervised evaluation.

    There is no weight decay, and the learning rate falls to a tenth after 30 of 70 epochs.
    """

    epochs: int = option(70, "passes over the images", ge=1)
    learning_rate: float = option(0.05, "the highest learning rate", gt=0)
    weight_decay: float = option(0.0, "weight decay of weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "step", "schedule of the learning rate, after the warm-up"
    )
    milestones: list[float] = lr_milestones([30 / 70])
