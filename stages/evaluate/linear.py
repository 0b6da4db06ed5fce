"""Linear probe: what a linear classifier makes of each layer of a frozen network."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from stages.evaluate._label_checks import check_labels
from stages.evaluate._layer_features import map_layers, probed_layers, read_layers, resolve_layers
from stages.evaluate._probe_presets import PRESETS, Preset
from stages.evaluate._protocol_name import protocol_name_with_overrides
from transfer.artifacts import Model, Scores
from transfer.stage.base import ImageInput, Stage
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.trainer import epoch_order
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

VERSION = "v1"


class Linear(Stage):
    """One linear layer on each of the network's layers, by one of the published protocols.

    `pooled` (ours): activations after their ReLU are averaged over a grid and standardized with the training images'
    statistics; no augmentation, each image goes through the network once; which layer is `best` is chosen on a tenth of
    the training split that is not trained on. `zhang2016`, `deepcluster` (ten crops), `vissl`: random crops of every
    image in every epoch, layers that are maps, and the best layer is that of the test split, as published.
    `relational2020`, `compress`: the network's last layer. The accuracy after the last epoch counts, on every image of
    the test split. An option that is given departs from the preset, and is named in the protocol.

    What differs from the releases: maps come to their grid by adaptive pooling, not by fixed kernels, and on a network
    of other sizes the grid may be other than theirs; biases do not decay; heads begin at zero; `deepcluster`'s rate
    stays (its release lets it fall a little with each step); `compress` takes mean and deviation from whole images.
    """

    produces = Scores
    version = 3  # since images are scored in the order of their ids
    smoke = {"epochs": 3}
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    variant: Literal[
        "pooled", "zhang2016", "deepcluster", "vissl", "relational2020", "compress"
    ] = option("pooled", "the protocol")
    layers: list[str] | None = option(None, "layers to probe; none: the protocol's", min_length=1)
    dimensions: int | None = option(
        None, "values of a layer that the classifier sees, at most", ge=1
    )
    epochs: int | None = option(None, "passes over the training images", ge=1)
    batch_size: int | None = option(None, "images a step", ge=2)
    learning_rate: float | None = option(None, "the highest it gets", gt=0)
    weight_decay: float | None = option(None, "on the weights", ge=0)

    @property
    def changed(self) -> dict[str, Any]:
        """The options that depart from the preset."""
        preset = asdict(PRESETS[self.variant])
        given = {name: getattr(self, name) for name in CHANGEABLE}
        return {
            name: value
            for name, value in given.items()
            if value is not None and value != preset[name]
        }

    @property
    def preset(self) -> Preset:
        return replace(PRESETS[self.variant], **self.changed)

    def protocol_name(self) -> str:
        """Such as `linear/zhang2016-v1`, or `linear/zhang2016-v1 (epochs 4)`."""
        changed = self.changed | ({"layers": self.layers} if self.layers else {})
        return protocol_name_with_overrides(f"linear/{self.variant}-{VERSION}", changed)

    def identity(self) -> dict[str, Any]:
        """The preset itself: an option that says what the preset says changes nothing."""
        settings = {
            "variant": self.variant,
            **asdict(self.preset),
            "layers": self.layers or self.preset.layers,
        }
        return {name: value for name, value in settings.items() if name != "source"}

    def for_smoke_run(self) -> Stage:
        return self.model_copy(update={"epochs": min(self.smoke["epochs"], self.preset.epochs)})

    def validate_plan(self, planned: PlannedStage) -> None:
        """The model has the layers."""
        check_layers(planned, "layers", self.layers or [])

    def run(self, context: StageContext) -> None:
        model, train, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        classes = check_labels(train, test, context)
        layers = resolve_layers(model, self.layers) or self._layers(model)
        # Drawn, not every n-th: in some sets the classes take turns.
        order = np.random.RandomState(0).permutation(len(train))
        choose, fit = np.split(order, [round(self.preset.held_out * len(train))])
        probe = self._once if self.preset.train_crop is None else self._cropped
        outcomes, chosen = probe(context, model, layers, fit, choose, classes)
        best = max(layers, key=lambda layer: chosen[layer])
        outcomes = {"best": outcomes[best], **outcomes}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        on = (
            f"{self.preset.held_out:.0%} of the training split, held out"
            if len(choose)
            else "the test split"
        )
        on = on if len(layers) > 1 else "nothing: one layer is probed"
        Scores.write(
            context.folder,
            protocol=self.protocol_name(),
            settings=self.identity(),
            main="best",
            selected={"layer": best, "on": on},
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(fit), "selection": len(choose), "test": len(test)},
        )
        context.figures.update(
            {
                "best": f"{best} {figures[best]:.2f} %",
                **{k: round(v, 2) for k, v in figures.items()},
            }
        )

    def _layers(self, model: Model) -> list[str]:
        layers = map_layers(model) if self.preset.layers == "maps" else probed_layers(model)
        return layers[-1:] if self.preset.layers == "last" else layers

    def _once(
        self,
        context: StageContext,
        model: Model,
        layers: list[str],
        rows: numpy.ndarray,
        choose: numpy.ndarray,
        classes: int,
    ) -> tuple[dict[str, numpy.ndarray], dict[str, float]]:
        """Layer -> what each test image adds, and the accuracy that chooses: every image is read once."""
        from stages.evaluate._linear_head import (
            Head,
            feature_statistics,
            fit_head,
            per_image_accuracy,
        )  # imports torch

        train, test, preset = context.images["train"], context.images["test"], self.preset
        seen = {
            role: read_layers(
                context, model, images, layers, role, preset.dimensions, preset.pooling
            )
            for role, images in context.images.items()
        }
        outcomes, chosen = {}, {}
        with context.progress("probing", len(layers) * preset.epochs, "epochs") as progress:
            for layer in layers:

                def order(epoch: int, layer: str = layer) -> numpy.ndarray:
                    return rows[epoch_order(context.seed_for("probe", layer, epoch), len(rows))]

                features = seen["train"][layer]
                head = Head(preset.norm, *feature_statistics(features, rows, preset.norm), classes)
                for _ in fit_head(
                    head, preset, features, train.labels, order, context.runtime.device
                ):
                    progress.advance(1)
                    context.pause_point()
                outcomes[layer] = per_image_accuracy(
                    head, seen["test"][layer], test.labels, np.arange(len(test))
                )
                on_test = not len(choose)
                picked = (
                    outcomes[layer]
                    if on_test
                    else per_image_accuracy(head, features, train.labels, choose)
                )
                chosen[layer] = float(picked.mean())
        return outcomes, chosen

    def _cropped(
        self,
        context: StageContext,
        model: Model,
        layers: list[str],
        rows: numpy.ndarray,
        choose: numpy.ndarray,
        classes: int,
    ) -> tuple[dict[str, numpy.ndarray], dict[str, float]]:
        """The same, where the network sees new crops in every epoch."""
        from stages.evaluate._augmented_probe import AugmentedProbe, layer_widths
        from stages.evaluate._linear_head import Head, feature_statistics

        train, test, preset = context.images["train"], context.images["test"], self.preset
        cropped = AugmentedProbe(context, model, layers, preset)
        heads = []
        for layer, width in zip(
            layers, layer_widths(model, layers, preset.dimensions), strict=True
        ):
            features = np.empty((0, width), np.float16)
            if preset.norm == "l2":
                features = read_layers(context, model, train, [layer], "train", preset.dimensions)[
                    layer
                ]
            moments = feature_statistics(features, rows, preset.norm)
            heads.append(Head(preset.norm, *moments, classes, channels=model.layers[layer][0]))
        cropped.train(heads, train, train.labels)
        named = cropped.right([head.eval() for head in heads], test, test.labels)
        outcomes = dict(zip(layers, named, strict=True))
        return outcomes, {layer: float(values.mean()) for layer, values in outcomes.items()}


CHANGEABLE = ("dimensions", "epochs", "batch_size", "learning_rate", "weight_decay")
