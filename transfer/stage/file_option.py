# pyright: strict
"""Options that name files, such as weights. Keys depend on a file's bytes, never on its path.

weights: FileOption = option(..., "weights to start from")
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, model_serializer

from transfer.errors import TransferError
from transfer.utils.files import hash_file

if TYPE_CHECKING:
    from transfer.stage.base import Stage

DIGITS = 20  # hex digits of a file's sha256, as many as in a key


class OptionFile(BaseModel):
    """A file that an option names. The key uses its digest, which is empty outside of a plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    digest: str = ""

    @model_serializer
    def _identity(self) -> str:
        return self.digest

    def verified_path(self) -> Path:
        """Return its path; TransferError if the bytes have changed since the plan was made."""
        path = Path(self.path)
        try:
            if self.digest and hash_file(path)[0][:DIGITS] != self.digest:
                raise TransferError(
                    f"{path}: has changed since this run read it; run the command again"
                )
        except OSError as error:
            raise TransferError(f"{path}: cannot be read ({error.strerror})") from error
        return path


def _from_text(value: Any) -> Any:
    if isinstance(value, OptionFile):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be the path of a file")
    return {"path": value}


if TYPE_CHECKING:
    FileOption: TypeAlias = OptionFile
else:
    FileOption = Annotated[
        OptionFile, BeforeValidator(_from_text), WithJsonSchema({"type": "string", "minLength": 1})
    ]


def option_files(stage: Stage) -> dict[str, OptionFile]:
    """Return option -> the file that it names."""
    values = {name: getattr(stage, name) for name in type(stage).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, OptionFile)}
