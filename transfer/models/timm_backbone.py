"""Networks of timm (Wightman, "PyTorch Image Models") by name: `timm:convnext_atto.d2_in1k`.

They need the extra `teachers`. All have two layers: `features` (C, H, W), the map before pooling,
and `embedding` (D,), the classifier's input. A transformer's map has its tokens at the place of
their patch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from transfer.models.backbone import Backbone, unknown
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

PREFIX = "timm:"
# With it, transformers take images of every size that their patches fill.
ANY_SIZE = {"dynamic_img_size": True}
PREFIXES = 8  # largest number of tokens before a transformer's patches
SMALL = {  # targets for small devices, which `transfer list backbones` suggests
    "timm:mobilenetv3_small_100": "MobileNetV3-Small (Howard et al., 2019), 1.5 million weights",
    "timm:mobilenetv3_large_100": "MobileNetV3-Large (Howard et al., 2019), 4.2 million weights",
    "timm:efficientnet_lite0": "EfficientNet-Lite0 (Tan & Le, 2019), 3.4 million weights",
    "timm:resnet18": "timm's own ResNet-18, 11 million weights",
}


class Timm(Backbone):
    """Networks of timm without classifiers; a name may end in a tag of published weights."""

    names: ClassVar[tuple[str, ...]] = ()  # too many to list; all begin with PREFIX

    name: str = Field(
        pattern=rf"^{PREFIX}\S+$", description="`timm:` and timm's name, such as timm:resnet18"
    )
    width: float = Field(
        default=1.0,
        ge=1,
        le=1,
        description="timm's networks have a fixed width; choose another name",
    )

    @property
    def model(self) -> str:
        """Its name in timm, with the tag of its weights."""
        return self.name.removeprefix(PREFIX)

    @property
    def tag(self) -> str:
        """The tag of timm's published weights; empty without one."""
        return self.model.partition(".")[2]

    def layer_names(self) -> list[str]:
        return ["features", "embedding"]

    def default_layer(self) -> str:
        return "embedding"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.timm_modules import TimmEmbedding, TimmFeatures

        features = TimmFeatures(self.create(), self.name)
        return {"features": features, "embedding": TimmEmbedding(features)}

    def create(self, file: Path | None = None, pretrained: bool = False) -> nn.Module:
        """Make timm's module without its classifier; ValueError if timm or the name is missing.

        Args:
            file: the file of its published weights; None: where timm finds it.
            pretrained: load the weights that timm publishes under this name.
        """
        timm, tag = self._timm(), self.tag
        architecture = self.model.partition(".")[0]
        if not timm.is_model(architecture):
            raise unknown("network of timm", architecture, timm.list_models())
        published = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in published:
            raise unknown(f"set of weights of {architecture}", tag, published)
        settings: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
        if file:
            # `custom_load: true` is about the file at timm's other address, not that of the hub.
            custom = self.published_facts().custom_load == "hf"
            settings["pretrained_cfg_overlay"] = {"file": str(file), "custom_load": custom}
        try:
            return timm.create_model(self.model, **ANY_SIZE, **settings)
        except TypeError:  # of networks that take every size anyway
            return timm.create_model(self.model, **settings)

    def published_facts(self) -> Any:
        """Return what timm knows of the weights of this name; ValueError if it has none."""
        facts = self._timm().get_pretrained_cfg(self.model)
        if facts is None or not (facts.hf_hub_id or facts.url):
            raise ValueError(f"timm publishes no weights of {self.name}")
        return facts

    def constructor_call(self) -> str:
        """Return the code that makes the same module with timm alone."""
        with torch.device("meta"):
            plain, ours = self._timm().create_model(self.model, num_classes=0), self.create()
        dynamic = [getattr(module, "dynamic_img_size", False) for module in (plain, ours)]
        option = ", dynamic_img_size=True" if dynamic[1] and not dynamic[0] else ""
        return f"timm.create_model({self.model!r}, num_classes=0{option})"

    def renamed(self, state: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
        """Return a state dict with its authors' names (CLIP's, DINOv2's, ...) replaced by timm's.

        It uses timm's own tables. ValueError for weights of another patch or image size, which timm
        would resample.

        Args:
            state: tensors under their authors' names.
            network: a network of this description.
        """
        model = network.get_submodule("features.model")
        rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if rename is None or model.state_dict().keys() == state.keys():
            return state
        try:
            renamed = rename(dict(state), model)
        except Exception:  # of unexpected files; `assign` reports what does not fit
            return state
        for name, spare in (("patch_embed.proj.weight", 0), ("pos_embed", PREFIXES)):
            if name in renamed and not any(
                _is_reshaped(renamed[name], value, spare) for value in state.values()
            ):
                raise ValueError(
                    f"does not fit {self.name}\n  {name} is of another patch or image size"
                )
        return renamed

    def pretrained_preprocessing(self) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
        """Return side in px, mean and deviation of the images that its weights were trained on."""
        timm = self._timm()
        facts = timm.get_pretrained_cfg(self.model)
        config = timm.data.resolve_data_config(pretrained_cfg=facts.to_dict() if facts else {})
        return config["input_size"][-1], tuple(config["mean"]), tuple(config["std"])

    def timm_notes(self) -> list[str]:
        """Return timm's notes on these weights, such as that CLIP's need a quickgelu network."""
        facts = self._timm().get_pretrained_cfg(self.model)
        notes = (getattr(facts, "notes", None) or ()) if "quickgelu" not in self.model else ()
        return [f"timm remarks on {self.name}: {note}" for note in notes]

    def other_normalizations(self) -> list[str]:
        """Return a note if the name has no tag, and its weights differ in normalization."""
        if self.tag:
            return []
        timm = self._timm()
        facts = timm.get_pretrained_cfg(self.model)
        published = [
            timm.get_pretrained_cfg(name) for name in timm.list_pretrained(f"{self.model}.*")
        ]
        others = [
            config.tag
            for config in published
            if (config.mean, config.std) != (facts.mean, facts.std)
        ]
        if not others:
            return []
        mean = ", ".join(f"{value:g}" for value in facts.mean)
        return [
            f"images are normalized as for {self.name}.{facts.tag} (mean {mean}), not as for "
            f"{', '.join(others)}; if these weights need another normalization, add their tag to "
            "the name, or set `mean` and `std`"
        ]

    def _timm(self) -> ModuleType:
        try:
            import timm
        except ImportError as error:
            raise ValueError(
                f"{self.name} needs timm ({error}); pip install 'transfer[teachers]'"
            ) from error
        return timm


def _is_reshaped(renamed: Tensor, original: Tensor, spare: int) -> bool:
    """Whether a tensor may be the original in another shape.

    Args:
        renamed: the tensor.
        original: a tensor of the file.
        spare: rows that they may differ in: class and register tokens.
    """
    width = renamed.shape[-1] if spare else renamed.numel()
    difference = abs(original.numel() - renamed.numel())
    return original.numel() % width == 0 and difference <= spare * width
