"""The teacher's features of the images: read from an earlier stage, or computed for each crop.

By default the teacher does not run while the target is trained. With `live` it sees the same crops
as the target, without gradients, and its features go through the same preparation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Features, Images, Model
from transfer.artifacts.features import load_steps
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.feature_transforms import to_device, transform_on_device
from transfer.stage.feature_blocks import finite_blocks
from transfer.transforms.normalize import normalize
from transfer.transforms.pooling import pool_features
from transfer.utils.lazy_imports import F, np, torch

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    from torch import Tensor

    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

MEMORY_BUDGET = 1 << 30  # bytes of features that are kept in memory on a CPU


class CachedTeacher:
    """The features that an earlier stage wrote for all images.

    Attributes:
        rows: (N,) the row of each image in the features; -1 for an image without features.
        width: values of a row.
        variance: the variance of the features, averaged over their values.
    """

    def __init__(self, context: StageContext, features: Features, images: Images, name: str):
        """Read all features.

        Args:
            context: of the stage that trains the target.
            features: the teacher's.
            images: those that the target is trained on.
            name: of the file for features that exceed the memory budget.
        """
        row_of = {image_id: row for row, image_id in enumerate(features.ids)}
        self.rows = np.array([row_of.get(image_id, -1) for image_id in images.ids])
        self.width = features.shape[1]
        self.device = context.runtime.device
        path = context.checkpoints / f"{name}.npy"
        self.values, self.variance = self._load(context, features, path)
        self._row_of_image = torch.from_numpy(self.rows).to(self.device)

    def __call__(self, crops: Tensor, rng: PerImageRng) -> Tensor:
        """Return (B, D) float32, the features of the images `rng.ids`; the crops are ignored."""
        rows = self._row_of_image[rng.ids]
        values = self.values
        assert values is not None, "only a live teacher has no values"
        if isinstance(values, torch.Tensor):
            return values[rows].float()
        return torch.from_numpy(values[rows.cpu().numpy()]).to(self.device).float()

    def _load(
        self, context: StageContext, features: Features, path: Path
    ) -> tuple[Tensor | numpy.ndarray | None, float]:
        """Return all rows, on the device or mapped from `path`, and their mean variance."""
        dtype, size = np.dtype(features.table.dtypes["features"]), np.prod(features.shape)
        if size * dtype.itemsize <= feature_budget(self.device):
            values = np.empty(features.shape, dtype)
            variance = target_variance(context, features, values)
            return torch.from_numpy(values).to(self.device), variance
        values = np.lib.format.open_memmap(path, "w+", dtype, features.shape)
        variance = target_variance(context, features, values)
        del (
            values
        )  # mapped again below, so that written pages do not count as this process's memory
        return np.load(path, mmap_mode="r"), variance


class LiveTeacher(CachedTeacher):
    """The same features up to rounding, computed for each crop by the teacher's network."""

    def __init__(
        self, context: StageContext, features: Features, images: Images, name: str, model: Model
    ):
        """Load the network; see `CachedTeacher` for the other arguments.

        Args:
            context: of the stage that trains the target.
            features: the teacher's features of the whole images.
            images: those that the target is trained on.
            name: unused, since no features are kept.
            model: the teacher.
        """
        from transfer.models.blocks import fuse_batchnorm  # imports torch

        super().__init__(context, features, images, name)
        attributes = features.attributes
        is_prepared = "steps" in attributes
        self.space = attributes["source"] if is_prepared else attributes["space"]
        self.steps = to_device(load_steps(features) if is_prepared else [], self.device)
        self.size, self.normalization = model.card.size, model.normalization
        self.network = model.network()
        fuse_batchnorm(self.network)
        self.network.to(self.device).to(memory_format=torch.channels_last).requires_grad_(False)

    def _load(self, context: StageContext, features: Features, path: Path) -> tuple[None, float]:
        return None, target_variance(context, features)

    def __call__(self, crops: Tensor, rng: PerImageRng) -> Tensor:
        """Return (B, D) float32, the features of the crops (B, 3, S, S), floats in [0, 1]."""
        with torch.no_grad():
            if crops.shape[-1] != self.size:
                crops = F.interpolate(crops, size=self.size, mode="bilinear", antialias=True)
            layer = self.space["layer"]
            outputs = self.network.layers(normalize(crops, self.normalization), [layer])
            rows = pool_features(outputs[layer], self.space["pool"], self.space["pooling"])
            with torch.autocast(self.device.type, enabled=False):
                return transform_on_device(self.steps, rows)


def teachers(
    context: StageContext, features: list[Features], model: Model | None
) -> list[CachedTeacher]:
    """Return a teacher for each of the features.

    Args:
        context: of the stage that trains the target.
        features: those of each teacher.
        model: the network of a live teacher, of which there is only one; None: read the features.
    """
    images = context.images["images"]
    if model is not None:
        return [LiveTeacher(context, features[0], images, "features", model)]
    return [
        CachedTeacher(context, source, images, f"features-{number}")
        for number, source in enumerate(features)
    ]


def rows_with_features(teachers: list[CachedTeacher], context: StageContext) -> numpy.ndarray:
    """The rows of the images of which every teacher has features; a note counts the others."""
    complete = np.all([teacher.rows >= 0 for teacher in teachers], axis=0)
    if not complete.any():
        raise TransferError("none of the images has features; the features are of another set")
    if not complete.all():
        context.note(
            f"{int((~complete).sum())} of {len(complete)} images have no features and are left out"
        )
    return np.flatnonzero(complete)


def check_live(features: list[PlannedStage[Any]], live: PlannedStage[Any] | None) -> None:
    """Raise InvalidOption unless `live` is the network that computed the planned features.

    A live teacher repeats one layer of a network and one preparation, so there must be no more.
    """
    if live is None:
        return
    if len(features) > 1:
        raise InvalidOption("live", "works with one teacher only; name one stage of features")
    name = features[0].name
    sources = features[0].stage.prepared_from(features[0]) or features
    if len(sources) > 1:
        raise InvalidOption("live", f"'{name}' joins several features, and `live` works with one")
    (source,) = sources
    if source.stage.prepared_from(source):
        raise InvalidOption(
            "live", f"'{name}' was prepared more than once; put all `steps` into one stage"
        )
    model = source.stage.source_model(source)
    if model is None:
        raise InvalidOption("live", f"'{name}' does not come from a network that could run again")
    if model.key != live.key:
        raise InvalidOption("live", f"'{name}' comes from '{model.name}', not from '{live.name}'")


def feature_budget(device: torch.device) -> int:
    """Bytes of features that are kept on the device; more are mapped from a file."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else MEMORY_BUDGET


def target_variance(
    context: StageContext, features: Features, into: numpy.ndarray | None = None
) -> float:
    """Compute the variance of the features, averaged over their values.

    Args:
        context: of the stage that trains the target.
        features: (N, D).
        into: array (N, D) that the rows are copied into.

    Raises:
        TransferError: all features are the same.
    """
    first = total = squares = np.zeros(features.shape[1])
    for start, block in finite_blocks(context, features):
        if into is not None:
            into[start : start + len(block)] = block
        first = block[0].astype(np.float64) if start == 0 else first
        shifted = block - first  # about a row, so that large means cost no digits
        total, squares = total + shifted.sum(axis=0), squares + np.square(shifted).sum(axis=0)
    variance = float((squares / len(features) - np.square(total / len(features))).mean())
    if variance <= 0:
        raise TransferError(
            "all features are the same, so there is nothing to learn; did the network collapse?"
        )
    return variance
