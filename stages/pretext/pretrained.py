"""Pretrained: a network that somebody has trained already, from a file of its weights, or from timm."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, ClassVar

from transfer.artifacts import Model
from transfer.errors import InvalidOption, TransferError, did_you_mean
from transfer.models import Timm
from transfer.models.build import build_network, layer_shapes
from transfer.models.weight_files import read_weights
from transfer.models.weight_matching import load_matching
from transfer.stage.backbone_option import PublishedBackbone
from transfer.stage.base import Stage
from transfer.stage.file_option import FileOption
from transfer.stage.options import option
from transfer.transforms.normalize import Normalization

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.backbone import Backbone
    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

SIZE = 224  # px: what networks for ImageNet are trained with


class Pretrained(Stage):
    """A backbone with weights of your own choice, which are neither trained nor changed.

    The file's names may be those of our layers (a `model.safetensors` of the store), torchvision's for AlexNet, VGG and
    ResNet (the table is in transfer/models/weight_conversion.py), timm's, or what timm knows to read (CLIP's image tower, DINO,
    DINOv2, MAE, ConvNeXt as their authors saved them). Every name must fit; what is to be left out of the file is said.
    Only tensors are loaded: nothing in the file is run. The result's key has the file's bytes in it, not its place.
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
        "a .safetensors file, or a state dict (.pth, .pt); none: those that timm publishes for timm:NAME.TAG, which it "
        "fetches once",
    )
    entry: str | None = option(
        None, "the part of the file that holds the weights, where it holds more: state_dict"
    )
    prefix: str = option(
        "",
        "what the names of this network begin with; it is taken off, and other names are left out",
    )
    ignore: list[str] = option(
        [], "names to leave out, as the network has them, with wildcards: ['fc.*']"
    )
    random_weights: bool = option(
        False, "random weights instead: to try a pipeline out, as `--smoke` does"
    )
    size: int | None = option(
        None,
        f"side that images are resized to, px; none: as timm has it for the network, else {SIZE}",
        ge=8,
        le=1024,
    )
    mean: list[float] | None = option(
        None,
        "of the images that it was trained with, by channel, for values from 0 to 1; none: timm's, or ImageNet's",
    )
    std: list[float] | None = option(None, "their deviation")
    per_image: bool = option(False, "each image has its own mean and deviation removed instead")

    def backbone_spec(self) -> Backbone:
        return self.backbone

    def input_size(self) -> int:
        return self.preprocessing()[0]

    def starts_from_weights(self) -> bool:
        return True

    def validate_plan(self, planned: PlannedStage) -> None:
        """There is a source of weights, and normalization is said once."""
        if self.weights is None and not self.random_weights:
            if not isinstance(self.backbone, Timm):
                raise InvalidOption(
                    "weights", "name the file of weights (only those of timm:NAME.TAG need none)"
                )
            if not self.backbone.tag:
                lists = f"`timm.list_pretrained('{self.backbone.model}.*')` lists them"
                raise InvalidOption(
                    "backbone",
                    f"say which weights too, {self.backbone.name}.TAG ({lists}), or name a file",
                )
            for name in ("entry", "prefix", "ignore"):
                if getattr(self, name):
                    raise InvalidOption(name, "is of a file, and no file of `weights` is named")
        if self.weights is not None and self.random_weights:
            raise InvalidOption("random_weights", "there are `weights`: leave one of the two out")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None and len(values) != 3:
                raise InvalidOption(name, f"three values, one a channel (found {len(values)})")
            if values is not None and self.per_image:
                raise InvalidOption(name, "with `per_image` each image has its own")
        if any(value <= 0 for value in self.std or []):
            raise InvalidOption("std", "deviations are above zero")

    def validate_build(self, planned: PlannedStage) -> None:
        """The file can be read and fits the network, and the network its images."""
        for at_fault, tried in (
            ("backbone", lambda: build_network(self.backbone, 0)),
            ("weights", lambda: self._loaded() if self.weights is not None else None),
            (
                "size" if self.size else "backbone",
                lambda: layer_shapes(self.backbone, self.preprocessing()[0]),
            ),
        ):
            try:
                tried()
            except InvalidOption:
                raise
            except ValueError as error:
                raise InvalidOption(at_fault, str(error)) from error

    def run(self, context: StageContext) -> None:
        if self.weights is not None:
            self.weights.verified_path()
            network = self._loaded()
        elif self.random_weights:
            network = build_network(self.backbone, 0)
            context.note("random weights: features of this network say little")
        else:
            network = self._published()
        if isinstance(self.backbone, Timm) and not self.random_weights:
            said = self.mean or self.std or self.per_image
            for told in self.backbone.timm_notes() + (
                [] if said else self.backbone.other_normalizations()
            ):
                context.note(told)
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
        """Nothing is fetched for a smoke run; what `check` has to tell of that is told then too."""
        fetched = self.weights is None and isinstance(self.backbone, Timm) and self.backbone.tag
        faulty = self.entry or self.prefix or self.ignore
        return self.model_copy(update={"random_weights": True}) if fetched and not faulty else self

    def _loaded(self) -> Network:
        """The network with the weights of the file; ValueError says what does not fit."""
        network, path = build_network(self.backbone, 0), self.weights.verified_path()
        try:
            chosen = self._chosen(network, read_weights(path, self.entry))
            network.load_state_dict(load_matching(network, chosen, self.prefix), strict=True)
        except InvalidOption as error:
            raise InvalidOption(error.option, f"{path} {error}") from error
        except ValueError as error:
            raise ValueError(
                str(error) if str(path) in str(error) else f"{path} {error}"
            ) from error
        return network

    def _chosen(self, network: Network, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `prefix` and `ignore` leave of a file, under names that are known here."""
        left = {
            name.removeprefix(self.prefix): value
            for name, value in state.items()
            if name.startswith(self.prefix)
        }
        if not left:
            starts = {
                name[: place + 1]
                for name in state
                for place, letter in enumerate(name)
                if letter == "."
            }
            raise InvalidOption(
                "prefix",
                f"has no name that begins with '{self.prefix}'{did_you_mean(self.prefix, starts)}",
            )
        written = left
        if isinstance(self.backbone, Timm):
            left = self.backbone.renamed(left, network)
        for pattern in self.ignore:
            if not any(fnmatchcase(name, pattern) for name in [*left, *written]):
                told = f"has nothing that `ignore: {pattern}` could leave out{did_you_mean(pattern, left)}"
                raise InvalidOption("ignore", told)
        return {
            name: value
            for name, value in left.items()
            if not any(fnmatchcase(name, one) for one in self.ignore)
        }

    def _published(self) -> Network:
        """The network with the weights that timm has for it."""
        network = build_network(self.backbone, 0)
        try:
            theirs = self.backbone.create(pretrained=True)
        except ValueError:
            raise
        except Exception as error:  # of the network, the hub or the disk
            raise TransferError(
                f"timm cannot fetch the weights of {self.backbone.name} ({type(error).__name__}: {error}): fetch the "
                "file by hand and name it with `weights`"
            ) from error
        network.load_state_dict(load_matching(network, theirs.state_dict()), strict=True)
        return network

    def preprocessing(self) -> tuple[int, Normalization]:
        """Side of the images that the network is fed, px, and how they are normalized."""
        size, known = SIZE, Normalization()
        if isinstance(self.backbone, Timm):
            size, mean, std = self.backbone.pretrained_preprocessing()
            known = Normalization(mean=mean, std=std)
        mean, std = tuple(self.mean or known.mean), tuple(self.std or known.std)
        return self.size or size, Normalization(per_image=self.per_image, mean=mean, std=std)
