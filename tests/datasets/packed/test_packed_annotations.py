"""Annotations of packed images, also of subsets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo

from tests.datasets.conftest import encode, picture
from tests.datasets.miniature import opened
from tests.datasets.readers.voc_files import mask, voc
from transfer.artifacts import Images
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.packed.packed_annotations import PackedAnnotations, has_annotations


@pytest.mark.parametrize("split", ["train", "val", "train_seg"])
@pytest.mark.parametrize("limit", [1, 2])
def test_what_the_files_say_of_an_image_is_found_beside_its_pixels(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images], split: str, limit: int
) -> None:
    voc(tmp_path / "voc" / "VOCdevkit" / "VOC2007")
    images = packed(plan(card="voc2007", path=tmp_path / "voc", split=split, limit=limit))
    listing = opened("voc2007", tmp_path / "voc").source.listing(split)
    assert has_annotations(images)
    assert len(images.classes) == 20
    annotations = PackedAnnotations(images)
    assert listing.annotations is not None
    for row, name in enumerate(images.ids):
        original = listing.ids.index(name)
        assert annotations.targets[row].tolist() == listing.annotations.targets[original].tolist()
        assert annotations.sizes[row].tolist() == [24, 20]
        for mine, theirs in zip(
            annotations.boxes(row), listing.annotations.boxes(original), strict=True
        ):
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)
        mask = listing.annotations.mask(original)
        packed_mask = annotations.mask(row)
        assert (packed_mask is None) == (mask is None)
        if packed_mask is not None:
            assert set(np.unique(packed_mask)) == {0, 9, 255}


def test_other_sets_have_none(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    assert not has_annotations(packed(plan(card="drawings", size=16, limit=3)))


def test_large_texts_in_pictures_and_masks_are_no_fault(
    tmp_path: Path, plan: Callable[..., Pack], packed: Callable[..., Images]
) -> None:
    voc(tmp_path / "voc" / "VOCdevkit" / "VOC2007")
    folder = tmp_path / "voc/VOCdevkit/VOC2007"
    info = PngInfo()
    info.add_text("history", "step " * 300_000, zip=True)
    (folder / "JPEGImages/000005.jpg").write_bytes(encode(picture(), "PNG", pnginfo=info))
    (folder / "SegmentationClass/000005.png").write_bytes(encode(mask(), pnginfo=info))
    images = packed(plan(card="voc2007", path=tmp_path / "voc", split="train_seg"))
    annotations = PackedAnnotations(images)
    assert annotations.sizes.tolist() == [[24, 20]]
    packed_mask = annotations.mask(0)
    assert packed_mask is not None
    assert np.array_equal(packed_mask, np.asarray(mask()))
