"""`data:` in a pipeline file: an image set, its split, a subset of it, and how it is packed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator

from transfer.datasets.readers.member_names import nfc

SIZES = (8, 1024)  # smallest and largest side of packed images, px
MAX_PIXELS = 250_000_000  # of a picture; telephones take 200 million
# A name as it is written in a pipeline file: a class may be called 007.
WrittenName = Annotated[str, WithJsonSchema({"type": ["string", "number", "boolean", "null"]})]
PATH_HINTS = ("/", "\\", "~", ".")


@dataclass(frozen=True)
class SubsetSpec:
    """Which images of a split are kept; the fields are those of `ImageSpec`."""

    classes: list[str] | None = None
    per_class: int | float | None = None
    fraction: float | None = None
    limit: int | None = None
    seed: int = 0  # `subset_seed` of an image set


class DecodeOptions(NamedTuple):
    """How pictures are decoded; the fields are those of `ImageSpec`."""

    max_pixels: int = MAX_PIXELS
    value_range: tuple[float, float] | None = None


class ImageSpec(BaseModel):
    """The options of `data:`.

    A set is named by a card (`drawings`) or by a path: a folder of pictures, an HDF5 file of
    JPEGs, or tar shards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    card: str | None = Field(
        default=None, min_length=1, description="name of a card in data/: see `transfer list data`"
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="folder of pictures: flat, or with a folder for each class or each split",
    )
    hdf5: str | None = Field(
        default=None, min_length=1, description="HDF5 file with groups of jpeg, offsets, labels"
    )
    tar: str | None = Field(
        default=None,
        min_length=1,
        description="tar shards (WebDataset): one file, or a pattern of them",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="where the files of the card are; default: where it expects them",
    )
    split: str | dict[str, str] | None = Field(
        default=None,
        description="split to read instead of the default; for a stage that reads several, "
        "a mapping, as in {train: train_1percent, test: val}",
    )
    size: int | None = Field(
        default=None,
        ge=SIZES[0],
        le=SIZES[1],
        description="side of the packed square, px; default: that of the images if all share one, "
        "else 96",
    )
    labels: bool = Field(
        default=True, description="false: the subfolders of a folder are not classes"
    )

    classes: list[WrittenName] | None = Field(
        default=None,
        min_length=1,
        description="only images of these classes, numbered in this order",
    )
    per_class: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="number of images of each class, or the share of each (0.01: one in a hundred)",
    )
    fraction: float | None = Field(
        default=None, gt=0, lt=1, description="share of the images, whatever their class"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many images of a split")
    subset_seed: int = Field(
        default=0,
        ge=0,
        lt=2**32,
        description="seed that draws the subset; the same on every machine",
    )

    fit: Literal["crop", "stretch"] = Field(
        default="crop",
        description="crop: resize the shorter side, then cut out the center; stretch: resize both "
        "sides",
    )
    pack: Literal["auto", "raw", "jpeg"] = Field(
        default="auto",
        description="raw: pixels; jpeg: JPEG, decoded for each batch; auto: raw up to 16 GiB",
    )
    value_range: Annotated[list[int | float], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="values of images of more than 8 bits that become black and white, as in "
        "[0, 4095]; default: of 16-bit images all, 0 to 65535",
    )
    max_pixels: int = Field(
        default=MAX_PIXELS,
        ge=1,
        description="images of more pixels cannot be used; what they take in memory grows with it",
    )
    on_bad_image: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="refuse: an image that cannot be opened or decoded is an error; skip: leave "
        "it out and record it",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower().endswith((".h5", ".hdf5")):
            return {"hdf5": value}
        if value.lower().endswith((".tar", ".tar.gz", ".tgz")):
            return {"tar": value}
        return {"folder" if any(hint in value for hint in PATH_HINTS) else "card": value}

    @model_validator(mode="after")
    def _check_location(self) -> ImageSpec:
        places = [
            name for name in ("card", "folder", "hdf5", "tar") if getattr(self, name) is not None
        ]
        if len(places) != 1:
            raise ValueError(
                f"name one of card, folder, hdf5, tar; named: {' and '.join(places) or 'none'}"
            )
        if not self.labels and self.folder is None:
            raise ValueError("labels: false applies to folders only")
        if self.path is not None and self.card is None:
            raise ValueError("`path` needs a `card`: it is where the files of the card are")
        if self.value_range is not None:
            low, high = self.value_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError("value_range: name the value of black, then a higher one of white")
        if not self.labels and (self.classes or self.per_class):
            raise ValueError("labels: false leaves no labels, which `classes` and `per_class` need")
        return self

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: list[str] | None) -> list[str] | None:
        names = None if classes is None else [nfc(name) for name in classes]
        if names and (twice := [name for name, times in Counter(names).items() if times > 1]):
            raise ValueError(f"names the class '{twice[0]}' twice")
        return names

    @property
    def location(self) -> str:
        """The name of the card, or the path, as the pipeline file has it."""
        return self.card or self.folder or self.hdf5 or self.tar or ""

    def subset_spec(self) -> SubsetSpec:
        """The options that choose images of the split."""
        return SubsetSpec(self.classes, self.per_class, self.fraction, self.limit, self.subset_seed)

    def decode_options(self) -> DecodeOptions:
        """The options that decode its pictures."""
        if self.value_range is None:
            return DecodeOptions(self.max_pixels)
        low, high = self.value_range
        return DecodeOptions(self.max_pixels, (low, high))
