"""Model: a trained backbone, and the preprocessing of its images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact, JsonCard, read_json, write_json
from transfer.errors import CorruptArtifact
from transfer.models import backbone
from transfer.models.build import build_network, layer_shapes
from transfer.transforms.normalize import Normalization
from transfer.utils.lazy_imports import safetensors

if TYPE_CHECKING:
    from transfer.models.backbone import Backbone
    from transfer.models.network import Network


@dataclass(frozen=True)
class ModelCard:
    """`model.json`."""

    backbone: dict[str, Any]  # the options of the network
    default_layer: str
    layers: dict[str, list[int]]  # layer -> shape of its output, (C, H, W) or (C,)
    normalization: Normalization
    made_by: dict[str, Any]  # class and options of the stage
    size: int  # side of the images in px
    fit: str  # of an exported model, how images become squares: `crop` or `stretch`
    # Of an exported model, the values of deep images that become black and white.
    value_range: tuple[float, float] | None

    @classmethod
    def from_json(cls, path: Path) -> ModelCard:
        """Read `model.json`; CorruptArtifact if a field is missing or of a wrong type."""
        card = JsonCard(path)
        normalization = card.field("normalization", dict)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in normalization.items()
        }
        try:
            normalization = Normalization(**values)
        except TypeError as error:
            problem = f"{path.name}: `normalization` is invalid ({error})"
            raise CorruptArtifact(path.parent, problem) from error
        value_range = card.field("value_range", list, [])
        if value_range and [type(value) in (int, float) for value in value_range] != [True, True]:
            raise CorruptArtifact(path.parent, f"{path.name}: `value_range` is not two numbers")
        return cls(
            backbone=card.field("backbone", dict),
            default_layer=card.field("default_layer", str),
            layers=card.field("layers", dict),
            normalization=normalization,
            made_by=card.field("made_by", dict),
            size=card.field("size", int),
            fit=card.field("fit", str, "crop"),
            value_range=(value_range[0], value_range[1]) if value_range else None,
        )


class Model(Artifact):
    """A trained backbone: weights in `model.safetensors`, and `model.json`, which describes it."""

    required = ("model.safetensors", "model.json")

    @cached_property
    def card(self) -> ModelCard:
        """The facts in `model.json`."""
        return ModelCard.from_json(self.folder / "model.json")

    @property
    def normalization(self) -> Normalization:
        """How pixels become the input of the network."""
        return self.card.normalization

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The training curves, one entry per epoch: loss, accuracy and other figures."""
        path = self.folder / "history.json"
        return read_json(path) if path.exists() else []

    def shown_figures(self) -> dict[str, Any]:
        """The network with its images and its default layer, and the figures of its training."""
        card = self.card
        facts = {"network": card.backbone.get("name", ""), "images": f"{card.size} px"}
        return {**facts, "layer": card.default_layer, **self.figures}

    @cached_property
    def backbone(self) -> Backbone:
        """The description of the network: its options and layers, without weights."""
        return backbone(self.card.backbone)

    @cached_property
    def layers(self) -> dict[str, list[int]]:
        """Layer -> shape of its output, (C, H, W) or (C,), in the order in which they run."""
        return {name: self.card.layers[name] for name in self.backbone.layer_names()}

    def network(self) -> Network:
        """Return the network with its weights, in eval mode on the CPU.

        CorruptArtifact if the weights are not exactly those of the network.
        """
        network = build_network(self.backbone, 0)
        try:
            state = safetensors.load_file(self.folder / "model.safetensors")
            network.load_state_dict(state, strict=True)
        except Exception as error:  # safetensors has its own type; a wrong key is a RuntimeError
            problem = f"model.safetensors cannot be loaded ({error})"
            raise CorruptArtifact(self.folder, problem) from error
        return network.eval()

    @staticmethod
    def write(
        folder: Path,
        network: Network,
        *,
        size: int,
        normalization: Normalization,
        made_by: dict[str, Any],
        history: list[dict[str, float]],
    ) -> None:
        """Write the files of a Model.

        Args:
            folder: the artifact's folder.
            network: the backbone, as it was trained.
            size: side of its images in px.
            normalization: how pixels become its input.
            made_by: class and options of the stage.
            history: the training curves, one entry per epoch.
        """
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in network.state_dict().items()
        }
        safetensors.save_file(state, folder / "model.safetensors")
        spec = network.spec.for_transfer()
        shapes = network.shapes(size) if spec == network.spec else layer_shapes(spec, size)
        card = {
            "backbone": spec.model_dump(mode="json"),
            "default_layer": spec.default_layer(),
            "layers": {name: list(shape) for name, shape in shapes.items()},
            "normalization": asdict(normalization),
            "made_by": made_by,
            "size": size,
        }
        write_json(folder / "model.json", card)
        write_json(folder / "history.json", history)
