"""Names inside a set: whether they stay in it, and which of them are pictures."""

from __future__ import annotations

import os

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether the file or a folder above it is hidden."""
    return name.startswith(".") or "/." in name


def tidy(name: str) -> str:
    """The name without `./` and doubled slashes."""
    return ("/" if name.startswith("/") else "") + "/".join(
        part for part in name.split("/") if part not in ("", ".")
    )


def unsafe(name: str) -> str:
    """What is wrong with a name from a list or an archive; nothing where it names a file below the set's folder."""
    if not_utf8(name):
        return "its name is not valid UTF-8"
    if not name or "\0" in name:
        return "it has no name"
    if name.startswith("/") or os.path.isabs(name) or os.path.splitdrive(name)[0]:
        return "its path is absolute"
    if ".." in name.replace(os.sep, "/").split("/"):
        return "its path leads out of the set"
    return ""


def not_utf8(name: str) -> bool:
    """Whether a file system or an archive gave bytes for the name that no text can hold."""
    return any("\ud800" <= character <= "\udfff" for character in name)
