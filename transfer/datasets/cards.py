"""Cards: one YAML a known image set, in `data/` of the project or beside the user's pipeline file."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transfer.datasets.card_schema import Files, Records, Tar, Voc
from transfer.errors import UsageError, did_you_mean
from transfer.utils.paths import shipped_folder

FORMS = ("", ".zip", ".tar", ".h5")  # what a set may be kept as: a folder, an archive, an HDF5 file
INSTRUCTED = ("files", "records", "voc")  # readers that know nothing without a card


class Card(BaseModel):
    """What a set is, its splits and sizes, its license, how to cite it, where its files are expected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        description="the word that a pipeline file uses; the card's file bears it too"
    )
    title: str = Field(description="what the set is, in a line")
    reader: Literal["drawings", "folder", "hdf5", "tar", "files", "records", "voc"] = Field(
        description="how its files are read"
    )
    layout: str = Field(
        description="where its files are expected, and what they look like; {path} is that place"
    )
    splits: dict[str, int] = Field(default_factory=dict, description="split: number of images")
    classes: list[str] = Field(
        default_factory=list, description="names of the classes, in the labels' order"
    )
    size: int | None = Field(
        None, ge=8, le=1024, description="side of the images in px, where all have one"
    )
    path: str | None = Field(
        None, description="where the files are, relative to the card; without, the card's name"
    )
    fetch: str | None = Field(None, description="command that downloads the set to {path}")
    license: str = Field("as its owner states", description="what the images may be used for")
    cite: str = Field("", description="how to cite the set")

    files: Files | None = Field(
        None, description="for reader files: how folders and lists describe the set"
    )
    records: Records | None = Field(
        None, description="for reader records: how the files of pixels are laid out"
    )
    tar: Tar | None = Field(None, description="for reader tar: which shards are which split")
    voc: Voc | None = Field(None, description="for reader voc: which splits there are")

    @model_validator(mode="after")
    def _one_recipe(self) -> Card:
        for reader in (*INSTRUCTED, "tar"):
            said = getattr(self, reader) is not None
            if said and reader != self.reader:
                raise ValueError(
                    f"`{reader}` is for reader: {reader}, and this is reader: {self.reader}"
                )
            if not said and reader == self.reader and reader in INSTRUCTED:
                raise ValueError(
                    f"reader: {reader} needs `{reader}:`, which says where each split is"
                )
        return self

    @property
    def is_layout(self) -> bool:
        """Whether the card describes a way to keep any set, instead of a set."""
        return self.name == self.reader != "drawings"

    def described(self, file: Path, place: Path) -> dict[str, Any]:
        """All that the card says to a person; the recipes say the same to the readers."""
        said = self.model_dump(exclude={"files", "records", "tar", "voc", "path"})
        if self.is_layout or self.reader == "drawings":
            return {**said, "card": str(file)}
        for key in ("layout", "fetch"):
            said[key] = said[key] and _filled(said[key], place)
        return {**said, "card": str(file), "place": str(place), "there": place.exists()}

    def absent(self, place: Path, what: str) -> str:
        """What to tell of files that are not there: what is missing, how to fetch it or what to put where."""
        lines = [
            what,
            *([f"To fetch it: {self.fetch}"] if self.fetch else []),
            "What is expected there:",
        ]
        lines += [f"  {line}" for line in self.layout.strip().splitlines()]
        lines += [
            f"If it is elsewhere, write `data: {{card: {self.name}, path: PLACE}}`, or set TRANSFER_DATA."
        ]
        return _filled("\n".join(lines), place)


def _filled(text: str, place: Path) -> str:
    return text.replace("{path}", shlex.quote(str(place)))


def _folders(beside: Path | None) -> list[Path]:
    """Where cards are: the shipped ones, and `data/` beside a pipeline file (or beside its folder)."""
    return [
        shipped_folder("data"),
        *([beside.parent / "data", beside / "data"] if beside is not None else []),
    ]


def card_files(beside: Path | None = None) -> dict[str, Path]:
    """Name -> card file: the shipped ones, and those beside a pipeline file (in the folder `beside`)."""
    found = [
        path
        for folder in _folders(beside)
        if folder.is_dir()
        for path in sorted(folder.glob("*.yaml"))
    ]
    return {path.stem: path for path in found}


def load_card(name: str, beside: Path | None = None) -> tuple[Card, Path]:
    """The card called `name` and its file; UsageError names the nearest where there is none."""
    files = card_files(beside)
    if name not in files:
        raise UsageError(
            f"no image set called '{name}'{did_you_mean(name, files)} (a path needs a slash: './{name}')"
        )
    for folder in _folders(beside):
        other = folder / f"{name}.yaml"
        if other.is_file() and not other.samefile(files[name]):
            raise UsageError(
                f"two cards are called '{name}': {other} and {files[name]}; rename one of them"
            )
    return read_card(files[name]), files[name]


def read_card(path: Path) -> Card:
    """The card in a file; UsageError says what is wrong with it."""
    from ruamel.yaml import YAML, YAMLError

    try:
        card = Card.model_validate(
            YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        )
    except ValidationError as error:
        raise UsageError(f"{path}: {_fault(error)}") from error
    except (YAMLError, OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable card: {' '.join(str(error).split())}") from error
    if card.name != path.stem:
        raise UsageError(f"{path}: name: {card.name}: a card is called as its file is: {path.stem}")
    return card


def _fault(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "card"
    if first["type"] == "extra_forbidden":
        return f"{where}: no such key{did_you_mean(where, Card.model_fields) if len(first['loc']) == 1 else ''}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def find_place(card: Card, file: Path, beside: Path | None = None) -> Path:
    """Where the files of a card are: the first place that is there of

    `TRANSFER_DATA`/NAME, NAME beside the card, data/NAME beside the pipeline file or its folder; NAME is `path:` of
    the card, or its name. A set may also be kept as NAME.zip, NAME.tar or NAME.h5. Where none is there, it is the
    place where the set should be put.
    """
    name = os.path.expanduser(card.path or card.name)
    own = shipped_folder("data")
    packaged = (
        file.parent == own and own.parent.name == "shipped"
    )  # an installed package is no place for data
    homes = (
        [Path(os.environ["TRANSFER_DATA"]).expanduser()] if os.environ.get("TRANSFER_DATA") else []
    )
    homes += [] if packaged else [file.parent]
    if beside is not None:
        here, above = beside / "data", beside.parent / "data"
        homes += [above, here] if beside.name == "pipelines" else [here, above]
    places = [Path(os.path.abspath(home / name)) for home in homes or [Path("data")]]
    for place in places:
        for form in FORMS:
            if (there := Path(f"{place}{form}")).exists():
                return there
    return places[0]
