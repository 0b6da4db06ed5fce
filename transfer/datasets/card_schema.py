"""Sections of a card that describe the files of its set, one model for each reader.

All paths in them are relative to the folder of the set.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class CardSection(BaseModel):
    """Base of the sections: unknown keys are refused, and types are not converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class CodeList(CardSection):
    """A text file that lists the classes, in the order of their labels or with their numbers."""

    list: str = Field(description="text file, one class a line")
    line: str = Field(
        default="{class}",
        description="format of a line: {class}, {number}, {name}, {_} for anything else",
    )


class Part(CardSection):
    """One way in which the images of a split may be stored."""

    folders: str | None = Field(
        default=None, description="a folder with one folder of pictures for each class"
    )
    pictures: str | None = Field(default=None, description="a folder of pictures without labels")
    list: str | None = Field(
        default=None, description="a text file that names the images, one a line"
    )

    line: str = Field(
        default="{image}",
        description="format of a line of `list`: {image}, {class}, {number}, other names, {_}",
    )
    header: bool = Field(
        default=False, description="whether the first line of `list` is a header, not an image"
    )
    image: str = Field(
        default="{image}",
        description="path of the image, made of the fields of a line; {row:08} counts from 1",
    )
    first: int = Field(default=0, description="the {number} of the first class")
    synsets: str | None = Field(
        default=None, description="ImageNet's meta.mat, which maps each {number} to its class"
    )

    @model_validator(mode="after")
    def _check_one_layout(self) -> Part:
        if sum(layout is not None for layout in (self.folders, self.pictures, self.list)) != 1:
            raise ValueError("give exactly one of folders, pictures, list")
        return self


FileListing = Annotated[list[Part], Field(min_length=1), BeforeValidator(_as_list)]


class Files(CardSection):
    """Reader `files`: pictures in a folder, a zip or a tar, described by folders or by lists."""

    roots: list[str] = Field(
        default=[],
        description="folders that the set may be unpacked to; the first that exists is read",
    )
    codes: list[str] | CodeList | None = Field(
        default=None,
        description="names of the classes in the files; by default those in the files, sorted",
    )
    select: bool = Field(
        default=False, description="whether images of other classes are skipped, not refused"
    )
    words: CodeList | None = Field(
        default=None, description="file of readable names for the codes, where it exists"
    )
    splits: dict[str, FileListing] = Field(
        min_length=1, description="split: where its images are, or alternatives in order"
    )


class Block(CardSection):
    """One way in which the images of a split may be stored in files of records."""

    format: Literal["raw", "idx", "pickled"] = Field(
        default="raw", description="format of the files"
    )
    images: list[str] = Field(min_length=1, description="files of images, concatenated")
    labels: list[str] = Field(
        default=[], description="files of labels, where those of the images hold none"
    )
    label_bytes: int = Field(default=0, ge=0, le=16, description="raw: bytes before each image")
    label_byte: int = Field(default=0, ge=0, description="raw: which of those is the label")
    archive: str | None = Field(
        default=None, description="tar, compressed or not, that may hold the files"
    )
    keys: dict[Literal["images", "labels"], str] = Field(
        default={}, description="pickled: names of images and labels in the file"
    )
    first: int = Field(default=0, description="the number of the first class")
    rows: str | None = Field(
        default=None, description="text file with the rows of the split, a list of numbers a line"
    )
    rows_line: int = Field(default=0, ge=0, description="line of `rows` to read, from 0")

    @model_validator(mode="after")
    def _check_format(self) -> Block:
        if self.format == "pickled" and "images" not in self.keys:
            raise ValueError("format pickled needs keys: {images: ...}")
        if self.label_bytes and self.labels:
            raise ValueError(
                "labels are either in separate files (`labels`) or beside the images "
                "(`label_bytes`); give one of them"
            )
        if self.label_bytes and self.label_byte >= self.label_bytes:
            raise ValueError("label_byte must be below label_bytes")
        return self


Blocks = Annotated[list[Block], Field(min_length=1), BeforeValidator(_as_list)]


class Records(CardSection):
    """Reader `records`: images of one size in a few large files of pixels."""

    roots: list[str] = Field(default=[], description="folders that the set may be unpacked to")
    shape: list[int] = Field(
        min_length=2, max_length=3, description="of one image, in the order of `axes`"
    )
    axes: Literal["HW", "HWC", "CHW", "CWH"] = Field(
        description="H rows from the top, W columns, C channels"
    )
    splits: dict[str, Blocks] = Field(
        min_length=1, description="split: its files, or alternatives in order"
    )

    @model_validator(mode="after")
    def _check_shape(self) -> Records:
        sides = dict(zip(self.axes, self.shape, strict=False))
        has_every_side = len(self.axes) == len(self.shape) and min(self.shape) >= 1
        if not has_every_side or sides.get("C", 3) not in (1, 3):
            raise ValueError("shape must have a side for each letter of axes, and 1 or 3 channels")
        return self


class Tar(CardSection):
    """Reader `tar`: shards of samples, files of one name and several suffixes (WebDataset)."""

    splits: dict[str, str] = Field(
        default={}, description="split: its shards, as in train-{000..146}.tar or val/*.tar"
    )
    image: str | None = Field(
        default=None, description="suffix of the picture, where a sample has several"
    )
    label: str | None = Field(
        default=None,
        description="suffix of the file of the label, or json:FIELD; default: cls or json:label",
    )


class Voc(CardSection):
    """Reader `voc`: PASCAL VOC: ImageSets, JPEGImages, Annotations, SegmentationClass."""

    roots: list[str] = Field(default=[], description="folders that the set may be unpacked to")
    splits: dict[str, str] = Field(min_length=1, description="split: its file in ImageSets")
