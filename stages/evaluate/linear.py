"""Linear probe: accuracy of a linear classifier on each layer of a frozen network."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stages.evaluate._figure_text import chosen_layer, percent, percents
from stages.evaluate._label_checks import (
    check_labels,
    check_planned_count,
    check_planned_labels,
    true_labels,
)
from stages.evaluate._layer_features import (
    map_layers,
    probed_layers,
    read_layers,
    resolve_layers,
    validate_maps,
)
from stages.evaluate._probe_presets import PRESETS, Preset
from stages.evaluate._protocol_name import protocol_name_with_overrides
from transfer.artifacts import Model, Scores
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.trainer import epoch_order
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

# 2: crops at whole pixels; `compress`: variances with 1e-5. Others are v1.
VERSIONS = {"zhang2016": "v2", "deepcluster": "v2", "compress": "v2"}
OVERRIDABLE = ("dimensions", "epochs", "batch_size", "learning_rate", "weight_decay")
CHOSEN = "best"  # the figure of the chosen layer in scores.json


class Rows(NamedTuple):
    """Rows of the training split."""

    fit: numpy.ndarray  # train the heads
    held_out: numpy.ndarray  # choose the layer; empty: the test split does


class LayerAccuracies(NamedTuple):
    """The result of a probe, for each layer."""

    outcomes: dict[str, numpy.ndarray]  # (N,): 100 where a test image is correct, 0 elsewhere
    selection: dict[str, float]  # the accuracy that chooses the layer


class Linear(Stage):
    """One linear layer on each of the network's layers, by one of the published protocols.

    - `pooled` (ours): activations after their ReLU are averaged over a grid, and standardized with
      the statistics of the training images. There is no augmentation, and each image goes through
      the network once. The layer is chosen on a tenth of the training split that is held out.
    - `zhang2016`, `deepcluster` (ten crops), `vissl_alexnet`, `vissl_resnet`: random crops of every
      image in every epoch, on layers that are maps. The layer is chosen on the test split, as
      published.
    - `relational2020`, `compress`: the network's last layer.

    The accuracy after the last epoch counts, on every image of the test split. The figure of the
    chosen layer is `best`. An option that departs from the preset is part of the protocol's name.

    Differences from the releases: maps are pooled to their grid adaptively, not by fixed kernels,
    so the grid of a network of another size may differ. Biases do not decay. Heads start at zero.
    The learning rate of `deepcluster` is constant (its release lowers it a little with each step).
    `compress` computes mean and deviation from whole images.
    """

    produces = Scores
    version = 4  # 4: crops at whole pixels; `compress` adds 1e-5 to variances
    smoke = {"epochs": 3}
    images = {
        "train": ImageInput("train", needs_labels=True),
        "test": ImageInput("test", needs_labels=True),
    }

    model: str = stage_input(Model, "the network")
    variant: Literal[
        "pooled",
        "zhang2016",
        "deepcluster",
        "vissl_alexnet",
        "vissl_resnet",
        "relational2020",
        "compress",
    ] = option("pooled", "the protocol")
    layers: list[str] | None = option(None, "layers to probe; none: the protocol's", min_length=1)
    dimensions: int | None = option(None, "values of a layer for the classifier, at most", ge=1)
    epochs: int | None = option(None, "passes over the training images", ge=1)
    batch_size: int | None = option(None, "images per step", ge=2)
    learning_rate: float | None = option(None, "the highest learning rate", gt=0)
    weight_decay: float | None = option(None, "weight decay of the weights", ge=0)

    @property
    def changed(self) -> dict[str, Any]:
        """The options that depart from the preset."""
        preset = asdict(PRESETS[self.variant])
        options = {name: getattr(self, name) for name in OVERRIDABLE}
        return {
            name: value
            for name, value in options.items()
            if value is not None and value != preset[name]
        }

    @property
    def preset(self) -> Preset:
        """The settings of the protocol, with the options that depart from them."""
        return replace(PRESETS[self.variant], **self.changed)

    def protocol_name(self, size: int | None = None) -> str:
        """Return a name such as `linear/zhang2016-v2`, or `linear/zhang2016-v2 (epochs 4)`.

        `size` is the side of the model's images in px; another one than the protocol's departs.
        """
        changed = self.changed | ({"layers": self.layers} if self.layers else {})
        if size and self.preset.size and size != self.preset.size:
            changed["size"] = size
        version = VERSIONS.get(self.variant, "v1")
        return protocol_name_with_overrides(f"linear/{self.variant}-{version}", changed)

    def identity(self) -> dict[str, Any]:
        """Return the settings: an option that repeats the preset changes no key."""
        settings = {
            "variant": self.variant,
            **asdict(self.preset),
            "layers": self.layers or self.preset.layers,
        }
        return {name: value for name, value in settings.items() if name not in ("source", "size")}

    def for_smoke_run(self) -> Stage:
        """Return the probe with three epochs at most."""
        return self.model_copy(update={"epochs": min(self.smoke["epochs"], self.preset.epochs)})

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the model has the layers."""
        check_layers(planned, "layers", self.layers or [])
        check_planned_count(planned)

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check the number of training images and of their classes."""
        check_planned_labels(planned)

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Check that the network has a layer that is a map, where maps are read."""
        if self.preset.layers == "maps" and not self.layers:
            validate_maps(planned)

    def run(self, context: StageContext) -> None:
        """Probe each layer, and choose one."""
        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        classes = check_labels(train, test, context)
        layers = resolve_layers(model, self.layers) or self._default_layers(model)
        # Held-out rows are drawn: every n-th row may be of few classes, if classes take turns.
        order = np.random.RandomState(0).permutation(len(train))
        held_out, fit = np.split(order, [round(self.preset.held_out * len(train))])
        probe = self._probe_whole_images if self.preset.train_crop is None else self._probe_crops
        outcomes, selection = probe(context, model, layers, Rows(fit, held_out), classes)
        chosen = max(layers, key=lambda layer: selection[layer])
        outcomes = {CHOSEN: outcomes[chosen], **outcomes}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            context.folder,
            protocol=self.protocol_name(model.card.size),
            settings=self.identity(),
            main=CHOSEN,
            selected={"layer": chosen, "on": self._selection_text(layers)},
            figures=figures,
            outcomes=outcomes,
            counts={"train": len(fit), "selection": len(held_out), "test": len(test)},
        )
        context.figures[chosen_layer(chosen)] = percent(figures.pop(CHOSEN))
        context.figures.update(percents(figures))

    def _default_layers(self, model: Model) -> list[str]:
        layers = map_layers(model) if self.preset.layers == "maps" else probed_layers(model)
        return layers[-1:] if self.preset.layers == "last" else layers

    def _selection_text(self, layers: list[str]) -> str:
        """Return on which images the layer is chosen."""
        if len(layers) == 1:
            return "nothing: one layer is probed"
        if self.preset.held_out:
            return f"{self.preset.held_out:.0%} of the training split, held out"
        return "the test split"

    def _probe_whole_images(
        self, context: StageContext, model: Model, layers: list[str], rows: Rows, classes: int
    ) -> LayerAccuracies:
        """Train a head on each layer's features; each image is read once."""
        from stages.evaluate._linear_head import (  # imports torch
            Head,
            feature_statistics,
            fit_head,
            per_image_accuracy,
        )

        preset = self.preset
        features = {
            role: read_layers(
                context, model, images, layers, role, preset.dimensions, preset.pooling
            )
            for role, images in context.images.items()
        }
        train_labels = true_labels(context.images["train"])
        test_labels = true_labels(context.images["test"])
        outcomes, selection = {}, {}
        with context.progress("probing", len(layers) * preset.epochs, "epochs") as progress:
            for layer in layers:

                def order(epoch: int, layer: str = layer) -> numpy.ndarray:
                    seed = context.seed_for("probe", layer, epoch)
                    return rows.fit[epoch_order(seed, len(rows.fit))]

                train, test = features["train"][layer], features["test"][layer]
                statistics = feature_statistics(train, rows.fit, preset.norm)
                head = Head(preset.norm, *statistics, classes)
                device = context.runtime.device
                for _ in fit_head(head, preset, train, train_labels, order, device):
                    progress.advance(1)
                    context.pause_point()
                outcome = per_image_accuracy(head, test, test_labels, np.arange(len(test)))
                outcomes[layer] = outcome
                if len(rows.held_out):
                    outcome = per_image_accuracy(head, train, train_labels, rows.held_out)
                selection[layer] = float(outcome.mean())
        return LayerAccuracies(outcomes, selection)

    def _probe_crops(
        self, context: StageContext, model: Model, layers: list[str], rows: Rows, classes: int
    ) -> LayerAccuracies:
        """Train all heads together on new crops in every epoch."""
        from stages.evaluate._augmented_probe import AugmentedProbe, layer_widths  # imports torch
        from stages.evaluate._linear_head import Head, feature_statistics

        train, test, preset = context.images["train"], context.images["test"], self.preset
        probe = AugmentedProbe(context, model, layers, preset)
        heads = []
        widths = layer_widths(model, layers, preset.dimensions)
        for layer, width in zip(layers, widths, strict=True):
            features = np.empty((0, width), np.float16)
            if preset.norm == "l2":
                read = read_layers(context, model, train, [layer], "train", preset.dimensions)
                features = read[layer]
            statistics = feature_statistics(features, rows.fit, preset.norm)
            channels = model.layers[layer][0]
            heads.append(Head(preset.norm, *statistics, classes, channels=channels))
        probe.train(heads, train, true_labels(train))
        trained = [head.eval() for head in heads]
        accuracies = probe.per_image_accuracy(trained, test, true_labels(test))
        outcomes = dict(zip(layers, accuracies, strict=True))
        selection = {layer: float(values.mean()) for layer, values in outcomes.items()}
        return LayerAccuracies(outcomes, selection)
