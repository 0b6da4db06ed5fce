"""What is recorded of an artifact: what it was made of and by, and the checksums of its files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.errors import CorruptArtifact
from transfer.utils.files import hash_file

MANIFEST = "manifest.json"
KEY_LENGTH = 20  # hex digits of the sha256 that name a folder


def key_for(identity: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of what an artifact is made of."""
    text = json.dumps(
        identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:KEY_LENGTH]


@dataclass(frozen=True)
class Manifest:
    """What is recorded beside an artifact's files."""

    stage: str
    key: str
    produces: str
    identity: dict[str, Any]
    inputs: dict[str, dict[str, str]]  # name -> key and digest of what was read
    files: dict[str, dict[str, Any]]  # name -> size and sha256
    figures: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    source: str  # sha256 of the stage's source file, told but not part of the key

    @property
    def digest(self) -> str:
        """One number for all bytes of the artifact."""
        return hashlib.sha256(
            "".join(f"{n}\0{self.files[n]['sha256']}\n" for n in sorted(self.files)).encode()
        ).hexdigest()

    @property
    def bytes(self) -> int:
        return sum(file["size"] for file in self.files.values())

    def dump(self) -> str:
        """JSON with a checksum of its own, so that a flipped byte in it is noticed too."""
        body = self.__dict__
        return (
            json.dumps(
                {"checksum": _checksum(body), **body}, indent=1, sort_keys=True, ensure_ascii=False
            )
            + "\n"
        )

    def done_text(self, label: str) -> str:
        """The lines that a person sees when the stage is done."""
        figures = ", ".join(numbers(self.figures))
        notes = "".join(f"\n  {note}" for note in self.figures.get("notes", []))
        return (
            f"{label}: done in {self.seconds:.1f} s" + (f" ({figures})" if figures else "") + notes
        )

    @staticmethod
    def read(folder: Path) -> Manifest:
        """The manifest in `folder`; Damaged where it is not what was written."""
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
    return hashlib.sha256(
        json.dumps(body, sort_keys=True, ensure_ascii=False).encode("utf-8")
    ).hexdigest()


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> size and sha256 of every file below `folder`."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest, size = hash_file(path)
        files[path.relative_to(folder).as_posix()] = {"sha256": digest, "size": size}
    return files


def numbers(figures: dict[str, Any], between: str = " ") -> list[str]:
    """Each figure with its name; notes are none."""
    return [f"{name}{between}{number(value)}" for name, value in figures.items() if name != "notes"]


def number(value: Any) -> str:
    """A figure as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
