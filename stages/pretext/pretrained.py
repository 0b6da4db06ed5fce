"""A network that was trained elsewhere, from a file of its weights or from timm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_serializer

from transfer.artifacts import Model
from transfer.errors import InvalidOption, TransferError
from transfer.models import Timm
from transfer.models.build import build_network, layer_shapes, outline_network
from transfer.models.weights.assignment import WeightOptions
from transfer.models.weights.loading import check_weights, load_weights
from transfer.models.weights.published import check_published, published_module
from transfer.models.weights.torchvision_names import torchvision_names
from transfer.stage.backbone_option import PublishedBackbone
from transfer.stage.base import Stage
from transfer.stage.file_option import FileOption
from transfer.stage.options import option
from transfer.transforms.normalize import Normalization

if TYPE_CHECKING:
    from transfer.models.backbone import Backbone
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

SIZE = 224  # px, the usual image size of networks for ImageNet


class Pretrained(Stage):
    """A backbone with weights of your choice, which are neither trained nor changed.

    The tensors in the file may have the names of our layers (a `model.safetensors` of the store),
    torchvision's, timm's, those of other code that transfer/models/weights/dialects.py lists, or
    names that timm can convert (CLIP's image tower, DINOv2, ConvNeXt as their authors saved them).
    Every tensor of the network must be in the file. Entry, prefix and wrappers are found without
    options, and what features do not need is left out; a note says so. `match: order` and `rename`
    are for other names. Only tensors are loaded: no code in the file is run. The result's key
    depends on the file's bytes, not its path.
    """

    produces = Model
    seeded = False
    stand_ins: ClassVar[dict[str, dict[str, object]]] = {
        "weights": {"weights": None, "random_weights": True}
    }
    needs = "weights, or timm"

    backbone: PublishedBackbone = option(
        ..., "the network (see `transfer list backbones`), or any of timm: `timm:NAME`"
    )
    weights: FileOption | None = option(
        None,
        "a .safetensors file or a state dict (.pth, .pt); none: the weights that timm publishes "
        "for timm:NAME.TAG, which it fetches once",
    )
    entry: str | None = option(
        None,
        "entry of the file that holds the weights, such as state_dict or checkpoint.model; none: "
        "the one that fits (of several: ema or teacher, else encoder_q, base_encoder or online)",
    )
    prefix: str = option(
        "",
        "prefix of this network's names in the file; it is removed, and other names are left out; "
        "'': the one that fits",
    )
    rename: dict[str, str] = option(
        {},
        "regular expressions and what replaces them in the file's names after `prefix`, in this "
        r"order, as by Python's re.sub: {'^stem\.': 'conv1.'}",
    )
    match: Literal["name", "order"] = option(
        "name",
        "name: by name; order: the tensors of file and network in their order, where their number "
        "and all shapes agree",
    )
    ignore: list[str] = option(
        [],
        "names to leave out, as the network has them, with wildcards: ['layer5.*']; classifiers "
        "and heads are left out anyway",
    )
    random_weights: bool = option(
        False, "random weights instead, to try a pipeline out, as `--smoke` does"
    )
    size: int | None = option(
        None,
        f"side that images are resized to, px; none: timm's for the network, else {SIZE}",
        ge=8,
        le=1024,
    )
    mean: list[float] | None = option(
        None,
        "mean of the training images by channel, for values from 0 to 1; none: timm's, "
        "or ImageNet's",
    )
    std: list[float] | None = option(None, "standard deviation of the training images, like `mean`")
    per_image: bool = option(
        False, "normalize each image by its own mean and standard deviation instead"
    )

    def backbone_spec(self) -> Backbone:
        return self.backbone

    def input_size(self) -> int:
        return self.preprocessing()[0]

    def starts_from_weights(self) -> bool:
        return True

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for missing weights, or for options that contradict one another."""
        if self.weights is None and not self.random_weights:
            self._check_published()
        if self.weights is not None and self.random_weights:
            raise InvalidOption("random_weights", "`weights` is set too: remove one of the two")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != 3:
                raise InvalidOption(
                    name, f"{len(values)} values: it needs three values, one for each channel"
                )
            if values is not None and self.per_image:
                raise InvalidOption(
                    name, "with `per_image` each image is normalized by its own values: remove it"
                )
        if any(value <= 0 for value in self.std or []):
            raise InvalidOption("std", "standard deviations must be above zero")
        for pattern in self.rename:
            try:
                re.compile(pattern)
            except re.error as error:
                problem = f"'{pattern}' is no regular expression ({error})"
                raise InvalidOption("rename", problem) from error

    def _check_published(self) -> None:
        """Raise InvalidOption for a network without published weights, or options of a file."""
        if not isinstance(self.backbone, Timm):
            raise InvalidOption("weights", "name a file of weights (only timm:NAME.TAG needs none)")
        if not self.backbone.tag:
            listing = f"`timm.list_pretrained('{self.backbone.model}.*')` lists the tags"
            raise InvalidOption(
                "backbone",
                f"{self.backbone.name} has no tag, which names the weights: use "
                f"{self.backbone.name}.TAG ({listing}), or name a file with `weights`",
            )
        for name in self._given_file_options():
            raise InvalidOption(name, "only applies when `weights` names a file")

    def _given_file_options(self) -> list[str]:
        """Return the options of a file of weights that differ from their defaults."""
        fields, names = type(self).model_fields, ("entry", "prefix", "rename", "match", "ignore")
        return [name for name in names if getattr(self, name) != fields[name].default]

    @field_serializer("rename")
    def _ordered(self, rename: dict[str, str]) -> list[list[str]]:
        """Write `rename` into the key as a list, as its order matters."""
        return [[pattern, replacement] for pattern, replacement in rename.items()]

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption where file, network and image size do not fit one another.

        Of the file, only names and shapes are read.
        """
        with blame("backbone"):
            outline_network(self.backbone)
        if self.weights is not None:
            with blame("weights"):
                check_weights(self.backbone, Path(self.weights.path), self._weight_options())
        with blame("size" if self.size else "backbone"):
            layer_shapes(self.backbone, self.preprocessing()[0])
        if self.weights is None and not self.random_weights:
            assert isinstance(self.backbone, Timm)  # `validate_plan` refuses others without a file
            with blame("backbone"):
                check_published(self.backbone)

    def run(self, context: StageContext) -> None:
        if self.weights is not None:
            path, options = self.weights.verified_path(), self._weight_options()
            try:
                network, notes = load_weights(self.backbone, path, options)
            except ValueError as error:  # of values; `validate_build` has read names and shapes
                raise TransferError(str(error)) from error
            for note in notes:
                context.note(note)
        elif self.random_weights:
            network = build_network(self.backbone, 0)
            context.note("random weights: features of this network mean little")
        else:
            assert isinstance(self.backbone, Timm)  # `validate_plan` refuses others without a file
            network = self._fetch(self.backbone)
        if isinstance(self.backbone, Timm) and not self.random_weights:
            notes = self.backbone.timm_notes()
            if not (self.mean or self.std or self.per_image):
                notes = notes + self.backbone.other_normalizations()
            for note in notes:
                context.note(note)
        size, normalization = self.preprocessing()
        made_by = {"stage": type(self).__name__, "options": self.identity()}
        Model.write(
            context.folder,
            network,
            size=size,
            normalization=normalization,
            made_by=made_by,
            history=[],
        )
        context.figures["parameters"] = sum(parameter.numel() for parameter in network.parameters())

    def for_smoke_run(self) -> Stage:
        """Return the stage with random weights instead of weights that timm would fetch.

        A stage whose options are invalid is not changed, so that `validate_plan` reports them.
        """
        fetched = self.weights is None and isinstance(self.backbone, Timm) and self.backbone.tag
        changed = fetched and not self._given_file_options()
        return self.model_copy(update={"random_weights": True}) if changed else self

    def _weight_options(self) -> WeightOptions:
        return WeightOptions(
            self.entry, self.prefix, tuple(self.rename.items()), self.match, tuple(self.ignore)
        )

    def _fetch(self, backbone: Timm) -> Network:
        """Return the network with the weights that timm publishes for it."""
        network = build_network(backbone, 0)
        names = torchvision_names(backbone, network.state_dict())
        state = published_module(backbone).state_dict()
        network.load_state_dict({ours: state[name] for ours, name in names.items()}, strict=True)
        return network

    def preprocessing(self) -> tuple[int, Normalization]:
        """Return the side of the network's images in px, and their normalization."""
        size, default = SIZE, Normalization()
        if isinstance(self.backbone, Timm):
            size, mean, std = self.backbone.pretrained_preprocessing()
            default = Normalization(mean=mean, std=std)
        mean, std = tuple(self.mean or default.mean), tuple(self.std or default.std)
        return self.size or size, Normalization(per_image=self.per_image, mean=mean, std=std)


@contextmanager
def blame(option: str) -> Iterator[None]:
    """Turn a ValueError into an InvalidOption of `option`."""
    try:
        yield
    except InvalidOption:
        raise
    except ValueError as error:
        raise InvalidOption(option, str(error)) from error
