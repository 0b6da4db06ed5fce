"""Names of files in a dataset: which are images, and which would lead out of the dataset."""

from __future__ import annotations

import os

from transfer.datasets.readers.picture_suffixes import readable_suffixes

SUFFIXES = readable_suffixes()


def is_image(name: str) -> bool:
    """Whether the suffix is that of an image format that this machine reads."""
    return name.lower().endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether the file or a folder above it is hidden."""
    return name.startswith(".") or "/." in name


def tidy(name: str) -> str:
    """Return the name without `./` and repeated slashes."""
    return ("/" if name.startswith("/") else "") + "/".join(
        part for part in name.split("/") if part not in ("", ".")
    )


def name_fault(name: str) -> str:
    """Return why a name from a list or an archive is invalid; "" for a file below the dataset."""
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
    """Whether the name holds bytes of a file system or an archive that are not UTF-8."""
    return any("\ud800" <= character <= "\udfff" for character in name)
