"""Miniature VOC sets: a colored square for each class, with boxes and masks, packed or as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.datasets.conftest import encode
from tests.datasets.miniature import text
from transfer.artifacts import Images, Model, write_json
from transfer.datasets.packed.decode import square
from transfer.datasets.packed.packed_annotations import write_annotations
from transfer.datasets.readers.annotations import Annotations, Boxes
from transfer.datasets.readers.base import Listing
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.storage.hdf5_tables import encode_strings, write_table
from transfer.transforms.normalize import Normalization

CLASSES = ["red", "green", "blue"]
HIGH, WIDE, SIZE = 36, 48, 32


Object = tuple[int, tuple[int, int, int, int], bool]  # label, corners, whether it is difficult


@dataclass
class Scene:
    """An original (HIGH, WIDE, 3) with what it shows."""

    name: str
    pixels: np.ndarray
    mask: np.ndarray
    objects: list[Object] = field(default_factory=list)


def scene(name: str, number: int, difficult: float = 0.0) -> Scene:
    """Draw one or two colored squares on a dark ground, in the part that packing keeps."""
    random = np.random.RandomState(number)
    made = Scene(
        name,
        random.randint(0, 40, (HIGH, WIDE, 3)).astype(np.uint8),
        np.zeros((HIGH, WIDE), np.uint8),
    )
    for place, label in enumerate(random.permutation(len(CLASSES))[: 1 + number % 2]):
        side = random.randint(10, 15)
        left, top = 7 + 18 * place + random.randint(0, 3), random.randint(2, HIGH - side - 2)
        made.pixels[top : top + side, left : left + side, label] = 220
        made.mask[top : top + side, left : left + side] = label + 1
        made.mask[top, left : left + side] = 255
        corners = (left, top, left + side - 1, top + side - 1)
        made.objects.append((int(label), corners, bool(random.uniform() < difficult)))
    return made


def scenes(split: str, count: int, difficult: float = 0.0) -> list[Scene]:
    start = {"trainval": 0, "test": 1000}[split]
    return [scene(f"{split}{number:03}", start + number, difficult) for number in range(count)]


def targets(shown: Sequence[Scene]) -> np.ndarray:
    result = np.full((len(shown), len(CLASSES)), -1, dtype=np.int8)
    for row, entry in enumerate(shown):
        for hard in (True, False):
            for label, _, difficult in entry.objects:
                if difficult == hard:
                    result[row, label] = 0 if hard else 1
    return result


def boxes(entry: Scene) -> Boxes:
    return Boxes(
        np.array([corners for _, corners, _ in entry.objects], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in entry.objects], np.int64),
        np.array([difficult for _, _, difficult in entry.objects], bool),
    )


def pack(
    folder: Path, shown: Sequence[Scene], split: str, masks: bool = True, annotate: bool = True
) -> Images:
    """Pack scenes as the stage `Pack` does."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [entry.name for entry in shown]
    np.save(folder / "images.npy", np.stack([square(entry.pixels, SIZE) for entry in shown]))
    write_table(folder / "index.h5", {"ids": encode_strings(ids)})
    write_json(folder / "images.json", {"size": SIZE, "split": split, "classes": CLASSES})
    if annotate:
        known = Annotations(
            CLASSES,
            targets(shown),
            lambda row: boxes(shown[row]),
            lambda row: encode(Image.fromarray(shown[row].mask)) if masks else None,
        )
        listing = Listing(ids, None, lambda row: encode(Image.fromarray(shown[row].pixels)), known)
        write_annotations(folder, listing, range(len(shown)))
    return Images(folder)


def packed(folder: Path, train: Sequence[Scene], test: Sequence[Scene]) -> dict[str, Images]:
    return {
        "train": pack(folder / "train", train, "trainval"),
        "test": pack(folder / "test", test, "test"),
    }


def model(folder: Path, spec: str | dict[str, Any] = "conv4", passes_colors: bool = False) -> Model:
    """A network of random weights; `passes_colors`: the first layer of a conv4 keeps the colors."""
    folder.mkdir(parents=True)
    network = build_network(backbone(spec), 0)
    if passes_colors:
        with torch.no_grad():
            weight = network.get_parameter("conv1.conv.weight")
            weight.zero_()
            for channel in range(3):
                weight[channel, channel, 1, 1] = 1
    plain = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    Model.write(folder, network, size=SIZE, normalization=plain, made_by={}, history=[])
    return Model(folder)


def annotation_xml(objects: Sequence[Object], names: Sequence[str]) -> str:
    """Return an image's annotation file; pixels are counted from 1 in it."""
    parts = []
    for label, corners, difficult in objects:
        left, top, right, bottom = (corner + 1 for corner in corners)
        parts.append(
            f"<object><name>{names[label]}</name><difficult>{int(difficult)}</difficult><bndbox>"
            f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
            "</bndbox></object>"
        )
    return f"<annotation>{''.join(parts)}</annotation>"


def write_files(root: Path, splits: Mapping[str, Sequence[Scene]], names: Sequence[str]) -> None:
    """Write a VOC2007 to disk, with its segmentation splits; `names` are the classes of VOC."""
    lists: dict[str, list[str]] = {}
    for split, shown in splits.items():
        lists[f"Main/{split}"] = [entry.name for entry in shown]
        lists[f"Segmentation/{'val' if split == 'test' else 'train'}"] = [
            entry.name for entry in shown
        ]
        for entry in shown:
            text(root / f"Annotations/{entry.name}.xml", annotation_xml(entry.objects, names))
            for folder, data in (
                ("JPEGImages", encode(Image.fromarray(entry.pixels), "JPEG")),
                ("SegmentationClass", encode(Image.fromarray(entry.mask))),
            ):
                path = root / folder / f"{entry.name}.{'jpg' if folder == 'JPEGImages' else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    for name, images in lists.items():
        text(root / f"ImageSets/{name}.txt", *images)
