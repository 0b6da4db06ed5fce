"""`data:` in a pipeline file: which image set, which split and which images of it, how they are packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SIZES = (8, 1024)  # smallest and largest side of packed images, px
PATH_HINTS = ("/", "\\", "~", ".")


@dataclass(frozen=True)
class SubsetSpec:
    """Which images of a split are kept; the fields are those of `ImageSpec`."""

    classes: list[str] | None = None
    per_class: int | float | None = None
    fraction: float | None = None
    limit: int | None = None
    seed: int = 0  # `subset_seed` of an image set


class ImageSpec(BaseModel):
    """A card (`drawings`), or a path: a folder of pictures, or an HDF5 file of JPEGs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    card: str | None = Field(
        None, min_length=1, description="name of a card in data/: see `transfer list data`"
    )
    folder: str | None = Field(
        None,
        min_length=1,
        description="folder of pictures: flat, or a folder a class, or a folder a split",
    )
    hdf5: str | None = Field(
        None, min_length=1, description="HDF5 file with groups of jpeg, offsets, labels"
    )
    tar: str | None = Field(
        None, min_length=1, description="tar shards (WebDataset): one file, or a pattern of them"
    )
    path: str | None = Field(
        None, min_length=1, description="where a card's files are, if not where it expects them"
    )
    split: str | dict[str, str] | None = Field(
        None,
        description="split to read instead of the one the stage looks for; for a stage that reads several, which for "
        "which, as in {train: train_1percent, test: val}",
    )
    size: int | None = Field(
        None,
        ge=SIZES[0],
        le=SIZES[1],
        description="side of the packed square, px; the set's own where all its images have one size, else 96",
    )
    labels: bool = Field(True, description="false: a folder's subfolders are not classes")

    classes: list[str] | None = Field(
        None, min_length=1, description="only images of these classes, numbered anew"
    )
    per_class: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="so many images of each class, or such a share of each (0.01: one in a hundred)",
    )
    fraction: float | None = Field(
        None, gt=0, lt=1, description="such a share of the images, whatever their class"
    )
    limit: int | None = Field(None, ge=1, description="at most this many images of a split")
    subset_seed: int = Field(
        0, ge=0, lt=2**32, description="draws the images that are kept; alike on every machine"
    )

    fit: Literal["crop", "stretch"] = Field(
        "crop",
        description="crop: the shorter side is resized, then the center cut out; stretch: the whole, squeezed",
    )
    pack: Literal["auto", "raw", "jpeg"] = Field(
        "auto",
        description="raw pixels, or JPEG that is decoded for each batch; auto: raw up to 16 GiB",
    )
    on_bad_image: Literal["refuse", "skip"] = Field(
        "refuse",
        description="what is done with a set of which an image cannot be decoded; skip: go on and record it",
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
    def _one_place(self) -> ImageSpec:
        places = [
            name for name in ("card", "folder", "hdf5", "tar") if getattr(self, name) is not None
        ]
        if len(places) != 1:
            raise ValueError(
                f"name one of card, folder, hdf5, tar (found {' and '.join(places) or 'none'})"
            )
        if not self.labels and self.folder is None:
            raise ValueError("labels: false is for folders")
        if self.path is not None and self.card is None:
            raise ValueError("`path` says where a card's files are: name the `card`")
        if not self.labels and (self.classes or self.per_class):
            raise ValueError("labels: false leaves no classes to choose from")
        return self

    @property
    def location(self) -> str:
        """The card's name or the path: what a person calls the set."""
        return self.card or self.folder or self.hdf5 or self.tar or ""

    def subset_spec(self) -> SubsetSpec:
        """The options that choose images of the split."""
        return SubsetSpec(self.classes, self.per_class, self.fraction, self.limit, self.subset_seed)
