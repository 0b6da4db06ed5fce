from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from transfer.artifacts import Images
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.pack_stage import Pack
from transfer.datasets.spec import ImageSpec
from transfer.stage.context import StageContext, StopFlag
from transfer.utils.runtime import Runtime


def picture(number: int = 0, width: int = 24, height: int = 20) -> Image.Image:
    """Return a smooth color image, different for each number."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def fill(folder: Path, *names: str) -> Path:
    """Write a PNG image under each name, whatever its suffix, and return the folder."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(number)))
    return folder


def write_h5(path: Path, **splits: dict[str, Any]) -> Path:
    """Write an HDF5 image set: datasets for each split, and the file's `attributes`."""
    with h5py.File(path, "w") as file:
        for name, value in splits.pop("attributes", {}).items():
            file.attrs[name] = value
        for split, datasets in splits.items():
            group = file.create_group(split)
            for name, values in datasets.items():
                group.create_dataset(name, data=values)
    return path


def split_of(count: int, first: int = 0) -> dict[str, Any]:
    """Return the datasets of a valid split."""
    encoded = [encode(picture(first + number), "JPEG") for number in range(count)]
    return {
        "jpeg": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "offsets": np.cumsum([0, *map(len, encoded)]),
        "labels": np.arange(count) % 2,
    }


@pytest.fixture
def sets(tmp_path: Path) -> Callable[[], ImageSets]:
    """Return the image sets of a new command; all share a memory."""
    return lambda: ImageSets(tmp_path / "memory", tmp_path)


@pytest.fixture
def plan(sets: Callable[[], ImageSets]) -> Callable[..., Pack]:
    """Return the stage that packs a set: `plan(folder=..., size=16)`."""

    def make(split: str = "unlabeled", **spec: Any) -> Pack:
        spec = {
            name: str(value) if isinstance(value, Path) else value for name, value in spec.items()
        }
        return sets().pack(ImageSpec(**{"size": 16, **spec}), split, labeled=False)

    return make


@pytest.fixture
def work(tmp_path: Path) -> Callable[..., StageContext]:
    """Return the context of a stage; the same name has the same checkpoints."""

    def make(name: str = "pack") -> StageContext:
        folder, checkpoints = tmp_path / "built" / name, tmp_path / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
        return StageContext(
            folder,
            checkpoints,
            {},
            {},
            Runtime("cpu", save_every=0.0),
            seed=0,
            stop=StopFlag(),
            quiet=True,
        )

    return make


@pytest.fixture
def packed(work: Callable[..., StageContext]) -> Callable[..., Images]:
    """Run a packing stage and open its result."""

    def run(pack: Pack, name: str = "pack") -> Images:
        job = work(name)
        pack.run(job)
        return Images(job.folder)

    return run


needs_user = pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")


@pytest.fixture
def few_images_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let probes be planned for sets of a handful of images."""
    monkeypatch.setattr("stages.evaluate._label_checks.MIN_IMAGES", 1)
