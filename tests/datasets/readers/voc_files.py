"""A small dataset in the layout of PASCAL VOC."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.datasets.conftest import encode
from tests.datasets.miniature import Opened, jpegs, text
from transfer.datasets.readers.annotations import Annotations

NAMES = {"train": ["000005", "2008_000007"], "val": ["000009", "000012"]}

Box = tuple[str, float, float, float, float, int | None]

BOXES: dict[str, list[Box]] = {
    "000005": [
        ("chair", 263, 211, 324, 339, 0),
        ("chair", 5, 244, 67, 374, 1),
        ("cat", 1, 1, 500, 375, 0),
    ],
    "2008_000007": [("boat", 45.70000076293945, 12.5, 46, 13, None)],
    "000009": [("train", 10, 20, 30, 40, 1)],
    "000012": [],
}


def annotation(name: str, boxes: list[Box]) -> str:
    """Return an annotation as VOC's tool wrote it, with fields that readers do not need."""
    things = ""
    for kind, left, top, right, bottom, difficult in boxes:
        hard = "" if difficult is None else f"<difficult>{difficult}</difficult>"
        box = "<xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>"
        part = f"<part><name>head</name><bndbox>{box}</bndbox></part>"
        things += f"""
	<object>
		<name>{kind}</name>
		<pose>Rear</pose>
		<truncated>0</truncated>{hard}
		<bndbox>
			<xmin>{left}</xmin>
			<ymin>{top}</ymin>
			<xmax>{right}</xmax>
			<ymax>{bottom}</ymax>
		</bndbox>{part if kind == "cat" else ""}
	</object>"""
    return f"""<annotation>
	<folder>VOC2007</folder>
	<filename>{name}.jpg</filename>
	<owner><flickrid>?</flickrid><name>?</name></owner>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>{things}
</annotation>
"""


def mask() -> Image.Image:
    """Return class indices with a palette: a chair (9) with a border."""
    image = Image.new("P", (24, 20))
    image.putpalette([value for number in range(256) for value in (number, number // 2, 0)])
    image.paste(255, (4, 4, 12, 12))
    image.paste(9, (5, 5, 11, 11))
    return image


def presence(class_name: str, boxes: list[Box]) -> int:
    """Return -1 without the class, else 1, or 0 where the first object of it is difficult."""
    for kind, *_, difficult in boxes:
        if kind == class_name:
            return 1 - (difficult or 0)
    return -1


def voc(root: Path, lists: bool = True, classes: list[str] | None = None) -> dict[str, bytes]:
    every = [name for names in NAMES.values() for name in names]
    written = jpegs(root, *(f"JPEGImages/{name}.jpg" for name in every))
    for name in every:
        text(root / f"Annotations/{name}.xml", annotation(name, BOXES[name]))
    (root / "SegmentationClass").mkdir()
    (root / "SegmentationClass/000005.png").write_bytes(encode(mask()))
    text(root / "ImageSets/Segmentation/train.txt", "000005")
    for split, names in {**NAMES, "trainval": every}.items():
        text(root / f"ImageSets/Main/{split}.txt", *names)
        for class_name in classes or ["chair", "cat", "train"] if lists else []:
            shows = {name: presence(class_name, BOXES[name]) for name in names}
            text(
                root / f"ImageSets/Main/{class_name}_{split}.txt",
                *(f"{name} {shows[name]:2}" for name in names),
            )
    return written


def annotations_of(dataset: Opened, split: str) -> Annotations:
    listing = dataset.listing(split)
    assert listing.labels is None
    assert listing.annotations is not None
    return listing.annotations
