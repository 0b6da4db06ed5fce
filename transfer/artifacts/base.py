"""A finished folder in the store, and the JSON in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from transfer.errors import CorruptArtifact


class Artifact:
    """A finished folder in the store."""

    required: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _json(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)


def write_json(path: Path, value: Any) -> None:
    """Canonical JSON: the same value gives the same bytes."""
    path.write_text(
        json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def read_json(path: Path) -> Any:
    """The JSON value in `path`; Damaged where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptArtifact(path.parent, f"{path.name} cannot be read ({error})") from error
