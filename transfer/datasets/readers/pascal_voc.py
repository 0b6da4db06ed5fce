"""Reader `voc`: PASCAL VOC (Everingham et al. 2010): lists in ImageSets, boxes in Annotations, masks of classes.

ImageSets/Main/trainval.txt            names of images; cat_trainval.txt: name and 1, -1, or 0 (difficult only)
ImageSets/Segmentation/trainval.txt    names of images that have a mask
JPEGImages/NAME.jpg   Annotations/NAME.xml   SegmentationClass/NAME.png
"""

from __future__ import annotations

import hashlib
import io
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from transfer.datasets.card_schema import Voc
from transfer.datasets.readers.annotations import Annotations, Boxes
from transfer.datasets.readers.base import Listing, Split
from transfer.datasets.readers.card_reader import CardSource, ChangeTracker, rooted
from transfer.datasets.readers.file_tree import Tree, open_tree
from transfer.datasets.readers.line_templates import Lines
from transfer.datasets.readers.member_names import unsafe
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.cards import Card

PRESENCE = {"1": 1, "-1": -1, "0": 0}


class VocSource(CardSource):
    """An image goes by its name: 2007_000027. It has several labels, so a listing has `annotations` instead."""

    def __init__(self, card: Card, place: Path):
        super().__init__(card, place)
        assert card.voc is not None
        self.recipe: Voc = card.voc
        self._tree: Tree

    def find(self) -> dict[str, str]:
        self._tree = rooted(open_tree(self.place), self.recipe.roots)
        lists = {split: f"ImageSets/{name}" for split, name in self.recipe.splits.items()}
        return {
            split: "" if self._tree.is_file(name) else f"{self._tree.path} has no {name}"
            for split, name in lists.items()
        }

    def classes(self) -> list[str]:
        return self.card.classes

    def facts(self, name: str, look: ChangeTracker) -> Split:
        ids = self._ids(name)
        files = self._files(name, ids)
        wanted = [file for group in files for file in group]
        if gone := [file for file in wanted if not self._tree.is_file(file)]:
            listing = f"ImageSets/{self.recipe.splits[name]}"
            raise UsageError(
                f"{self._tree.path} lacks {len(gone)} files of what {listing} names:{fault_list(gone)}"
            )
        lists = list(self._class_lists(name).values())
        digests = look.digests(self._tree, [*wanted, *lists])
        summary = hashlib.sha256(json.dumps([self.card.classes, ids]).encode())
        for file in (*wanted, *lists):
            summary.update(f"{file}\0{digests[file]}\n".encode())
        count = look.checked(summary.hexdigest(), lambda: len(self.images(name).ids))
        return Split(count, False, summary.hexdigest())

    def images(self, name: str) -> Listing:
        """Every annotation is read: UsageError names those that are damaged."""
        ids = self._ids(name)
        annotations = Annotations(
            self.card.classes,
            self._targets(name, ids),
            partial(_boxes, self._tree, self.card.classes, ids),
            partial(_mask, self._tree, ids),
        )
        return Listing(ids, None, partial(_read, self._tree, ids), annotations)

    def _ids(self, split: str) -> list[str]:
        file = f"ImageSets/{self.recipe.splits[split]}"
        seen: dict[str, int] = {}
        for line, fields in Lines("{image}").read(self._tree.read(file), file):
            image = fields["image"].split()[0]
            fault = unsafe(image) or ("it is there twice" if image in seen else "")
            if fault:
                raise UsageError(
                    f"{self._tree.path / file}, line {line}: {image!r} cannot be: {fault}"
                )
            seen[image] = line
        if not seen:
            raise UsageError(f"{self._tree.path / file} names no images")
        return list(seen)

    def _files(self, split: str, ids: list[str]) -> list[list[str]]:
        """What each image needs: its picture and its boxes, and its mask where the split is one of segmentation."""
        masks = self.recipe.splits[split].startswith("Segmentation/")
        return [
            [
                f"JPEGImages/{one}.jpg",
                f"Annotations/{one}.xml",
                *([f"SegmentationClass/{one}.png"] if masks else []),
            ]
            for one in ids
        ]

    def _class_lists(self, split: str) -> dict[int, str]:
        """Label -> the file that says which images show the class, where there is one."""
        folder, _, name = self.recipe.splits[split].rpartition("/")
        files = {
            label: f"ImageSets/{folder}/{one}_{name}" for label, one in enumerate(self.card.classes)
        }
        return {label: file for label, file in files.items() if self._tree.is_file(file)}

    def _targets(self, split: str, ids: list[str]) -> numpy.ndarray:
        """(images, classes) int8, from the lists of the classes; from the boxes where a class has none."""
        targets = np.full((len(ids), len(self.card.classes)), -1, dtype=np.int8)
        faults = []
        for row in range(len(ids)):
            try:
                boxes = _boxes(self._tree, self.card.classes, ids, row)
            except (UsageError, OSError) as error:
                faults.append(str(error))
                continue
            targets[row, boxes.labels[boxes.difficult]] = 0
            targets[row, boxes.labels[~boxes.difficult]] = 1
        if faults:
            raise UsageError(
                f"{len(faults)} annotations of {self._tree.path} cannot be used:{fault_list(faults)}"
            )
        number = {one: row for row, one in enumerate(ids)}
        for label, file in self._class_lists(split).items():
            seen = set()
            for line, fields in Lines("{image} {shows}").read(self._tree.read(file), file):
                image, shows = fields["image"], fields["shows"]
                if image not in number or shows not in PRESENCE or image in seen:
                    what = (
                        "is not 1, 0 or -1"
                        if shows not in PRESENCE
                        else "is twice in it or in another split"
                    )
                    raise UsageError(
                        f"{self._tree.path / file}, line {line}: '{image} {shows}' {what}"
                    )
                seen.add(image)
                targets[number[image], label] = PRESENCE[shows]
            if len(seen) < len(ids):
                raise UsageError(
                    f"{self._tree.path / file} says nothing of {len(ids) - len(seen)} images"
                )
        return targets


