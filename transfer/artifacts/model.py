"""Model: a trained backbone, and how it is fed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.artifacts.base import Artifact, write_json
from transfer.errors import CorruptArtifact
from transfer.models.build import build_network
from transfer.transforms.normalize import Normalization
from transfer.utils.lazy_imports import safetensors

if TYPE_CHECKING:
    from transfer.models.backbone import Backbone
    from transfer.models.network import Network


class Model(Artifact):
    """A trained backbone: `model.safetensors`, and `model.json` that says how to build and feed it."""

    required = ("model.safetensors", "model.json")

    @cached_property
    def card(self) -> dict[str, Any]:
        return self._json("model.json")

    @property
    def normalization(self) -> Normalization:
        return Normalization(
            **{
                k: tuple(v) if isinstance(v, list) else v
                for k, v in self.card["normalization"].items()
            }
        )

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One entry an epoch: loss, accuracy and whatever else the task names."""
        return self._json("history.json") if (self.folder / "history.json").exists() else []

    @cached_property
    def backbone(self) -> Backbone:
        """The description that the network is built from: its options and layers, without weights."""
        from transfer.models import backbone

        return backbone(self.card["backbone"])

    @cached_property
    def layers(self) -> dict[str, list[int]]:
        """Layer -> its shape, (C, H, W) or (C,), in the order in which they run."""
        return {name: self.card["layers"][name] for name in self.backbone.layer_names()}

    def network(self) -> Network:
        """The backbone with its weights, in eval mode, on the CPU. Loading is strict."""
        network = build_network(self.backbone, 0)
        try:
            network.load_state_dict(
                safetensors.load_file(self.folder / "model.safetensors"), strict=True
            )
        except (
            Exception
        ) as error:  # safetensors has its own error type; a wrong key or shape is a RuntimeError
            raise CorruptArtifact(
                self.folder, f"model.safetensors cannot be loaded ({error})"
            ) from error
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
        """Write the backbone `network`, fed with square images of `size` px, and its training curves."""
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in network.state_dict().items()
        }
        safetensors.save_file(state, folder / "model.safetensors")
        card = {
            "backbone": network.spec.model_dump(mode="json"),
            "default_layer": network.spec.default_layer(),
            "layers": {name: list(shape) for name, shape in network.shapes(size).items()},
            "normalization": normalization.__dict__,
            "made_by": made_by,
            "size": size,
        }
        write_json(folder / "model.json", card)
        write_json(folder / "history.json", history)
