"""The images that a card finds by folders or lists: their labels, and what is left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from transfer.datasets.card_schema import Part
from transfer.datasets.readers.base import MAX_CLASSES
from transfer.datasets.readers.class_codes import parse_number, read_synsets
from transfer.datasets.readers.file_tree import Tree
from transfer.datasets.readers.left_out import Entry, LeftOut, lost_classes
from transfer.datasets.readers.line_templates import LineTemplate, fill
from transfer.datasets.readers.member_names import name_fault, nfc, tidy
from transfer.errors import UsageError
from transfer.utils.formatting import fault_list, plural


class ListedImage(NamedTuple):
    """An image of a split.

    `name` is its name in the tree. `code` is the class as the files name it, its number, or None
    for an unlabeled image. `where` is the line of the list that names it, "" for a folder.
    """

    name: str
    code: str | int | None
    where: str = ""


def read_list(tree: Tree, part: Part) -> Iterator[ListedImage]:
    """Yield the images of a list; UsageError for an invalid line or a name that occurs twice."""
    assert part.list is not None
    synsets = read_synsets(tree, part.synsets) if part.synsets else None
    lines = LineTemplate(part.line, part.header).parse(tree.read(part.list), part.list)
    seen: dict[str, int] = {}
    for row, (line, fields) in enumerate(lines, 1):
        where = f"{part.list}, line {line}: "
        name = _present_name(tree, tidy(fill(part.image, {**fields, "row": row})))
        if fault := name_fault(name):
            raise UsageError(f"{tree.path}: {where}invalid name {name!r}: {fault}")
        if name in seen:
            raise UsageError(f"{tree.path}: {where}{name!r} is already in line {seen[name]}")
        seen[name] = line
        code: str | int | None = nfc(fields["class"]) if "class" in fields else None
        if "number" in fields:
            number = parse_number(fields["number"], where) - part.first
            code = number if synsets is None else synsets.get(number, f"synset {number}")
        yield ListedImage(name, code, where)


def _present_name(tree: Tree, name: str) -> str:
    """Return the name that a file has in the tree: lists may have another form of it.

    Programs for Windows write backslashes, and macOS writes accents in a form of its own.
    """
    if name.isascii() and "\\" not in name:
        return name
    slashed = tidy(name.replace("\\", "/"))
    forms = [unicodedata.normalize(form, slashed) for form in ("NFC", "NFD")]
    candidates = [form for form in (name, slashed, *forms) if not name_fault(form)]
    return next((form for form in candidates if tree.is_file(form)), name)


def labels_of(images: list[ListedImage], codes: list[str], place: Path) -> list[int]:
    """Return the label of each image; UsageError for classes that the set does not have.

    Args:
        images: the images of a split.
        codes: the classes as the files name them, in the order of the labels.
        place: the folder of the set, for messages.
    """
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
        raise UsageError(f"{place}: {count}:{fault_list(faults)}")
    return labels


def count_left_out(
    images: list[ListedImage],
    unreadable: Mapping[str, str],
    class_entries: Mapping[str, list[Entry]],
    others: list[Entry],
) -> LeftOut:
    """Return the counts of what a split leaves out, and the classes that lose all images.

    Args:
        images: the images of the split.
        unreadable: the files that cannot be read, with the reason.
        class_entries: class -> the files of its folder that are not taken.
        others: the other files that are not taken.
    """
    by_class = {code: list(entries) for code, entries in class_entries.items()}
    others, kept = list(others), set[str]()
    for image in images:
        reason = unreadable.get(image.name)
        if isinstance(image.code, str) and reason is None:
            kept.add(image.code)
        elif isinstance(image.code, str):
            by_class.setdefault(image.code, []).append((image.name, reason or ""))
        elif reason is not None:
            others.append((image.name, reason))
    entries = [entry for entries in by_class.values() for entry in entries]
    left_out = LeftOut.of([*entries, *others])
    left_out.lost_classes = lost_classes(by_class, kept)
    return left_out