def _read(tree: Tree, ids: list[str], row: int) -> bytes:
    return tree.read(f"JPEGImages/{ids[row]}.jpg")


def _mask(tree: Tree, ids: list[str], row: int) -> bytes | None:
    """UsageError names one that is no readable picture."""
    from PIL import Image

    name = f"SegmentationClass/{ids[row]}.png"
    if not tree.is_file(name):
        return None
    data = tree.read(name)
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except Exception as error:  # PIL raises many kinds for a damaged file
        raise UsageError(f"{tree.path / name}: not a readable mask ({error})") from error
    return data


def _boxes(tree: Tree, classes: list[str], ids: list[str], row: int) -> Boxes:
    name = f"Annotations/{ids[row]}.xml"
    try:
        return parse_boxes(tree.read(name), classes)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error


def parse_boxes(data: bytes, classes: list[str]) -> Boxes:
    """The objects of an annotation file, whose corners count from 1; ValueError says what is wrong with it."""
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it defines entities, which no annotation does")
    try:
        top = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"not readable XML ({error})") from error
    if top.tag != "annotation":
        raise ValueError(f"not an annotation, but <{top.tag}>")
    corners, labels, difficult = [], [], []
    for thing in top.iterfind("object"):
        name = (thing.findtext("name") or "").strip()
        if name not in classes:
            raise ValueError(f"an object of class '{name}', which is none of the {len(classes)}")
        try:
            corner = [
                float(thing.findtext(f"bndbox/{side}", "")) - 1
                for side in ("xmin", "ymin", "xmax", "ymax")
            ]
            hard = int(thing.findtext("difficult", "0"))
        except ValueError as error:
            raise ValueError(f"an object '{name}' without a readable box") from error
        # Not `corner[0] > corner[2]`, which is false for numbers that are none.
        if not (
            corner[0] <= corner[2] < 1e6 and corner[1] <= corner[3] < 1e6 and min(corner) >= -1
        ):
            raise ValueError(
                f"an object '{name}' with the box {[value + 1 for value in corner]}, which cannot be"
            )
        corners.append(corner)
        labels.append(classes.index(name))
        difficult.append(hard != 0)
    return Boxes(
        np.array(corners, dtype=np.float32).reshape(-1, 4),
        np.array(labels, dtype=np.int64),
        np.array(difficult, dtype=bool),
    )
