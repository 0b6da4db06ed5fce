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
from typing import TYPE_CHECKING

from transfer.datasets.card_schema import CodeList, Files, Part
from transfer.datasets.readers.base import Listing, Split
from transfer.datasets.readers.beside_classes import beside_classes
from transfer.datasets.readers.card_reader import (
    CardSource,
    ChangeTracker,
    descend,
    missing_text,
)
from transfer.datasets.readers.class_codes import class_names, listed_codes
from transfer.datasets.readers.file_tree import Tree, find_images, open_tree, read_row
from transfer.datasets.readers.left_out import LISTED_REMEDY, Entry, LeftOut
from transfer.datasets.readers.line_templates import folder_of
from transfer.datasets.readers.listed_images import (
    ListedImage,
    count_left_out,
    labels_of,
    read_list,
)
from transfer.datasets.readers.member_names import nfc
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural

if TYPE_CHECKING:
    from transfer.datasets.cards import Card

OTHER_FOLDER, OTHER_IMAGE = "unselected class folder", "unselected image"  # for the counts


class FilesSource(CardSource):
    """Images whose ids are their paths below the dataset's folder.

    Lists keep their order; the images of folders are sorted.
    """

    def __init__(self, card: Card, path: Path, skip: bool = False):
        super().__init__(card, path, skip)
        assert card.files is not None
        self.recipe: Files = card.files
        self._tree: Tree
        self._parts: dict[str, Part] = {}  # the layout in which each complete split lies here
        self._codes: list[str] | None = None

    def missing_files(self) -> dict[str, str]:
        self._tree = descend(open_tree(self.path, self.skip), self.recipe.roots)
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
                self._codes = [nfc(code) for code in codes]
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
            return {nfc(code) for folder in folders for code in self._tree.folders(folder)}
        listed = (image for part in parts if part.list for image in read_list(self._tree, part))
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
        left_out = self._left_out(part, images, tracker.unreadable)
        faulty = sum(image.name in tracker.unreadable for image in images)
        fingerprint = summary.hexdigest()
        return Split(len(images), labels is not None, fingerprint, left_out, unreadable=faulty)

    def _left_out(
        self, part: Part, images: list[ListedImage], unreadable: dict[str, str]
    ) -> LeftOut:
        """Return the counts of what a split leaves out, and the classes that lose all images."""
        by_class: dict[str, list[Entry]] = {}
        others: list[Entry] = []
        if part.folders is not None:
            for code, folders in self._class_folders(part.folders).items():
                by_class[code] = [
                    entry for folder in folders for entry in find_images(self._tree, folder).others
                ]
            others = beside_classes(self._tree, self.recipe, part.folders)
        elif part.pictures is not None:
            others = find_images(self._tree, part.pictures).others
        else:
            others = self._unlisted(part)
        left_out = count_left_out(images, unreadable, by_class, others)
        for reason, count in self._unselected(part).items():
            left_out.add(reason, count=count)
        return left_out

    def _unlisted(self, part: Part) -> list[Entry]:
        """Return the files in the folder of a list that no split takes."""
        folder = folder_of(part.image)
        images = find_images(self._tree, folder)
        taken: set[str] = set()
        inside: list[str] = []
        try:
            for other in self._parts.values():
                place = other.folders if other.folders is not None else other.pictures
                if place is not None:
                    inside.append(f"{place}/" if place else "")
                elif _overlap(folder, folder_of(other.image)):
                    taken |= {image.name for image in read_list(self._tree, other)}
        except UsageError:  # of another split, which is refused where it is read
            return images.others
        entries = [*images.others, *((name, "unlisted image") for name in images.names)]
        return [e for e in entries if e[0] not in taken and not e[0].startswith(tuple(inside))]

    def _unselected(self, part: Part) -> dict[str, int]:
        """Return how much a card with `select` leaves out, by reason."""
        if not self.recipe.select:
            return {}
        codes = set(self._all_codes())
        reason, names = OTHER_FOLDER, [*map(nfc, self._tree.folders(part.folders or ""))]
        if part.folders is None:
            listed = read_list(self._tree, part) if part.list is not None else ()
            reason, names = OTHER_IMAGE, [image.code for image in listed]
        count = sum(isinstance(name, str) and name not in codes for name in names)
        return {reason: count} if count else {}

    def _check_listed(self, images: list[ListedImage]) -> None:
        missing = [
            f"{image.where}{image.name}"
            for image in images
            if image.where and not self._tree.is_file(image.name)
        ]
        if missing:
            count = plural(len(missing), "listed image")
            problem = f"lacks {count}:{fault_list(missing)}\n{LISTED_REMEDY}"
            raise UsageError(f"{self._tree.path} {problem}") from None

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
            names = find_images(self._tree, part.pictures).names
            images = [ListedImage(name, None) for name in names]
        else:
            images = list(read_list(self._tree, part))
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
        return images, labels_of(images, codes, self._tree.path)

    def _in_folders(self, folder: str) -> Iterator[ListedImage]:
        for code, folders in self._class_folders(folder).items():
            for name in (name for top in folders for name in find_images(self._tree, top).names):
                yield ListedImage(name, code)

    def _class_folders(self, folder: str) -> dict[str, list[str]]:
        """Return the folders of each class; several only where names differ in Unicode's form."""
        present: dict[str, list[str]] = {}
        for name in self._tree.folders(folder):
            present.setdefault(nfc(name), []).append(f"{folder}/{name}" if folder else name)
        codes = self._all_codes()
        if self.recipe.codes or self.card.classes:
            missing = [code for code in codes if code not in present]
            if missing:
                count = f"{len(missing)} of its classes"
                raise UsageError(f"{self._tree.path / folder} lacks {count}:{fault_list(missing)}")
        return {code: present[code] for code in codes} if self.recipe.select else present


def _overlap(folder: str, other: str) -> bool:
    """Whether a folder is another one, or lies in it; "" is the top."""
    first, second = sorted((f"{folder}/" if folder else "", f"{other}/" if other else ""))
    return second.startswith(first)
