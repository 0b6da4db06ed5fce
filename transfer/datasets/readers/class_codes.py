"""Classes as a dataset's files name them (codes), and the names to show for them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence

from transfer.datasets.card_schema import CodeList
from transfer.datasets.readers.file_tree import Tree
from transfer.datasets.readers.line_templates import LineTemplate
from transfer.datasets.readers.member_names import nfc
from transfer.datasets.readers.read_errors import report_errors
from transfer.errors import UsageError


def listed_codes(tree: Tree, code_list: CodeList) -> list[str]:
    """Return the codes of a text file in the order of its lines, or of the numbers in them."""
    if not tree.is_file(code_list.list):
        raise UsageError(f"{tree.path} has no {code_list.list}, the list of its classes")
    lines = LineTemplate(code_list.line).parse(tree.read(code_list.list), code_list.list)
    rows = [fields for _, fields in lines]
    if not rows or "number" not in rows[0]:
        return [nfc(fields["class"]) for fields in rows]
    numbered = sorted(
        (parse_number(fields["number"], f"{code_list.list}: "), nfc(fields["class"]))
        for fields in rows
    )
    if [number for number, _ in numbered] != list(range(len(numbered))):
        raise UsageError(
            f"{tree.path / code_list.list} does not number its classes from 0 without gaps"
        )
    return [code for _, code in numbered]


def class_names(tree: Tree, codes: Sequence[str], words: CodeList | None) -> list[str]:
    """Return the name of each code from the list `words`, or the code where it has none.

    A name that several codes share is followed by the code.
    """
    if words is None or not tree.is_file(words.list):
        return list(codes)
    lines = LineTemplate(words.line).parse(tree.read(words.list), words.list)
    name_of = {nfc(fields["class"]): nfc(fields["name"].partition(",")[0]) for _, fields in lines}
    names = [name_of.get(code, code) for code in codes]
    times = Counter(names)
    return [
        f"{name} ({code})" if times[name] > 1 else name
        for name, code in zip(names, codes, strict=True)
    ]


def read_synsets(tree: Tree, name: str) -> dict[int, str]:
    """Return the synset (WordNet ID) of each class number of ImageNet's development kit.

    The kit's `meta.mat` also lists the synsets above the 1000 classes; those have children.
    """
    from scipy.io import loadmat

    # On damaged bytes the parser raises errors of almost any type.
    with report_errors(tree.path / name, "not ImageNet's meta.mat", Exception):
        table = loadmat(io.BytesIO(tree.read(name)), squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in table
            if int(row["num_children"]) == 0
        }


def parse_number(text: str, where: str) -> int:
    """Return a whole number; UsageError begins with `where` and names the text."""
    try:
        return int(text)
    except ValueError as error:
        raise UsageError(f"{where}{text!r} is not a whole number") from error
