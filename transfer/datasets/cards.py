"""Cards: one YAML file for each known image set.

Cards are shipped in `data/` of the project; others may be in `data/` beside a pipeline file.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from transfer.datasets.card_schema import Files, Records, Tar, Voc
from transfer.datasets.readers.member_names import nfc
from transfer.errors import UsageError, did_you_mean
from transfer.stage.renamed_options import renamed_option
from transfer.utils.paths import shipped_folder

FORMS = ("", ".zip", ".tar", ".h5")  # suffixes of a set: a folder, an archive, an HDF5 file
YAML_TAG = "tag:yaml.org,2002:"
INSTRUCTED = ("files", "records", "voc")  # readers that need a section of the card


class Card(BaseModel):
    """A description of an image set: splits, sizes, license, citation, and where its files are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name in a pipeline file; also the name of the card's file")
    title: str = Field(description="the set in one line")
    reader: Literal["drawings", "folder", "hdf5", "tar", "files", "records", "voc"] = Field(
        description="how its files are read"
    )
    layout: str = Field(
        description="where its files are expected, and in which format; {path} is their folder"
    )
    splits: dict[str, int] = Field(default_factory=dict, description="split: number of images")
    classes: list[str] = Field(
        default_factory=list, description="names of the classes, in the order of the labels"
    )
    size: int | None = Field(
        default=None, ge=8, le=1024, description="side of the images in px, if all share one"
    )
    path: str | None = Field(
        default=None,
        description="where the files are, relative to the card; default: the card's name",
    )
    fetch: str | None = Field(default=None, description="command that downloads the set to {path}")
    license: str = Field(
        default="as its owner states", description="what the images may be used for"
    )
    cite: str = Field(default="", description="how to cite the set")

    files: Files | None = Field(
        default=None, description="for reader files: how folders and lists describe the set"
    )
    records: Records | None = Field(
        default=None, description="for reader records: the format of the files of pixels"
    )
    tar: Tar | None = Field(default=None, description="for reader tar: the shards of each split")
    voc: Voc | None = Field(default=None, description="for reader voc: the splits")

    @field_validator("classes")
    @classmethod
    def _in_one_form(cls, classes: list[str]) -> list[str]:
        return [nfc(name) for name in classes]

    @model_validator(mode="after")
    def _check_sections(self) -> Card:
        for reader in (*INSTRUCTED, "tar"):
            has_section = getattr(self, reader) is not None
            if has_section and reader != self.reader:
                raise ValueError(
                    f"`{reader}` is for reader: {reader}, but this card has reader: {self.reader}"
                )
            if not has_section and reader == self.reader and reader in INSTRUCTED:
                raise ValueError(
                    f"reader: {reader} needs a section `{reader}:` that describes each split"
                )
        return self

    @property
    def is_layout(self) -> bool:
        """Whether the card describes a layout for any set, not one set."""
        return self.name == self.reader != "drawings"

    def described(self, file: Path, place: Path) -> dict[str, Any]:
        """Return the facts of the card for display, without the sections of the readers.

        Args:
            file: the card's file.
            place: where the files of the set are or should be, which replaces {path}.
        """
        facts = self.model_dump(exclude={"files", "records", "tar", "voc", "path"})
        if self.is_layout or self.reader == "drawings":
            return {**facts, "card": str(file)}
        for key in ("layout", "fetch"):
            facts[key] = facts[key] and _fill_path(facts[key], place)
        return {**facts, "card": str(file), "place": str(place), "there": place.exists()}

    def absent(self, place: Path, what: str) -> str:
        """Return the message for missing files.

        Args:
            place: where the files of the set should be.
            what: the first line, which names what is missing.
        """
        lines = [
            what,
            *([f"To fetch it: {self.fetch}"] if self.fetch else []),
            "Expected files:",
            *(f"  {line}" for line in self.layout.strip().splitlines()),
            f"If they are elsewhere, write `data: {{card: {self.name}, path: PLACE}}`, "
            "or set TRANSFER_DATA.",
        ]
        return _fill_path("\n".join(lines), place)


def _fill_path(text: str, place: Path) -> str:
    return text.replace("{path}", shlex.quote(str(place)))


def _card_folders(base_dir: Path | None) -> list[Path]:
    """Return the folders of cards, of which a later one takes precedence.

    These are the shipped ones, and `data/` beside the folder of a pipeline file or in it.
    """
    if base_dir is None:
        return [shipped_folder("data")]
    return [shipped_folder("data"), base_dir.parent / "data", base_dir / "data"]


