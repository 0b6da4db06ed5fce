"""What a card may say of the files of its set: one model a reader. All names are relative to the set's place."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class CardSection(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _several(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class CodeList(CardSection):
    """A text file that lists the classes, in the order of their labels (or with their numbers)."""

    list: str = Field(description="text file, one class a line")
    line: str = Field(
        "{class}", description="what a line looks like: {class}, {number}, {name}, {_} for the rest"
    )


class Part(CardSection):
    """One way in which the images of a split may lie."""

    folders: str | None = Field(
        None, description="a folder with a folder of pictures for each class"
    )
    pictures: str | None = Field(None, description="a folder of pictures without labels")
    list: str | None = Field(None, description="a text file that names the images, one a line")

    line: str = Field(
        "{image}", description="a line of `list`: {image}, {class}, {number}, any other name, {_}"
    )
    header: bool = Field(False, description="the first line of `list` is none")
    image: str = Field(
        "{image}", description="the image's path, made of what a line holds; {row:08} counts from 1"
    )
    first: int = Field(0, description="the {number} of the first class")
    synsets: str | None = Field(
        None, description="ImageNet's meta.mat, which says what class a {number} is"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Part:
        if sum(way is not None for way in (self.folders, self.pictures, self.list)) != 1:
            raise ValueError("say one of folders, pictures, list")
        return self


FileListing = Annotated[list[Part], Field(min_length=1), BeforeValidator(_several)]


class Files(CardSection):
    """Reader `files`: pictures in a folder, a zip or a tar, described by folders or by lists."""

    roots: list[str] = Field(
        [], description="folders that the set may be unpacked to; the first that is there is used"
    )
    codes: list[str] | CodeList | None = Field(
        None,
        description="the classes as the files call them; without, those that are found, sorted",
    )
    select: bool = Field(
        False, description="images of other classes are left out, instead of refused"
    )
    words: CodeList | None = Field(None, description="names for those, where there is such a file")
    splits: dict[str, FileListing] = Field(
        min_length=1, description="split: where its images are, or several ways to look"
    )


class Block(CardSection):
    """One way in which the images of a split may lie in files of records."""

    format: Literal["raw", "idx", "pickled"] = Field(
        "raw", description="how the files are laid out"
    )
    images: list[str] = Field(min_length=1, description="files of images, end to end")
    labels: list[str] = Field(
        [], description="files of labels, where they are not in those of the images"
    )
    label_bytes: int = Field(0, ge=0, le=16, description="raw: bytes before each image")
    label_byte: int = Field(0, ge=0, description="raw: which of those is the label")
    archive: str | None = Field(
        None, description="tar, compressed or not, in which the files may still be"
    )
    keys: dict[Literal["images", "labels"], str] = Field(
        {}, description="pickled: names of the two in the file"
    )
    first: int = Field(0, description="the number of the first class")
    rows: str | None = Field(
        None, description="text file of the rows to take, a list of numbers a line"
    )
    rows_line: int = Field(0, ge=0, description="which line of it, from 0")

    @model_validator(mode="after")
    def _fits(self) -> Block:
        if self.format == "pickled" and "images" not in self.keys:
            raise ValueError("format pickled needs keys: {images: ...}")
        if self.label_bytes and self.labels:
            raise ValueError(
                "labels are either in files of their own or beside the images (label_bytes)"
            )
        if self.label_bytes and self.label_byte >= self.label_bytes:
            raise ValueError("label_byte is beyond label_bytes")
        return self


Blocks = Annotated[list[Block], Field(min_length=1), BeforeValidator(_several)]


class Records(CardSection):
    """Reader `records`: images of one size in a few large files of pixels."""

    roots: list[str] = Field([], description="folders that the set may be unpacked to")
    shape: list[int] = Field(
        min_length=2, max_length=3, description="of one image, in the order of `axes`"
    )
    axes: Literal["HW", "HWC", "CHW", "CWH"] = Field(
        description="H rows from the top, W columns, C channels"
    )
    splits: dict[str, Blocks] = Field(
        min_length=1, description="split: its files, or several ways to look"
    )

    @model_validator(mode="after")
    def _fits(self) -> Records:
        sides = dict(zip(self.axes, self.shape, strict=False))
        if (
            len(self.axes) != len(self.shape)
            or min(self.shape) < 1
            or sides.get("C", 3) not in (1, 3)
        ):
            raise ValueError("shape must have a side for each of axes, and 1 or 3 channels")
        return self


class Tar(CardSection):
    """Reader `tar`: shards of samples, files of one name and several suffixes (WebDataset)."""

    splits: dict[str, str] = Field(
        {}, description="split: its shards, as in train-{000..146}.tar or val/*.tar"
    )
    image: str | None = Field(None, description="suffix of the picture, where a sample has several")
    label: str | None = Field(
        None, description="suffix of the label's file, or json:FIELD; without: cls or json:label"
    )


class Voc(CardSection):
    """Reader `voc`: PASCAL VOC: ImageSets, JPEGImages, Annotations, SegmentationClass."""

    roots: list[str] = Field([], description="folders that the set may be unpacked to")
    splits: dict[str, str] = Field(min_length=1, description="split: its file below ImageSets")
