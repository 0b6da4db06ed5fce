"""The manifest of an artifact: what it was made from, how, and the checksums of its files."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.utils.files import hash_file
from transfer.utils.formatting import figure_texts

MANIFEST = "manifest.json"
KEY_LENGTH = 20  # hex digits of the sha256 that name a folder
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


def key_for(identity: dict[str, Any]) -> str:
    """Return the shortened sha256 of the canonical JSON of an artifact's identity."""
    text = json.dumps(
        identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Manifest:
    """The record beside an artifact's files."""

    stage: str
    key: str
    produces: str
    identity: dict[str, Any]
    inputs: dict[str, dict[str, str]]  # name -> key, digest and stage
    files: dict[str, dict[str, Any]]  # name -> size and sha256
    figures: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    source: str  # digest of the stage's code: a change gives a note, and is no part of the key
    notes: list[str] = field(default_factory=list)  # notes for the user about the result

    @property
    def digest(self) -> str:
        """The digest of all bytes of the artifact."""
        lines = (f"{name}\0{self.files[name]['sha256']}\n" for name in sorted(self.files))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(file["size"] for file in self.files.values())

    def dump(self) -> str:
        """Return the JSON with its own checksum, which detects a flipped byte."""
        body = {"checksum": _checksum(self.__dict__), **self.__dict__}
        return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def done_text(self, label: str) -> str:
        """Return the lines that a run prints when the stage is done."""
        figures = ", ".join(figure_texts(self.figures))
        notes = "".join(f"\n  {note}" for note in self.notes)
        return (
            f"{label}: done in {self.seconds:.1f} s" + (f" ({figures})" if figures else "") + notes
        )

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read the manifest in `folder`; CorruptArtifact if it is unreadable or was changed."""
        try:
            body = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            checksum = body.pop("checksum")
            manifest = Manifest(**body)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptArtifact(folder, f"{MANIFEST} cannot be read ({error})") from error
        if checksum != _checksum(body):
            raise CorruptArtifact(folder, f"{MANIFEST} does not match its own checksum")
        return manifest


def _checksum(body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Map the name of every file below `folder` to its size and sha256."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest, size = hash_file(path)
        files[path.relative_to(folder).as_posix()] = {"sha256": digest, "size": size}
    return files
