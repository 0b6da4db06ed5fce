"""Any network of timm (Wightman, "PyTorch Image Models"), by its name there: `timm:convnext_atto.d2_in1k`.

Needs the extra `teachers`. Two layers, the same for all: `features` (C, H, W), the map that the network makes of an
image before any pooling (of a transformer, its tokens where they lie), and `embedding` (D,), what its classifier gets.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from transfer.models.backbone import Backbone, unknown
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

PREFIX = "timm:"
ANY_SIZE = {
    "dynamic_img_size": True
}  # transformers then take images of any size that their patches fill
PREFIXES = 8  # tokens at most that stand before a transformer's patches
SMALL = {  # targets that run on small devices, as `transfer list backbones` suggests them
    "timm:mobilenetv3_small_100": "MobileNetV3-Small (Howard et al., 2019), 1.5 million weights",
    "timm:mobilenetv3_large_100": "MobileNetV3-Large (Howard et al., 2019), 4.2 million weights",
    "timm:efficientnet_lite0": "EfficientNet-Lite0 (Tan & Le, 2019), 3.4 million weights",
    "timm:resnet18": "timm's own ResNet-18, 11 million weights",
}


class Timm(Backbone):
    """Networks of timm without their classifiers; what follows a dot in a name says which weights were published."""

    names: ClassVar[tuple[str, ...]] = ()  # too many to list; all begin with PREFIX

    name: str = Field(
        pattern=rf"^{PREFIX}\S+$", description="`timm:` and the name there, such as timm:resnet18"
    )
    width: float = Field(
        1.0, ge=1, le=1, description="timm's networks have no other width: choose another name"
    )

    @property
    def model(self) -> str:
        """Its name in timm."""
        return self.name.removeprefix(PREFIX)

    @property
    def tag(self) -> str:
        """Which of the weights that timm publishes are meant; empty for none."""
        return self.model.partition(".")[2]

    def layer_names(self) -> list[str]:
        return ["features", "embedding"]

    def default_layer(self) -> str:
        return "embedding"

    def make_layers(self) -> dict[str, nn.Module]:
        from transfer.models.timm_modules import TimmEmbedding, TimmFeatures

        features = TimmFeatures(self.create(), self.name)
        return {"features": features, "embedding": TimmEmbedding(features)}

    def create(self, pretrained: bool = False) -> nn.Module:
        """timm's own module, without its classifier; ValueError where there is none of that name, or no timm.

        pretrained: with the weights that timm publishes under this name, which it fetches from its hub once.
        """
        timm, tag = self._timm(), self.tag
        architecture = self.model.partition(".")[0]
        if not timm.is_model(architecture):
            raise unknown("network of timm", architecture, timm.list_models())
        published = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        if tag and tag not in published:
            raise unknown(f"set of weights of {architecture}", tag, published)
        settings = {"pretrained": pretrained, "num_classes": 0}
        try:
            return timm.create_model(self.model, **ANY_SIZE, **settings)
        except TypeError:  # of networks that take any size anyway
            return timm.create_model(self.model, **settings)

    def constructor_call(self) -> str:
        """What makes the same module without this toolkit."""
        with torch.device("meta"):
            plain, ours = self._timm().create_model(self.model, num_classes=0), self.create()
        sizes = getattr(ours, "dynamic_img_size", False) and not getattr(
            plain, "dynamic_img_size", False
        )
        return f"timm.create_model({self.model!r}, num_classes=0{', dynamic_img_size=True' if sizes else ''})"

    def renamed(self, state: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
        """A state dict under its authors' names (CLIP's, DINOv2's, ...) under timm's, by timm's own tables.

        network: one that this describes. ValueError for weights of another patch or image size, which timm would
        resample.
        """
        model = network.get_submodule("features.model")
        rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        if rename is None or model.state_dict().keys() == state.keys():
            return state
        try:
            found = rename(dict(state), model)
        except (
            Exception
        ):  # of files that are not what it takes them for: what does not fit is told elsewhere
            return state
        for name, spare in (("patch_embed.proj.weight", 0), ("pos_embed", PREFIXES)):
            if name in found and not any(
                _fits(found[name], value, spare) for value in state.values()
            ):
                raise ValueError(
                    f"does not fit {self.name}\n  {name} is of another patch or image size"
                )
        return found

    def pretrained_preprocessing(self) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
        """Side in px, mean and deviation of the images that its weights were made with, as timm has them."""
        timm = self._timm()
        facts = timm.get_pretrained_cfg(self.model)
        found = timm.data.resolve_data_config(pretrained_cfg=facts.to_dict() if facts else {})
        return found["input_size"][-1], tuple(found["mean"]), tuple(found["std"])

    def timm_notes(self) -> list[str]:
        """What timm remarks on these weights, such as that another network (quickgelu) computes as CLIP does."""
        facts = self._timm().get_pretrained_cfg(self.model)
        notes = (getattr(facts, "notes", None) or ()) if "quickgelu" not in self.model else ()
        return [f"timm remarks on {self.name}: {note}" for note in notes]

    def other_normalizations(self) -> list[str]:
        """Where no tag says which weights are meant: for which of them images would be normalized in another way."""
        timm = self._timm()
        facts = timm.get_pretrained_cfg(self.model)
        every = (
            []
            if self.tag
            else [timm.get_pretrained_cfg(one) for one in timm.list_pretrained(f"{self.model}.*")]
        )
        others = [one.tag for one in every if (one.mean, one.std) != (facts.mean, facts.std)]
        if not others:
            return []
        mean = ", ".join(f"{value:g}" for value in facts.mean)
        return [
            f"images are normalized as for {self.name}.{facts.tag} (mean {mean}), not as for {', '.join(others)}: "
            "where these weights need another one, add their tag to the name, or set `mean` and `std`"
        ]

    def _timm(self) -> ModuleType:
        try:
            import timm
        except ImportError as error:
            raise ValueError(
                f"{self.name} needs timm ({error}): pip install 'transfer[teachers]'"
            ) from error
        return timm


def _fits(found: Tensor, written: Tensor, spare: int) -> bool:
    """Whether one may be the other in another shape, but for a few rows (of class and register tokens)."""
    width = found.shape[-1] if spare else found.numel()
    return written.numel() % width == 0 and abs(written.numel() - found.numel()) <= spare * width
