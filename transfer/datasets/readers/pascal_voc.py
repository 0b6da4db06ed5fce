"""Reader `voc`: PASCAL VOC (Everingham et al. 2010): lists, boxes, and masks of classes.

ImageSets/Main/trainval.txt            names of images
ImageSets/Main/cat_trainval.txt        name and 1, -1, or 0 (difficult objects only)
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

from transfer.datasets.card_schema import Voc
from transfer.datasets.readers.annotations import Annotations, Boxes
from transfer.datasets.readers.base import Listing, Split
from transfer.datasets.readers.card_reader import (
    CardSource,
    ChangeTracker,
    descend,
    missing_text,
)
from transfer.datasets.readers.file_tree import Tree, find_images, open_tree, read_row
from transfer.datasets.readers.left_out import LISTED_REMEDY, Entry, LeftOut, refuse_faults
from transfer.datasets.readers.line_templates import LineTemplate
from transfer.datasets.readers.member_names import name_fault
from transfer.datasets.readers.read_errors import error_text, report_errors
from transfer.datasets.readers.voc_boxes import parse_boxes
from transfer.errors import BadImage, UsageError
from transfer.utils.formatting import fault_list, plural
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    import numpy

    from transfer.datasets.cards import Card

PRESENCE = {"1": 1, "-1": -1, "0": 0}


class VocSource(CardSource):
    """Images whose ids are their names: 2007_000027.

    An image may have several labels, so a listing has `annotations` instead of labels.
    """

    def __init__(self, card: Card, path: Path, skip: bool = False):
        super().__init__(card, path, skip)
        assert card.voc is not None
        self.recipe: Voc = card.voc
        self._tree: Tree

    def missing_files(self) -> dict[str, str]:
        self._tree = descend(open_tree(self.path, self.skip), self.recipe.roots)
        missing = {}
        for split in self.recipe.splits:
            name = self._image_list(split)
            missing[split] = (
                "" if self._tree.is_file(name) else missing_text(self._tree.path, [name])
            )
        return missing

    def classes(self) -> list[str]:
        return self.card.classes

    def split_info(self, name: str, tracker: ChangeTracker) -> Split:
        ids = self._ids(name)
        files = self._files(name, ids)
        missing = [file for file in files if not self._tree.is_file(file)]
        if missing and not self.skip:
            count = f"{plural(len(missing), 'file')} of {self._image_list(name)}"
            raise UsageError(
                f"{self._tree.path} lacks {count}:{fault_list(missing)}\n{LISTED_REMEDY}"
            )
        files += self._class_lists(name).values()
        digests = tracker.digests(self._tree, files)
        summary = hashlib.sha256(json.dumps([self.card.classes, ids]).encode())
        for file in files:
            summary.update(f"{file}\0{digests[file]}\n".encode())
        fingerprint = summary.hexdigest()
        check = f"{fingerprint}/skip" if self.skip else fingerprint
        count = tracker.checked_count(check, lambda: len(self.split_listing(name).ids))
        unreadable = tracker.unreadable
        left_out = LeftOut.of((file, unreadable[file]) for file in files if file in unreadable)
        left_out.update(LeftOut.of(self._unlisted()))
        return Split(count, False, fingerprint, left_out)

    def _unlisted(self) -> list[Entry]:
        """Return the files of the folder of images that no split takes."""
        images = find_images(self._tree, "JPEGImages")
        taken: set[str] = set()
        try:
            for split in self.recipe.splits:
                if self._tree.is_file(self._image_list(split)):
                    taken |= {f"JPEGImages/{image}.jpg" for image in self._ids(split)}
        except UsageError:  # of another split, which is refused where it is read
            return images.others
        unlisted = [(name, "unlisted image") for name in images.names if name not in taken]
        return images.others + unlisted

    def split_listing(self, name: str) -> Listing:
        """Return the images; all annotations are read, and UsageError lists the damaged ones.

        Where `skip` is set, an image with a damaged annotation cannot be read.
        """
        ids = self._ids(name)
        targets, faults = self._targets(name, ids)
        if not self.skip:
            problem = "cannot be used"
            refuse_faults(self._tree.path, "annotation", list(faults.values()), problem)
        annotations = Annotations(
            self.card.classes,
            targets,
            partial(_read_boxes, self._tree, self.card.classes, ids),
            partial(_read_mask, self._tree, ids),
        )
        images = [f"JPEGImages/{image}.jpg" for image in ids]
        read = partial(_read_image, self._tree, images, faults)
        return Listing(ids, None, read, annotations)

    def _image_list(self, split: str) -> str:
        return f"ImageSets/{self.recipe.splits[split]}"

    def _ids(self, split: str) -> list[str]:
        file = self._image_list(split)
        ids: dict[str, None] = {}  # in the order of the list
        for line, fields in LineTemplate("{image}").parse(self._tree.read(file), file):
            image = fields["image"].split()[0]
            fault = name_fault(image) or ("it occurs twice" if image in ids else "")
            if fault:
                where = f"{self._tree.path / file}, line {line}"
                raise UsageError(f"{where}: invalid name {image!r}: {fault}")
            ids[image] = None
        if not ids:
            raise UsageError(f"{self._tree.path / file} names no images")
        return list(ids)

    def _files(self, split: str, ids: list[str]) -> list[str]:
        """Return the images, their boxes and, for a split of segmentation, their masks."""
        masks = self.recipe.splits[split].startswith("Segmentation/")
        files = []
        for image in ids:
            files += [f"JPEGImages/{image}.jpg", f"Annotations/{image}.xml"]
            if masks:
                files.append(f"SegmentationClass/{image}.png")
        return files

    def _class_lists(self, split: str) -> dict[int, str]:
        """Return for each label the list of which images show its class, where one exists."""
        folder, _, name = self.recipe.splits[split].rpartition("/")
        files = {
            label: f"ImageSets/{folder}/{class_name}_{name}"
            for label, class_name in enumerate(self.card.classes)
        }
        return {label: file for label, file in files.items() if self._tree.is_file(file)}

    def _targets(self, split: str, ids: list[str]) -> tuple[numpy.ndarray, dict[int, str]]:
        """Return the targets, (images, classes) int8: of the boxes, replaced by the class lists.

        With them the faults of annotations by row; a mask counts where the split has masks.
        """
        targets = np.full((len(ids), len(self.card.classes)), -1, dtype=np.int8)
        faults: dict[int, str] = {}
        masks = self.recipe.splits[split].startswith("Segmentation/")
        for row, image in enumerate(ids):
            try:
                boxes = _read_boxes(self._tree, self.card.classes, ids, row)
                if self.skip and masks and _read_mask(self._tree, ids, row) is None:
                    faults[row] = f"SegmentationClass/{image}.png: missing"
            except UsageError as error:
                faults[row] = str(error)
                continue
            except OSError as error:
                faults[row] = f"Annotations/{image}.xml: {error_text(error)}"
                continue
            targets[row, boxes.labels[boxes.difficult]] = 0
            targets[row, boxes.labels[~boxes.difficult]] = 1
        row_of = {image: row for row, image in enumerate(ids)}
        for label, file in self._class_lists(split).items():
            self._apply_class_list(file, row_of, targets[:, label])
        return targets, faults

    def _apply_class_list(self, file: str, row_of: dict[str, int], column: numpy.ndarray) -> None:
        """Set a class's column of the targets; UsageError for an invalid or missing line."""
        path, seen = self._tree.path / file, set()
        lines = LineTemplate("{image} {shows}").parse(self._tree.read(file), file)
        for line, fields in lines:
            image, shows = fields["image"], fields["shows"]
            where = f"{path}, line {line}: '{image} {shows}'"
            if shows not in PRESENCE:
                raise UsageError(f"{where} is not 1, 0 or -1")
            if image not in row_of or image in seen:
                raise UsageError(f"{where} is twice in it or in another split")
            seen.add(image)
            column[row_of[image]] = PRESENCE[shows]
        if len(seen) < len(row_of):
            raise UsageError(f"{path} lacks {plural(len(row_of) - len(seen), 'image')}")


def _read_image(tree: Tree, names: list[str], faults: dict[int, str], row: int) -> bytes:
    if row in faults:
        raise BadImage(faults[row])
    return read_row(tree, names, row)


def _read_mask(tree: Tree, ids: list[str], row: int) -> bytes | None:
    """Return the bytes of an image's mask, if any; UsageError where it is damaged."""
    from PIL import Image

    from transfer.datasets.packed.picture_files import png_without_metadata

    name = f"SegmentationClass/{ids[row]}.png"
    if not tree.is_file(name):
        return None
    data = png_without_metadata(tree.read(name))
    # PIL raises errors of many types for damaged files.
    problem = report_errors(tree.path / name, "not a readable mask", Exception)
    with problem, Image.open(io.BytesIO(data)) as image:
        image.load()
    return data


def _read_boxes(tree: Tree, classes: list[str], ids: list[str], row: int) -> Boxes:
    name = f"Annotations/{ids[row]}.xml"
    try:
        return parse_boxes(tree.read(name), classes)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
