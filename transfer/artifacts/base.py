"""A finished folder in the store, and the JSON in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from transfer.errors import CorruptArtifact
from transfer.storage.manifest import MANIFEST, Manifest
from transfer.utils.formatting import named_figure_text
from transfer.utils.repr_tables import ReprTable

T = TypeVar("T")


class Artifact:
    """A finished folder in the store."""

    required: ClassVar[tuple[str, ...]] = ()  # its files

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)

    @property
    def figures(self) -> dict[str, Any]:
        """The figures in its manifest, such as counts; empty for a folder outside of a store."""
        return Manifest.read(self.folder).figures if (self.folder / MANIFEST).is_file() else {}

    def shown_figures(self) -> dict[str, Any]:
        """Name -> figure as a table shows it."""
        return self.figures

    def __repr__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> ReprTable:
        try:
            figures, note = self.shown_figures(), ""
        except CorruptArtifact as error:
            figures, note = {}, str(error)
        rows = [(name, named_figure_text(name, value)) for name, value in figures.items()]
        caption = f"{type(self).__name__}({str(self.folder)!r})"
        return ReprTable(caption, ("figure", "value"), rows, note)


class JsonCard:
    """Reads the fields of a JSON file with their types."""

    def __init__(self, path: Path):
        self.path, self.values = path, read_json(path)
        if not isinstance(self.values, dict):
            raise CorruptArtifact(path.parent, f"{path.name} is not a mapping")

    def field(self, name: str, kind: type[T], default: T | None = None) -> T:
        """Return the value of a field.

        CorruptArtifact if it has another type, or is missing and has no default.

        Args:
            name: the field's name.
            kind: its type.
            default: the value of a field that older files lack.
        """
        value = self.values.get(name, default)
        if value is None:
            raise CorruptArtifact(self.path.parent, f"{self.path.name} lacks `{name}`")
        if not isinstance(value, kind):
            problem = f"`{name}` is {type(value).__name__}, not {kind.__name__}"
            raise CorruptArtifact(self.path.parent, f"{self.path.name}: {problem}")
        return value


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON: equal values give equal bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`; CorruptArtifact if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptArtifact(path.parent, f"{path.name} cannot be read ({error})") from error
