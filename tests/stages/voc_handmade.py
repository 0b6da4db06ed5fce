"""Miniature VOC sets: squares of a color a class, with boxes and masks, packed at once or written as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tests.datasets.conftest import encode
from tests.datasets.miniature import text
from tests.datasets.readers.voc_files import annotation
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
    """One or two squares of different colors on a dark ground, in the middle part that a square keeps."""
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
    found = np.full((len(shown), len(CLASSES)), -1, dtype=np.int8)
    for row, one in enumerate(shown):
        for hard in (True, False):
            for label, _, difficult in one.objects:
                if difficult == hard:
                    found[row, label] = 0 if hard else 1
    return found


def boxes(one: Scene) -> Boxes:
    return Boxes(
        np.array([corners for _, corners, _ in one.objects], np.float32).reshape(-1, 4),
        np.array([label for label, _, _ in one.objects], np.int64),
        np.array([difficult for _, _, difficult in one.objects], bool),
    )


def pack(
    folder: Path, shown: Sequence[Scene], split: str, masks: bool = True, annotate: bool = True
) -> Images:
    """As `Pack` leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [one.name for one in shown]
    np.save(folder / "images.npy", np.stack([square(one.pixels, SIZE) for one in shown]))
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


def model(folder: Path, spec: object = "conv4", told: bool = False) -> Model:
    """Random weights; `told`: the first layer of a conv4 hands the colors on as they are."""
    folder.mkdir(parents=True)
    network = build_network(backbone(spec), 0)
    if told:
        with torch.no_grad():
            weight = network.conv1.conv.weight
            weight.zero_()
            for channel in range(3):
                weight[channel, channel, 1, 1] = 1
    plain = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    Model.write(folder, network, size=SIZE, normalization=plain, made_by={}, history=[])
    return Model(folder)


def write_files(root: Path, splits: dict[str, Sequence[Scene]], names: Sequence[str]) -> None:
    """A VOC2007 on disk, its segmentation splits `train` and `val` included; names: the classes as VOC calls them."""
    lists: dict[str, list[str]] = {}
    for split, shown in splits.items():
        lists[f"Main/{split}"] = [one.name for one in shown]
        lists[f"Segmentation/{'val' if split == 'test' else 'train'}"] = [one.name for one in shown]
        for one in shown:
            things = [
                (names[label], *(c + 1 for c in corners), int(hard))
                for label, corners, hard in one.objects
            ]
            text(root / f"Annotations/{one.name}.xml", annotation(one.name, things))
            for folder, data in (
                ("JPEGImages", encode(Image.fromarray(one.pixels), "JPEG")),
                ("SegmentationClass", encode(Image.fromarray(one.mask))),
            ):
                path = root / folder / f"{one.name}.{'jpg' if folder == 'JPEGImages' else 'png'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    for name, images in lists.items():
        text(root / f"ImageSets/{name}.txt", *images)
