"""Non-linear protocol: the first layers stay frozen, the others learn from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.evaluate._figure_text import percents
from stages.evaluate._label_checks import (
    check_labels,
    check_planned_count,
    check_planned_labels,
)
from stages.evaluate._layer_features import map_layers, resolve_layers, validate_maps
from stages.evaluate._probe_crops import random_crop
from stages.evaluate._protocol_name import protocol_name
from transfer.artifacts import Model, Scores
from transfer.models.build import build_network
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.recipe import TrainableStage
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

PROTOCOL = "nonlinear/noroozi2016-v2"  # 2: crops at whole pixels
SIZE, CROP = 227, 227 / 256


class Nonlinear(TrainableStage):
    """Accuracy of new layers, trained on labels, on top of frozen ones (Noroozi & Favaro 2016).

    There is a training for each layer up to which the network is frozen. Published for ImageNet:
    350,000 steps of 256 images (70 epochs) at a learning rate of 0.01, a tenth of it each 100,000
    steps; crops of 227 of 256 px, mirrored. Here, whole images are scored, after the last epoch.
    The main figure is that of the deepest frozen layer.
    """

    produces = Scores
    version = 3  # 3: crops at whole pixels
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    frozen_up_to: list[str] | None = option(
        None,
        "layers up to which to freeze, each for a training; none: those of a probe that are maps",
        min_length=1,
    )

    epochs: int = option(70, "passes over the images", ge=1)
    defaults: ClassVar[dict[str, Any]] = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "weight_decay": 5e-4,
        "schedule": "step",
        "milestones": [2 / 7, 4 / 7, 6 / 7],
    }

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the model has the layers."""
        check_layers(planned, "frozen_up_to", self.frozen_up_to or [])
        check_planned_count(planned)

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check the number of training images and of their classes."""
        check_planned_labels(planned)

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Check that the network has a layer that is a map, where maps are read."""
        if not self.frozen_up_to:
            validate_maps(planned)

    def run(self, context: StageContext) -> None:
        """Train and score a network for each layer."""
        from stages.evaluate._supervised_training import FinetuneConfig, finetune  # imports torch

        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        classes = check_labels(train, test, context)
        layers = resolve_layers(model, self.frozen_up_to) or map_layers(model)
        names, outcomes = list(model.layers), {}
        for layer in layers:
            frozen = names[: names.index(layer) + 1]
            config = FinetuneConfig(self, published_crop, classes, frozen=tuple(frozen))
            network = reinit_after(model, frozen, context.seed_for("weights", layer))
            outcomes[layer], _ = finetune(
                context, f"{layer}-locked", config, network, model, np.arange(len(train))
            )
        deepest = max(layers, key=names.index)
        outcomes = {"deepest": outcomes[deepest], **outcomes}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self, size=(model.card.size, SIZE)),
            settings=self.identity(),
            main="deepest",
            selected={"epoch": "the last", "on": "nothing", "layer": deepest},
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(train), "test": len(test)},
        )
        context.figures.update(percents(figures))


def reinit_after(model: Model, kept: list[str], seed: int) -> Network:
    """Return the network with the model's weights in `kept` layers and random ones behind them.

    Args:
        model: the trained network.
        kept: its first layers.
        seed: of the random weights.
    """
    network, trained = build_network(model.backbone, seed), model.network()
    for layer in kept:
        weights = trained.get_submodule(layer).state_dict()
        network.get_submodule(layer).load_state_dict(weights, strict=True)
    return network


def published_crop(images: Tensor, rng: PerImageRng, size: int) -> Tensor:
    """Return random squares of 227 of 256 px, mirrored half of the time.

    Args:
        images: (B, 3, S, S) uint8.
        rng: draws for each image.
        size: side of the result, px.
    """
    return random_crop(images, rng, CROP, size)
