"""Files that options name, such as weights: found beside the pipeline file, and known by their bytes.

    weights: FileOption = option(..., "weights to start from")

A key depends on what is in such a file, never on where it lies.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_serializer

from transfer.datasets.readers.base import StampCache, settled_stamp
from transfer.errors import TransferError
from transfer.pipeline.yaml_document import FAULTY, Faults, Node, inline_yaml
from transfer.utils.files import file_stamp, hash_file

if TYPE_CHECKING:
    from transfer.stage.base import Stage

    AStage = TypeVar("AStage", bound=Stage)

DIGITS = 20  # hex digits of the sha256 that stand for a file, as many as for a key


class OptionFile(BaseModel):
    """A file that an option names; in a key, its digest stands for it. No digest: the stage is in no plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    digest: str = ""

    @model_serializer
    def _identity(self) -> str:
        return self.digest

    def verified_path(self) -> Path:
        """Where it is; TransferError if it is not the file any more that the plan was made for."""
        path = Path(self.path)
        try:
            if self.digest and _digest(path) != self.digest:
                raise TransferError(
                    f"{path} has changed since this run looked at it: run the same command again"
                )
        except OSError as error:
            raise TransferError(f"{path} cannot be read ({error.strerror})") from error
        return path


def _from_text(value: Any) -> Any:
    if isinstance(value, OptionFile):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be the path of a file")
    return {"path": value}


FileOption = Annotated[
    OptionFile, BeforeValidator(_from_text), WithJsonSchema({"type": "string", "minLength": 1})
]


def option_files(stage: Stage) -> dict[str, OptionFile]:
    """Option -> the file that it names."""
    values = {name: getattr(stage, name) for name in type(stage).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, OptionFile)}


def resolve_files(
    stage: AStage,
    node: Node,
    where: str,
    beside: Path,
    memory: Path,
    faults: Faults,
    smoke: bool = False,
) -> tuple[AStage, str]:
    """`stage` with the files that its options name found and digested, and what a person must know of it.

    FAULTY, and told, where a file cannot be read; in a smoke run what stands in for it is told instead. Paths start at
    `beside`, the pipeline file's folder; those of `--set` where the person stands. `memory` is the store's folder where
    digests are remembered, for as long as the files' stamps stay the same.
    """
    found: dict[str, Any] = {}
    notes: list[str] = []
    for name, given in option_files(stage).items():
        mark = node.mark_at((name,))
        path = Path(
            os.path.abspath((beside if mark.line else Path.cwd()) / os.path.expanduser(given.path))
        )
        try:
            found[name] = OptionFile(
                path=str(path), digest=_remembered(path, StampCache(memory / "files"))
            )
        except OSError as error:
            if not (smoke and name in stage.stand_ins and isinstance(error, FileNotFoundError)):
                faults.add(mark, f"{where}.{name}", f"{path} cannot be read ({error.strerror})")
                return FAULTY, ""
            found |= (instead := stage.stand_ins[name])
            told = ", ".join(
                f"`{option}: {inline_yaml(value)}`" for option, value in instead.items() if value
            )
            notes.append(f"{told} stands in for {path}, which is not there")
    return stage.model_copy(update=found) if found else stage, "; ".join(notes)


def _remembered(path: Path, memory: StampCache) -> str:
    now, known = file_stamp(path), memory.recall(path)
    if known.get("stamp") != now:
        known = {"stamp": settled_stamp(now), "digest": _digest(path)}
        memory.keep(path, known)
    return known["digest"]


def _digest(path: Path) -> str:
    return hash_file(path)[0][:DIGITS]