def card_files(base_dir: Path | None = None) -> dict[str, Path]:
    """Return the file of each card: the shipped ones, and those beside a pipeline file.

    `base_dir` is the folder of the pipeline file.
    """
    folders = [folder for folder in _card_folders(base_dir) if folder.is_dir()]
    return {
        path.stem: path
        for folder in folders
        for path in sorted(folder.glob("*.yaml"))
        if not path.name.startswith(".")  # macOS writes ._NAME.yaml beside NAME.yaml
    }


def load_card(name: str, base_dir: Path | None = None) -> tuple[Card, Path]:
    """Return the card called `name` and its file; UsageError with the nearest name if unknown."""
    files = card_files(base_dir)
    if name not in files:
        raise UsageError(
            f"no image set called '{name}'{did_you_mean(name, files)} "
            f"(a path needs a slash: './{name}')"
        )
    for folder in _card_folders(base_dir):
        other = folder / f"{name}.yaml"
        if other.is_file() and not _same_card(other, files[name]):
            raise UsageError(
                f"two cards are called '{name}': {other} and {files[name]}; rename one of them"
            )
    return read_card(files[name]), files[name]


def _same_card(file: Path, other: Path) -> bool:
    """Whether two files are one card, such as those of two installations."""
    try:
        return file.samefile(other) or file.read_bytes() == other.read_bytes()
    except OSError:
        return False


def read_card(path: Path) -> Card:
    """Return the card in a file; UsageError with its first fault if it is invalid."""
    from ruamel.yaml import YAML, YAMLError

    try:
        yaml = YAML(typ="safe", pure=True)
        root = yaml.compose(path.read_text(encoding="utf-8"))
        _read_names_as_written(root)
        card = Card.model_validate(yaml.constructor.construct_document(root) if root else None)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_fault(error)}") from error
    except (YAMLError, OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable card: {' '.join(str(error).split())}") from error
    if card.name != path.stem:
        raise UsageError(
            f"{path}: `name` is '{card.name}' but must equal the file name, '{path.stem}'"
        )
    return card


def _read_names_as_written(node: Any) -> None:
    """Make the classes in a card's document texts: the folder of the class 007 is called `007`."""
    if str(node and node.tag) != f"{YAML_TAG}map":
        return
    for key, value in node.value:
        _read_names_as_written(value)
        if key.value in ("classes", "codes") and str(value.tag) == f"{YAML_TAG}seq":
            for entry in value.value:
                if isinstance(entry.value, str) and entry.value:
                    entry.tag = f"{YAML_TAG}str"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    where = ".".join(map(str, fault["loc"])) or "card"
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
    if len(fault["loc"]) > 1:
        return f"{where}: no such key"
    if present := renamed_option(where, Card.model_fields):
        return f"`{where}` is called `{present}`"
    return f"{where}: no such key{did_you_mean(where, Card.model_fields)}"


def find_place(card: Card, file: Path, base_dir: Path | None = None) -> Path:
    """Return where the files of a card are: the first candidate that exists.

    Candidates are `TRANSFER_DATA`/NAME, NAME beside the card, and data/NAME beside the pipeline
    file or its folder. NAME is `path:` of the card, or its name. A set may also be one file,
    NAME.zip, NAME.tar or NAME.h5. If no candidate exists, the first is where the set should be.

    Args:
        card: the card.
        file: the card's file.
        base_dir: the folder of the pipeline file.
    """
    name = os.path.expanduser(card.path or card.name)
    shipped = shipped_folder("data")
    is_installed = file.parent == shipped and shipped.parent.name == "shipped"
    parents: list[Path] = []
    if os.environ.get("TRANSFER_DATA"):
        parents.append(Path(os.environ["TRANSFER_DATA"]).expanduser())
    if not is_installed:  # an installed package is not a folder for data
        parents.append(file.parent)
    if base_dir is not None:
        here, above = base_dir / "data", base_dir.parent / "data"
        parents += [above, here] if base_dir.name == "pipelines" else [here, above]
    places = [Path(os.path.abspath(parent / name)) for parent in parents or [Path("data")]]
    for place in places:
        for form in FORMS:
            if (candidate := Path(f"{place}{form}")).exists():
                return candidate
    return places[0]
