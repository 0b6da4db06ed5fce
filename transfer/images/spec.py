"""`data:` in a pipeline file: which image set, which split of it, how it is packed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

SIZES = (8, 1024)  # smallest and largest side of packed images, px
PATH_HINTS = ("/", "\\", "~", ".")


class ImageSpec(BaseModel):
    """A card (`drawings`), or a path: a folder of pictures, or an HDF5 file of JPEGs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    card: str | None = Field(None, min_length=1, description="name of a card in data/: see `transfer list data`")
    folder: str | None = Field(
        None, min_length=1, description="folder of pictures: flat, or a folder a class, or a folder a split"
    )
    hdf5: str | None = Field(None, min_length=1, description="HDF5 file with groups of jpeg, offsets, labels")
    split: str | None = Field(None, description="split to read instead of the one the stage looks for")
    size: int | None = Field(
        None,
        ge=SIZES[0],
        le=SIZES[1],
        description="side of the packed square, px; the set's own where all its images have one size, else 96",
    )
    limit: int | None = Field(None, ge=1, description="at most this many images of a split, drawn alike everywhere")
    labels: bool = Field(True, description="false: a folder's subfolders are not classes")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower().endswith((".h5", ".hdf5")):
            return {"hdf5": value}
        return {"folder" if any(hint in value for hint in PATH_HINTS) else "card": value}

    @model_validator(mode="after")
    def _one_place(self) -> ImageSpec:
        places = [name for name in ("card", "folder", "hdf5") if getattr(self, name) is not None]
        if len(places) != 1:
            raise ValueError(f"name one of card, folder, hdf5 (found {' and '.join(places) or 'none'})")
        if self.hdf5 is not None and not self.labels:
            raise ValueError("labels: false is for folders")
        return self

    @property
    def place(self) -> str:
        """The card's name or the path: what a person calls the set."""
        return self.card or self.folder or self.hdf5 or ""
