"""What the measurements share: sets, models, networks and work, made without a pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from stages.pretext.jigsawpp import JigsawPP
from transfer.artifacts import Images, Model, PseudoLabels, write_json
from transfer.models import Backbone, backbone
from transfer.models.build import build_network
from transfer.stage.context import StageContext, StopFlag
from transfer.stage.image_input import DatasetInfo
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.training.pretext_task import Pretext
from transfer.transforms.normalize import Normalization
from transfer.utils.runtime import Runtime

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "pipelines" / "jigsawpp_vgg_to_alexnet.yaml"
# The networks of the shipped pipeline, and what makes it small enough for a smoke run.
VGG16 = {"name": "vgg16", "width": 0.25, "batch_norm": True, "stem": "small"}
ALEXNET = {"name": "alexnet", "width": 0.5, "batch_norm": True, "stem": "small"}
SMALL = [
    "--smoke",
    "--set=data={card: drawings, limit: 64}",
    "--set=stages.linear.layers=[conv1]",
    "--set=stages.linear_random.layers=[conv1]",
    *(f"--set=stages.{stage}.backbone.width=0.1" for stage in ("pretext", "target", "random")),
]
BLOCK = 1000  # images of noise that are written at a time


def started_machine(smoke: bool) -> Runtime:
    """The best device there is, with its threads set; one thread in a smoke run."""
    runtime = Runtime(requested_threads=1 if smoke else None)
    runtime.configure_threads()
    return runtime


def stage_work(
    folder: Path,
    runtime: Runtime,
    images: dict[str, Images] | None = None,
    inputs: dict[str, Any] | None = None,
) -> StageContext:
    """What a stage is given to run with, without a pipeline.

    Args:
        folder: Where its files go; the artifact is `made` in it.
        machine: Where it runs.
        images: Role -> packed images.
        inputs: Option name -> artifact.
    """
    images, inputs = images or {}, inputs or {}
    made, checkpoints = folder / "made", folder / "checkpoints"
    made.mkdir(parents=True, exist_ok=True)
    checkpoints.mkdir(exist_ok=True)
    keys = {name: f"key of {name}" for name in inputs}
    keys |= {f"{role} images": f"key of {role}" for role in images}
    return StageContext(
        folder=made,
        checkpoints=checkpoints,
        inputs=inputs,
        images=images,
        runtime=runtime,
        seed=0,
        stop=StopFlag(),
        label="benchmark",
        key="key",
        input_keys=keys,
        quiet=True,
    )


def packed_set(folder: Path, pixels: np.ndarray, labels: np.ndarray | None = None) -> Images:
    """A packed split of (N, S, S, 3) uint8 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", pixels)
    return _described(folder, len(pixels), pixels.shape[1], labels)


def noise_set(folder: Path, count: int, side: int, classes: int = 10) -> Images:
    """A packed split of noise, written block by block, so that memory does not grow with it.

    Args:
        folder: Where it is written.
        count: How many images.
        side: Their side in px.
        classes: How many classes take turns as labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    block = np.random.RandomState(0).bytes(min(count, BLOCK) * side * side * 3)
    with open(folder / "images.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, facts)
        for start in range(0, count, BLOCK):
            file.write(block[: min(BLOCK, count - start) * side * side * 3])
    return _described(folder, count, side, np.arange(count) % classes)


def _described(folder: Path, count: int, side: int, labels: np.ndarray | None) -> Images:
    columns = {"ids": encode_strings([f"train/{row}" for row in range(count)])}
    classes: list[str] = []
    if labels is not None:
        columns["labels"] = labels.astype(np.int64)
        classes = [str(label) for label in range(int(labels.max()) + 1)]
    write_table(folder / "index.h5", columns)
    write_json(folder / "images.json", {"size": side, "split": "train", "classes": classes})
    return Images(folder)


def hard_labels(folder: Path, images: Images) -> PseudoLabels:
    """The labels of a set as pseudo-labels."""
    folder.mkdir(parents=True)
    zeros, classes, labels = np.zeros(len(images)), np.arange(len(images.classes)), images.labels
    assert labels is not None
    PseudoLabels.write(folder, images.ids, labels, classes, zeros, zeros)
    return PseudoLabels(folder)


def random_model(folder: Path, described: str | dict[str, Any] | Backbone, size: int) -> Model:
    """A backbone with random weights as a Model artifact for images of `size` px.

    Args:
        folder: Where it is written.
        described: The backbone's name, or its options.
        size: Side of the images in px.
    """
    folder.mkdir(parents=True)
    network = build_network(backbone(described), 0)
    Model.write(folder, network, size=size, normalization=Normalization(), made_by={}, history=[])
    return Model(folder)


def pretext_network(task: Pretext, about: DatasetInfo) -> nn.ModuleDict:
    """All that a pretext task trains, with random weights."""
    torch.manual_seed(0)
    return task.network(build_network(task.backbone, 0), about)


def shipped_jigsaw(**options: Any) -> JigsawPP:
    """The shipped pipeline's pretext task, of one epoch; `options` replaces others."""
    shipped = {
        "backbone": VGG16,
        "epochs": 1,
        "batch_size": 128,
        "tile_size": 18,
        "shift": 1,
        "puzzles_per_image": 8,
        "embedding_dim": 128,
        "hidden_dim": 1024,
        "dropout": 0.0,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
    }
    return JigsawPP(**(shipped | options))


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    """(N, S, S, 3) of a set, which may be mapped, as a tensor (N, 3, S, S)."""
    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2)


def stored_jpegs(source: Path, split: str, limit: int) -> Iterator[tuple[int, str, bytes]]:
    """(row, class, JPEG bytes) of images of an HDF5 set.

    Args:
        source: The file.
        split: Which split of it.
        limit: How many at most, evenly spread.
    """
    with h5py.File(source, "r") as file:
        group: Any = file[split]
        names = json.loads(str(file.attrs["class_names"]))
        offsets, labels = group["offsets"][:], group["labels"][:]
        for row in range(0, len(labels), -(-len(labels) // limit)):
            encoded = group["jpeg"][offsets[row] : offsets[row + 1]]
            yield row, names[labels[row]], encoded.tobytes()


class Pictures(Dataset):
    """Pixels (N, S, S, 3) handed to `transform` as PIL's images, as torchvision's sets do."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], Any]):
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(np.array(self.pixels[index])))
