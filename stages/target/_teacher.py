"""What a deep network said of the images, as the strategies read it: kept by an earlier stage, or asked again.

The teacher does not run while the target learns, unless `live` names it: then it sees the very crops that the target
sees, without gradients, and its features go through the same preparation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare
from transfer.artifacts import Features, Images, Model
from transfer.artifacts.features import load_steps
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.feature_transforms import to_device, transform_on_device
from transfer.stage.feature_blocks import finite_blocks
from transfer.stage.options import inputs_named
from transfer.transforms.normalize import normalize
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    import torch as torch_types
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

HELD = 1 << 30  # bytes of features that are held in memory


class CachedTeacher:
    """The features that an earlier stage kept of all images.

    `rows` (N,): which row each image has, -1 for none. `variance`: the mean over values of their variance.
    """

    def __init__(self, context: StageContext, features: Features, images: Images, name: str):
        row = {one: place for place, one in enumerate(features.ids)}
        self.rows = np.array([row.get(one, -1) for one in images.ids])
        self.width = features.shape[1]
        self.device = context.runtime.device
        self.values, self.variance = self._read(
            context, features, context.checkpoints / f"{name}.npy"
        )
        self._of = torch.from_numpy(self.rows).to(self.device)

    def __call__(self, crops: Tensor, rng: PerImageRng) -> Tensor:
        """(B, D) float32 of the images `draw.ids`; the crops make no difference."""
        rows = self._of[rng.ids]
        if torch.is_tensor(self.values):
            return self.values[rows].float()
        return torch.from_numpy(self.values[rows.cpu().numpy()]).to(self.device).float()

    def _read(
        self, context: StageContext, features: Features, path: Path
    ) -> tuple[Tensor | numpy.ndarray | None, float]:
        """All rows as they are kept, on the device or mapped; and the mean variance of their values."""
        dtype, size = np.dtype(features.table.dtypes["features"]), np.prod(features.shape)
        if size * dtype.itemsize <= feature_budget(self.device):
            values = np.empty(features.shape, dtype)
            variance = target_variance(context, features, values)
            return torch.from_numpy(values).to(self.device), variance
        values = np.lib.format.open_memmap(path, "w+", dtype, features.shape)
        variance = target_variance(context, features, values)
        del values  # mapped anew, so that what was written does not count as this process's memory
        return np.load(path, mmap_mode="r"), variance


class LiveTeacher(CachedTeacher):
    """The same features, but for rounding: computed anew of each crop, in other batches."""

    def __init__(
        self, context: StageContext, features: Features, images: Images, name: str, model: Model
    ):
        from transfer.models.blocks import fuse_batchnorm  # imports torch

        super().__init__(context, features, images, name)
        facts = features.attributes
        self.space = facts["source"] if "steps" in facts else facts["space"]
        self.steps = to_device(load_steps(features) if "steps" in facts else [], self.device)
        self.size, self.normalization = model.card.size, model.normalization
        self.network = model.network()
        fuse_batchnorm(self.network)
        self.network.to(self.device, memory_format=torch.channels_last).requires_grad_(False)

    def _read(self, context: StageContext, features: Features, path: Path) -> tuple[None, float]:
        return None, target_variance(context, features)

    def __call__(self, crops: Tensor, rng: PerImageRng) -> Tensor:
        """(B, D) float32 of the crops (B, 3, S, S), floats in [0, 1]."""
        with torch.no_grad():
            if crops.shape[-1] != self.size:
                crops = F.interpolate(crops, size=self.size, mode="bilinear", antialias=True)
            layer = self.space["layer"]
            found = self.network.layers(normalize(crops, self.normalization), [layer])[layer]
            rows = pool_features(found, self.space["pool"], self.space["pooling"])
            with torch.autocast(self.device.type, enabled=False):
                return transform_on_device(self.steps, rows)


def teachers(
    context: StageContext, features: list[Features], model: Model | None
) -> list[CachedTeacher]:
    """One for each of the features. `model`: the network to ask again; None: what was kept of it counts."""
    images = context.images["images"]
    if model is not None:
        return [LiveTeacher(context, features[0], images, "features", model)]
    return [
        CachedTeacher(context, one, images, f"features-{place}")
        for place, one in enumerate(features)
    ]


def rows_with_features(all_of: list[CachedTeacher], context: StageContext) -> numpy.ndarray:
    """The rows of the images that every teacher has features of; a person is told of the others."""
    whole = np.all([one.rows >= 0 for one in all_of], axis=0)
    if not whole.any():
        raise TransferError("none of the images has features: they are of another set")
    if not whole.all():
        context.note(
            f"{int((~whole).sum())} of {len(whole)} images have no features and are left out"
        )
    return np.flatnonzero(whole)


def check_live(features: list[PlannedStage], live: PlannedStage | None) -> None:
    """BadOption where the teacher named by `live` is not the one that the features are of, or cannot be asked."""
    if live is None:
        return
    if len(features) > 1:
        raise InvalidOption("live", "one teacher can be asked again: name one stage of features")
    source = features[0]
    while isinstance(source.stage, Prepare) and "like" in source.inputs:
        source = source.inputs["like"]
    if isinstance(source.stage, Prepare):
        sources = inputs_named(source.inputs, "features")
        if len(sources) > 1:
            raise InvalidOption(
                "live", f"'{source.name}' are of several teachers: one can be asked again"
            )
        source = sources[0]
    if isinstance(source.stage, Prepare):
        raise InvalidOption(
            "live",
            f"'{features[0].name}' are prepared more than once: have one stage do all `steps`",
        )
    if not isinstance(source.stage, ExtractNetwork):
        raise InvalidOption(
            "live", f"'{features[0].name}' are of no network that could be asked again"
        )
    if source.inputs["model"].key != live.key:
        theirs = source.inputs["model"].name
        raise InvalidOption("live", f"'{features[0].name}' are of '{theirs}', not of '{live.name}'")


def feature_budget(device: torch_types.device) -> int:
    """Bytes of features that are held on the device; more are mapped from a file, and gathered for each batch."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else HELD


def target_variance(
    context: StageContext, features: Features, into: numpy.ndarray | None = None
) -> float:
    """The mean over values of their variance; the rows are written into `into` on the way."""
    first = total = squares = 0.0
    for start, block in finite_blocks(context, features):
        if into is not None:
            into[start : start + len(block)] = block
        first = block[0].astype(np.float64) if start == 0 else first
        apart = block - first
        total, squares = total + apart.sum(axis=0), squares + np.square(apart).sum(axis=0)
    variance = float((squares / len(features) - np.square(total / len(features))).mean())
    if variance <= 0:
        raise TransferError(
            "all features are the same: there is nothing to learn. Did the network collapse?"
        )
    return variance
