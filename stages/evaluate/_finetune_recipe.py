"""Recipe of the protocols that fine-tune whole networks on labels."""

from __future__ import annotations

from typing import Any, ClassVar

from transfer.stage.options import option
from transfer.training.recipe import TrainableStage


class FinetuneRecipe(TrainableStage):
    """The recipe of VISSL's semi-supervised evaluation.

    There is no weight decay, and the learning rate falls to a tenth after 30 of 70 epochs.
    """

    epochs: int = option(70, "passes over the images", ge=1)
    defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 0.05,
        "weight_decay": 0.0,
        "schedule": "step",
        "milestones": [30 / 70],
    }
