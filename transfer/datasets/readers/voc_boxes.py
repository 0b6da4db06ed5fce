"""Boxes of an annotation file of PASCAL VOC (XML)."""

from __future__ import annotations

from typing import NamedTuple
from xml.etree import ElementTree

from transfer.datasets.readers.annotations import Boxes
from transfer.datasets.readers.member_names import nfc
from transfer.utils.lazy_imports import np

SIDES = ("xmin", "ymin", "xmax", "ymax")
MAX_CORNER = 1e6  # px


class _LabeledBox(NamedTuple):
    corners: list[float]
    label: int
    difficult: bool


def parse_boxes(data: bytes, classes: list[str]) -> Boxes:
    """Return the objects of an annotation file; ValueError explains why the file is invalid.

    The corners count from 1 in the file and from 0 in the result.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ValueError("it defines entities, which no annotation does")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"not readable XML ({error})") from error
    if root.tag != "annotation":
        raise ValueError(f"not an annotation, but <{root.tag}>")
    boxes = [_parse_object(element, classes) for element in root.iterfind("object")]
    return Boxes(
        np.array([box.corners for box in boxes], dtype=np.float32).reshape(-1, 4),
        np.array([box.label for box in boxes], dtype=np.int64),
        np.array([box.difficult for box in boxes], dtype=bool),
    )


def _parse_object(element: ElementTree.Element, classes: list[str]) -> _LabeledBox:
    name = nfc((element.findtext("name") or "").strip())
    if name not in classes:
        raise ValueError(f"an object of class '{name}', which is none of the {len(classes)}")
    try:
        corners = [float(element.findtext(f"bndbox/{side}", "")) - 1 for side in SIDES]
        difficult = int(element.findtext("difficult", "0")) != 0
    except ValueError as error:
        raise ValueError(f"an object '{name}' without a readable box") from error
    left, top, right, bottom = corners
    # Not `left > right`, which is false for NaN.
    if not (left <= right < MAX_CORNER and top <= bottom < MAX_CORNER and min(corners) >= -1):
        box = [value + 1 for value in corners]
        raise ValueError(f"an object '{name}' with the invalid box {box}")
    return _LabeledBox(corners, classes.index(name), difficult)
