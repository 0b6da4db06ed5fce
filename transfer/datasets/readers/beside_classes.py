"""What lies beside the class folders of a card, and beside its folders of splits."""

from __future__ import annotations

from collections.abc import Iterator

from transfer.datasets.card_schema import CodeList, Files
from transfer.datasets.readers.file_tree import Tree
from transfer.datasets.readers.left_out import Entry, suffix_reason
from transfer.datasets.readers.line_templates import folder_of
from transfer.datasets.readers.member_names import is_image

LOOSE = "loose image"  # for the counts


def beside_classes(tree: Tree, recipe: Files, folder: str) -> list[Entry]:
    """Return the files beside the class folders, and what the recipe does not name in the set.

    Args:
        tree: the set.
        recipe: of its card.
        folder: the folder of the class folders.
    """
    names, passed = tree.loose_files(folder)
    entries = [(name, LOOSE if is_image(name) else suffix_reason(name)) for name in names]
    if folder:
        entries += [(name, LOOSE) for name in tree.loose_files("")[0] if is_image(name)]
        tops = {place.partition("/")[0] for place in _named_places(recipe)}
        entries += [(name, "other folder") for name in tree.folders() if name not in tops]
    return [*entries, *passed]


def _named_places(recipe: Files) -> Iterator[str]:
    """Yield the files and folders that a recipe names, of every layout of every split."""
    for part in (part for parts in recipe.splits.values() for part in parts):
        places = (part.folders, part.pictures, part.list, part.synsets, folder_of(part.image))
        yield from (place for place in places if place)
    for listed in (recipe.codes, recipe.words):
        if isinstance(listed, CodeList):
            yield listed.list
