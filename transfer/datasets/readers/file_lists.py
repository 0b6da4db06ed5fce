"""Reader `files`: images that a card finds by folders or by lists in text files.

`Files` in card_schema.py describes what a card may contain.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from transfer.datasets.card_schema import CodeList, Files, Part
from transfer.datasets.readers.base import MAX_CLASSES, Listing, Split
from transfer.datasets.readers.card_reader import (
    CardSource,
    ChangeTracker,
    descend,
    missing_text,
)
from transfer.datasets.readers.class_codes import (
    class_names,
    listed_codes,
    parse_number,
    read_synsets,
)
from transfer.datasets.readers.file_tree import Tree, image_names, open_tree, read_row
from transfer.datasets.readers.line_templates import LineTemplate, fill, folder_of
from transfer.datasets.readers.member_names import name_fault, tidy
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural

if TYPE_CHECKING:
    from transfer.datasets.cards import Card


class ListedImage(NamedTuple):
    """An image of a split.

    `name` is its name in the tree. `code` is the class as the files name it, its number, or None
    for an unlabeled image. `where` is the line of the list that names it, "" for a folder.
    """

    name: str
    code: str | int | None
    where: str = ""


class FilesSource(CardSource):
    """Images whose ids are their paths below the dataset's folder.

    Lists keep their order; the images of folders are sorted.
    """

    def __init__(self, card: Card, path: Path):
        super().__init__(card, path)
        assert card.files is not None
        self.recipe: Files = card.files
        self._tree: Tree
        self._parts: dict[str, Part] = {}  # the layout in which each complete split lies here
        self._codes: list[str] | None = None

    def missing_files(self) -> dict[str, str]:
        self._tree = descend(open_tree(self.path), self.recipe.roots)
        self._codes, self._parts = None, {}
        missing = {}
        for name, parts in self.recipe.splits.items():
            problems = [self._missing_of(part) for part in parts]
            if "" in problems:
                self._parts[name] = parts[problems.index("")]
                missing[name] = ""
            else:
                missing[name] = missing_text(self._tree.path, problems)
        return missing

    def _missing_of(self, part: Part) -> str:
        tree = self._tree
        if part.folders is not None:
            complete = tree.is_folder(part.folders) and tree.folders(part.folders)
            return "" if complete else f"{part.folders}/ with a folder for each class"
        if part.pictures is not None:
            return "" if tree.is_folder(part.pictures) else f"{part.pictures}/"
        missing = [name for name in (part.list, part.synsets) if name and not tree.is_file(name)]
        if missing:
            return ", ".join(missing)
        folder = folder_of(part.image)
        return "" if tree.is_folder(folder) else f"{folder}/"

    def classes(self) -> list[str]:
        codes = self._all_codes()
        if not self.card.classes:
            return class_names(self._tree, codes, self.recipe.words)
        if codes and len(codes) != len(self.card.classes):
            raise UsageError(
                f"{self.path} has {len(codes)} classes, but its card has {len(self.card.classes)}"
            )
        return self.card.classes

    def _all_codes(self) -> list[str]:
        """Return the classes as the files name them, in the order of their labels."""
        if self._codes is None:
            codes = self.recipe.codes
            if isinstance(codes, CodeList):
                self._codes = listed_codes(self._tree, codes)
            elif codes is not None:
                self._codes = list(codes)
            elif self.card.classes:
                self._codes = list(self.card.classes)
            else:
                self._codes = sorted(self._codes_of_images())
            if repeated := [code for code, times in Counter(self._codes).items() if times > 1]:
                raise UsageError(f"{self.path} has the class '{repeated[0]}' twice")
        return self._codes

    def _codes_of_images(self) -> set[str]:
        """Return the class folders of all splits; without folders, the classes in the lists."""
        parts = self._parts.values()
        if folders := [part.folders for part in parts if part.folders is not None]:
            return {code for folder in folders for code in self._tree.folders(folder)}
        listed = (image for part in parts if part.list for image in self._listed(part))
        return {image.code for image in listed if isinstance(image.code, str)}

    def split_info(self, name: str, tracker: ChangeTracker) -> Split:
        images, labels = self._images(name)
        part = self._parts[name]
        folder = part.folders if part.folders is not None else part.pictures
        below = f"{folder}/" if folder else folder
        try:
            digests = tracker.digests(self._tree, [image.name for image in images], below)
        except UsageError:
            self._check_listed(images)
            raise
        # A new class in another split changes the labels of this one: all class names count.
        summary = hashlib.sha256(json.dumps(self.classes() if labels else None).encode())
        for row, image in enumerate(images):
            label = labels[row] if labels else ""
            summary.update(f"{image.name}\0{digests[image.name]}\0{label}\n".encode())
        return Split(len(images), labels is not None, summary.hexdigest())

    def _check_listed(self, images: list[ListedImage]) -> None:
        missing = [
            f"{image.where}{image.name}"
            for image in images
            if image.where and not self._tree.is_file(image.name)
        ]
        if missing:
            count = plural(len(missing), "listed image")
            raise UsageError(f"{self._tree.path} lacks {count}:{fault_list(missing)}") from None

    def split_listing(self, name: str) -> Listing:
        images, labels = self._images(name)
        ids = [image.name for image in images]
        return Listing(ids, labels, partial(read_row, self._tree, ids))

    def _images(self, split: str) -> tuple[list[ListedImage], list[int] | None]:
        """Return the images of a split and their labels; UsageError for an invalid label."""
        part = self._parts[split]
        if part.folders is not None:
            images = list(self._in_folders(part.folders))
        elif part.pictures is not None:
            images = [ListedImage(name, None) for name in image_names(self._tree, part.pictures)]
        else:
            images = list(self._listed(part))
        if not images:
            raise UsageError(f"{self._tree.path} holds no images of the split '{split}'")
        if images[0].code is None:
            return images, None
        codes = self._all_codes()
        if self.recipe.select:
            selected = {*codes}
            images = [
                image
                for image in images
                if not isinstance(image.code, str) or image.code in selected
            ]
        return images, self._labels(images, codes)

    def _labels(self, images: list[ListedImage], codes: list[str]) -> list[int]:
        label_of = {code: label for label, code in enumerate(codes)}
        limit = len(codes) or MAX_CLASSES
        labels, faults = [], []
        for image in images:
            if isinstance(image.code, str):
                label, described = label_of.get(image.code, -1), f"class '{image.code}'"
            else:
                label = int(image.code or 0)
                described = f"label {label}"
            if not 0 <= label < limit:
                fault = f"{described} is none of the {limit} classes"
                faults.append(f"{image.where}{image.name}: {fault}")
            labels.append(label)
        if faults:
            count = plural(len(faults), "invalid label")
            raise UsageError(f"{self._tree.path}: {count}:{fault_list(faults)}")
        return labels

    def _in_folders(self, folder: str) -> Iterator[ListedImage]:
        present, codes = self._tree.folders(folder), self._all_codes()
        if self.recipe.codes or self.card.classes:
            missing = [code for code in codes if code not in present]
            if missing:
                count = f"{len(missing)} of its classes"
                raise UsageError(f"{self._tree.path / folder} lacks {count}:{fault_list(missing)}")
        for code in codes if self.recipe.select else present:
            for name in image_names(self._tree, f"{folder}/{code}" if folder else code):
                yield ListedImage(name, code)

    def _listed(self, part: Part) -> Iterator[ListedImage]:
        assert part.list is not None
        synsets = read_synsets(self._tree, part.synsets) if part.synsets else None
        lines = LineTemplate(part.line, part.header).parse(self._tree.read(part.list), part.list)
        seen: dict[str, int] = {}
        for row, (line, fields) in enumerate(lines, 1):
            where = f"{part.list}, line {line}: "
            name = tidy(fill(part.image, {**fields, "row": row}))
            if fault := name_fault(name):
                raise UsageError(f"{self._tree.path}: {where}invalid name {name!r}: {fault}")
            if name in seen:
                raise UsageError(
                    f"{self._tree.path}: {where}{name!r} is already in line {seen[name]}"
                )
            seen[name] = line
            code: str | int | None = fields.get("class")
            if "number" in fields:
                number = parse_number(fields["number"], where) - part.first
                code = number if synsets is None else synsets.get(number, f"synset {number}")
            yield ListedImage(name, code, where)
