"""Reader `files`: pictures that a card finds by their folders or by lists in text files (see recipes.py)."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from transfer.datasets.card_schema import CodeList, Files, Part
from transfer.datasets.readers.base import Listing, Split
from transfer.datasets.readers.card_reader import CardSource, ChangeTracker, rooted
from transfer.datasets.readers.file_tree import Tree, open_tree, pictures
from transfer.datasets.readers.line_templates import Lines, fill, folder_of
from transfer.datasets.readers.member_names import tidy, unsafe
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list

if TYPE_CHECKING:
    from transfer.datasets.cards import Card

MAX_CLASSES = 1_000_000


class ListedImage(NamedTuple):
    """An image of a split: its name in the tree, its class as the files call it (or its number), where that stands."""

    name: str
    code: str | int | None
    said_in: str = ""


class FilesSource(CardSource):
    """Images go by their paths below the set's folder. Lists keep their order, folders are sorted."""

    def __init__(self, card: Card, place: Path):
        super().__init__(card, place)
        assert card.files is not None
        self.recipe: Files = card.files
        self._tree: Tree
        self._parts: dict[str, Part] = {}
        self._codes: list[str] | None = None

    def find(self) -> dict[str, str]:
        self._tree, self._codes, self._parts = (
            rooted(open_tree(self.place), self.recipe.roots),
            None,
            {},
        )
        missing = {}
        for name, parts in self.recipe.splits.items():
            lacks = [self._lacks(part) for part in parts]
            missing[name] = (
                ""
                if "" in lacks
                else f"{self._tree.path} has no {', nor '.join(dict.fromkeys(lacks))}"
            )
            if "" in lacks:
                self._parts[name] = parts[lacks.index("")]
        return missing

    def _lacks(self, part: Part) -> str:
        """What of a part is missing."""
        tree = self._tree
        if part.folders is not None:
            there = tree.is_folder(part.folders) and tree.folders(part.folders)
            return "" if there else f"{part.folders}/ with a folder for each class"
        if part.pictures is not None:
            return "" if tree.is_folder(part.pictures) else f"{part.pictures}/"
        needed = [name for name in (part.list, part.synsets) if name and not tree.is_file(name)]
        folder = folder_of(part.image)
        return "" if not needed and tree.is_folder(folder) else ", ".join(needed) or f"{folder}/"

    # Classes

    def classes(self) -> list[str]:
        codes = self._all_codes()
        if self.card.classes:
            if codes and len(codes) != len(self.card.classes):
                raise UsageError(
                    f"{self.place} has {len(codes)} classes, its card says {len(self.card.classes)}"
                )
            return self.card.classes
        words = self.recipe.words
        if words is None or not self._tree.is_file(words.list):
            return codes
        lines = Lines(words.line).read(self._tree.read(words.list), words.list)
        called = {fields["class"]: fields["name"].partition(",")[0] for _, fields in lines}
        names = [called.get(code, code) for code in codes]
        times = Counter(names)
        return [
            f"{name} ({code})" if times[name] > 1 else name
            for name, code in zip(names, codes, strict=True)
        ]

    def _all_codes(self) -> list[str]:
        """The classes as the files call them, in the order of their labels."""
        if self._codes is None:
            told = self.recipe.codes
            if isinstance(told, CodeList):
                self._codes = self._listed_codes(told)
            elif told is not None:
                self._codes = list(told)
            elif self.card.classes:
                self._codes = list(self.card.classes)
            else:
                self._codes = sorted(self._found_codes())
            if twice := [code for code, times in Counter(self._codes).items() if times > 1]:
                raise UsageError(f"{self.place} has the class '{twice[0]}' twice")
        return self._codes

    def _listed_codes(self, told: CodeList) -> list[str]:
        if not self._tree.is_file(told.list):
            raise UsageError(
                f"{self._tree.path} has no {told.list}, which says what the classes are"
            )
        lines = [
            fields for _, fields in Lines(told.line).read(self._tree.read(told.list), told.list)
        ]
        if lines and "number" in lines[0]:
            numbered = sorted(
                (_number(fields["number"], told.list), fields["class"]) for fields in lines
            )
            if [number for number, _ in numbered] != list(range(len(numbered))):
                raise UsageError(
                    f"{self._tree.path / told.list} does not number its classes from 0 without gaps"
                )
            return [code for _, code in numbered]
        return [fields["class"] for fields in lines]

    def _found_codes(self) -> set[str]:
        """All folders of classes in all splits; where there are none, all classes in lists."""
        parts = self._parts.values()
        if folders := [part.folders for part in parts if part.folders is not None]:
            return {code for folder in folders for code in self._tree.folders(folder)}
        listed = (picture for part in parts if part.list for picture in self._listed(part))
        return {picture.code for picture in listed if isinstance(picture.code, str)}

    # Images

    def _pictures(self, split: str) -> tuple[list[ListedImage], list[int] | None]:
        """The images of a split and their labels; UsageError where one has none, or is there twice."""
        part = self._parts[split]
        if part.folders is not None:
            found = list(self._in_folders(part.folders))
        elif part.pictures is not None:
            found = [ListedImage(name, None) for name in pictures(self._tree, part.pictures)]
        else:
            found = list(self._listed(part))
        if not found:
            raise UsageError(f"{self._tree.path} holds no pictures of the split '{split}'")
        if found[0].code is None:
            return found, None
        codes = self._all_codes()
        number = {code: label for label, code in enumerate(codes)}
        if self.recipe.select:
            found = [
                picture
                for picture in found
                if not isinstance(picture.code, str) or picture.code in number
            ]
        limit = len(codes) or MAX_CLASSES
        labels, faults = [], []
        for picture in found:
            label = (
                number.get(picture.code, -1)
                if isinstance(picture.code, str)
                else int(picture.code or 0)
            )
            if not 0 <= label < limit:
                what = (
                    f"class '{picture.code}' is"
                    if isinstance(picture.code, str)
                    else f"label {label} is"
                )
                faults.append(
                    f"{picture.said_in}{picture.name}: {what} none of the {limit} classes"
                )
            labels.append(label)
        if faults:
            raise UsageError(
                f"{len(faults)} labels of {self._tree.path} cannot be:{fault_list(faults)}"
            )
        return found, labels

    def _in_folders(self, folder: str) -> Iterator[ListedImage]:
        there = self._tree.folders(folder)
        wanted = self._all_codes()
        if (
            lacking := [code for code in wanted if code not in there]
            if self.recipe.codes or self.card.classes
            else []
        ):
            raise UsageError(
                f"{self._tree.path / folder} lacks {len(lacking)} of its classes:{fault_list(lacking)}"
            )
        for code in wanted if self.recipe.select else there:
            for name in pictures(self._tree, f"{folder}/{code}" if folder else code):
                yield ListedImage(name, code)

    def _listed(self, part: Part) -> Iterator[ListedImage]:
        assert part.list is not None
        synsets = read_synsets(self._tree, part.synsets) if part.synsets else None
        seen: dict[str, int] = {}
        lines = Lines(part.line, part.header).read(self._tree.read(part.list), part.list)
        for row, (line, fields) in enumerate(lines, 1):
            where = f"{part.list}, line {line}: "
            name = tidy(fill(part.image, {**fields, "row": row}))
            if fault := unsafe(name):
                raise UsageError(f"{self._tree.path}: {where}{name!r} cannot be: {fault}")
            if name in seen:
                raise UsageError(
                    f"{self._tree.path}: {where}{name!r} is in line {seen[name]} already"
                )
            seen[name] = line
            code: str | int | None = fields.get("class")
            if "number" in fields:
                code = _number(fields["number"], where) - part.first
                if synsets is not None:
                    code = synsets.get(code, f"synset {code}")
            yield ListedImage(name, code, where)

    def facts(self, name: str, look: ChangeTracker) -> Split:
        found, labels = self._pictures(name)
        part = self._parts[name]
        below = part.folders if part.folders is not None else part.pictures
        try:
            digests = look.digests(self._tree, [one.name for one in found], below and f"{below}/")
        except UsageError:
            listed_ones = [one for one in found if one.said_in]
            if gone := [
                f"{one.said_in}{one.name}"
                for one in listed_ones
                if not self._tree.is_file(one.name)
            ]:
                raise UsageError(
                    f"{self._tree.path} lacks {len(gone)} images that are listed:{fault_list(gone)}"
                ) from None
            raise
        # A class more in another split moves the labels of this one, so all names count.
        summary = hashlib.sha256(json.dumps(self.classes() if labels else None).encode())
        for row, one in enumerate(found):
            summary.update(
                f"{one.name}\0{digests[one.name]}\0{labels[row] if labels else ''}\n".encode()
            )
        return Split(len(found), labels is not None, summary.hexdigest())

    def images(self, name: str) -> Listing:
        found, labels = self._pictures(name)
        ids = [one.name for one in found]
        return Listing(ids, labels, partial(_read, self._tree, ids))


def read_synsets(tree: Tree, name: str) -> dict[int, str]:
    """Number -> synset of ImageNet's development kit (`meta.mat`, a table of which the first 1000 are classes)."""
    import io

    from scipy.io import loadmat

    try:
        table = loadmat(io.BytesIO(tree.read(name)), squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in table
            if int(row["num_children"]) == 0
        }
    except (
        Exception
    ) as error:  # the parser raises almost anything on bytes that make no sense to it
        what = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"{tree.path / name} is not ImageNet's meta.mat: {what}") from error


def _number(text: str, where: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{where}{text!r} is not a whole number") from error


def _read(tree: Tree, ids: list[str], row: int) -> bytes:
    return tree.read(ids[row])
