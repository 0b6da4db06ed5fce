"""Cards: one YAML a known image set, in `data/` of the project or beside the user's pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transfer.errors import UsageError, nearest
from transfer.places import shipped


class Card(BaseModel):
    """What a set is, its splits and sizes, its licence, how to cite it, where its files are expected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="the word that a pipeline file uses")
    title: str = Field(description="what the set is, in a line")
    reader: Literal["drawings", "folder", "hdf5"] = Field(description="how its files are read")
    layout: str = Field(description="where its files are expected, and what they look like")
    splits: dict[str, int] = Field(default_factory=dict, description="split: number of images")
    classes: list[str] = Field(default_factory=list, description="names of the classes, in the labels' order")
    size: int | None = Field(None, ge=8, le=1024, description="side of the images in px, where all have one")
    path: str | None = Field(None, description="where the files are, relative to the card")
    licence: str = Field("as its owner states", description="what the images may be used for")
    cite: str = Field("", description="how to cite the set")


def card_files(beside: Path | None = None) -> dict[str, Path]:
    """Name -> card file: the shipped ones, and those in `data/` beside a pipeline file (or beside its folder)."""
    folders = [shipped("data")]
    if beside is not None:
        folders += [beside.parent / "data", beside / "data"]
    return {path.stem: path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.yaml"))}


def load_card(name: str, beside: Path | None = None) -> tuple[Card, Path]:
    """The card called `name` and its file; UsageError names the nearest where there is none."""
    files = card_files(beside)
    if name not in files:
        raise UsageError(f"no image set called '{name}'{nearest(name, files)} (a path needs a slash: './{name}')")
    from ruamel.yaml import YAML, YAMLError

    path = files[name]
    try:
        card = Card.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{path}: {'.'.join(map(str, first['loc'])) or 'card'}: {first['msg']}") from error
    except (YAMLError, OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable card: {' '.join(str(error).split())}") from error
    return card, path
