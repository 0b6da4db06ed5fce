"""Datasets whose images are found by folders and by lists, and what was read of them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from tests.datasets.miniature import Opened, jpegs, pixels
from transfer.datasets.cards import Card
from transfer.datasets.packed.decode import decode

TENCH, SPRINGER, CRANE, CRANE_TOO = "n01440764", "n02102040", "n02012849", "n03126707"


def labeled(dataset: Opened, split: str) -> dict[str, str]:
    """Return the name of each image's class."""
    listing = dataset.listing(split)
    assert listing.labels is not None
    return {
        name: dataset.survey.classes[label]
        for name, label in zip(listing.ids, listing.labels, strict=True)
    }


def same_bytes(dataset: Opened, split: str, written: dict[str, bytes]) -> None:
    listing = dataset.listing(split)
    for row, name in enumerate(listing.ids):
        assert listing.read(row) == written[name]
        assert np.array_equal(pixels(listing, row), decode(written[name]))


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def meta_mat(path: Path, *synsets: str) -> None:
    """Write the table of the development kit: classes first, then the synsets above them."""
    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss"]
    fields += ["num_children", "children", "wordnet_height", "num_train_images"]
    table = np.zeros((len(synsets) + 2, 1), dtype=[(name, object) for name in fields])
    for row in range(len(table)):
        wnid = synsets[row] if row < len(synsets) else f"n9999999{row}"
        above = row >= len(synsets)
        table[row, 0] = (
            row + 1,
            wnid,
            "a word, another",
            "gloss",
            2 if above else 0,
            [row],
            3 if above else 0,
            1300,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"synsets": table})


def imagenet(place: Path) -> dict[str, bytes]:
    return jpegs(
        place,
        *(f"train/{TENCH}/{TENCH}_{number}.JPEG" for number in (10026, 10043, 7)),
        *(f"train/{SPRINGER}/{SPRINGER}_{number}.JPEG" for number in (1, 99)),
    )


def own(**files: Any) -> Card:
    return Card.model_validate(
        {"name": "mine", "title": "mine", "reader": "files", "layout": "mine", "files": files}
    )
