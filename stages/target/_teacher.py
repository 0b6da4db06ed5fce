"""What a deep network said of the images, as the strategies read it: kept by an earlier stage, or asked again.

The teacher does not run while the target learns, unless `live` names it: then it sees the very crops that the target
sees, without gradients, and its features go through the same preparation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages._features import sound_blocks
from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare, load_steps
from transfer.artifacts import Features, Images, Model
from transfer.errors import BadOption, TransferError
from transfer.images.transforms import normalise
from transfer.lazy import F, np, torch
from transfer.preparation import on_device, through
from transfer.stage import several
from transfer.training.embed import pooled

if TYPE_CHECKING:
    from pathlib import Path

    import numpy
    import torch as torch_types
    from torch import Tensor

    from transfer.images.draw import Draw
    from transfer.plan import Planned
    from transfer.work import Work

HELD = 1 << 30  # bytes of features that are held in memory


class Kept:
    """The features that an earlier stage kept of all images.

    `rows` (N,): which row each image has, -1 for none. `variance`: the mean over values of their variance.
    """

    def __init__(self, work: Work, features: Features, images: Images, name: str):
        row = {one: place for place, one in enumerate(features.ids)}
        self.rows = np.array([row.get(one, -1) for one in images.ids])
        self.width = features.shape[1]
        self.device = work.machine.device
        self.values, self.variance = self._read(work, features, work.checkpoints / f"{name}.npy")
        self._of = torch.from_numpy(self.rows).to(self.device)

    def __call__(self, crops: Tensor, draw: Draw) -> Tensor:
        """(B, D) float32 of the images `draw.ids`; the crops make no difference."""
        rows = self._of[draw.ids]
        if torch.is_tensor(self.values):
            return self.values[rows].float()
        return torch.from_numpy(self.values[rows.cpu().numpy()]).to(self.device).float()

    def _read(self, work: Work, features: Features, path: Path) -> tuple[Tensor | numpy.ndarray | None, float]:
        """All rows as they are kept, on the device or mapped; and the mean variance of their values."""
        dtype, size = np.dtype(features.table.dtypes["features"]), np.prod(features.shape)
        if size * dtype.itemsize <= room(self.device):
            values = np.empty(features.shape, dtype)
            variance = variance_of(work, features, values)
            return torch.from_numpy(values).to(self.device), variance
        values = np.lib.format.open_memmap(path, "w+", dtype, features.shape)
        variance = variance_of(work, features, values)
        del values  # mapped anew, so that what was written does not count as this process's memory
        return np.load(path, mmap_mode="r"), variance


class Live(Kept):
    """The same features, but for rounding: computed anew of each crop, in other batches."""

    def __init__(self, work: Work, features: Features, images: Images, name: str, model: Model):
        from transfer.networks.blocks import fold  # imports torch

        super().__init__(work, features, images, name)
        facts = features.attributes
        self.space = facts["source"] if "steps" in facts else facts["space"]
        self.steps = on_device(load_steps(features) if "steps" in facts else [], self.device)
        self.size, self.normalisation = model.card["size"], model.normalisation
        self.network = model.network()
        fold(self.network)
        self.network.to(self.device, memory_format=torch.channels_last).requires_grad_(False)

    def _read(self, work: Work, features: Features, path: Path) -> tuple[None, float]:
        return None, variance_of(work, features)

    def __call__(self, crops: Tensor, draw: Draw) -> Tensor:
        """(B, D) float32 of the crops (B, 3, S, S), floats in [0, 1]."""
        with torch.no_grad():
            if crops.shape[-1] != self.size:
                crops = F.interpolate(crops, size=self.size, mode="bilinear", antialias=True)
            layer = self.space["layer"]
            found = self.network.layers(normalise(crops, self.normalisation), [layer])[layer]
            rows = pooled(found, self.space["pool"], self.space["pooling"])
            with torch.autocast(self.device.type, enabled=False):
                return through(self.steps, rows)


def teachers(work: Work, features: list[Features], model: Model | None) -> list[Kept]:
    """One for each of the features. `model`: the network to ask again; None: what was kept of it counts."""
    images = work.images["images"]
    if model is not None:
        return [Live(work, features[0], images, "features", model)]
    return [Kept(work, one, images, f"features-{place}") for place, one in enumerate(features)]


def known_to(all_of: list[Kept], work: Work) -> numpy.ndarray:
    """The rows of the images that every teacher has features of; a person is told of the others."""
    whole = np.all([one.rows >= 0 for one in all_of], axis=0)
    if not whole.any():
        raise TransferError("none of the images has features: they are of another set")
    if not whole.all():
        work.note(f"{int((~whole).sum())} of {len(whole)} images have no features and are left out")
    return np.flatnonzero(whole)


def check_live(features: list[Planned], live: Planned | None) -> None:
    """BadOption where the teacher named by `live` is not the one that the features are of, or cannot be asked."""
    if live is None:
        return
    if len(features) > 1:
        raise BadOption("live", "one teacher can be asked again: name one stage of features")
    source = features[0]
    while isinstance(source.stage, Prepare) and "like" in source.inputs:
        source = source.inputs["like"]
    if isinstance(source.stage, Prepare):
        sources = several(source.inputs, "features")
        if len(sources) > 1:
            raise BadOption("live", f"'{source.name}' are of several teachers: one can be asked again")
        source = sources[0]
    if isinstance(source.stage, Prepare):
        raise BadOption("live", f"'{features[0].name}' are prepared more than once: have one stage do all `steps`")
    if not isinstance(source.stage, ExtractNetwork):
        raise BadOption("live", f"'{features[0].name}' are of no network that could be asked again")
    if source.inputs["model"].key != live.key:
        theirs = source.inputs["model"].name
        raise BadOption("live", f"'{features[0].name}' are of '{theirs}', not of '{live.name}'")


def room(device: torch_types.device) -> int:
    """Bytes of features that are held on the device; more are mapped from a file, and gathered for each batch."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else HELD


def variance_of(work: Work, features: Features, into: numpy.ndarray | None = None) -> float:
    """The mean over values of their variance; the rows are written into `into` on the way."""
    first = total = squares = 0.0
    for start, block in sound_blocks(work, features):
        if into is not None:
            into[start : start + len(block)] = block
        first = block[0].astype(np.float64) if start == 0 else first
        apart = block - first
        total, squares = total + apart.sum(axis=0), squares + np.square(apart).sum(axis=0)
    variance = float((squares / len(features) - np.square(total / len(features))).mean())
    if variance <= 0:
        raise TransferError("all features are the same: there is nothing to learn. Did the network collapse?")
    return variance
