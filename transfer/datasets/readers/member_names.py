"""Names of files in a dataset: which are images, and which would lead out of the dataset."""

from __future__ import annotations

import os
import re
import unicodedata

from transfer.datasets.readers.picture_suffixes import readable_suffixes

SUFFIXES = readable_suffixes()

# Folders and files that operating systems, NAS devices and Python put beside pictures.
SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
        *("@tmp", "@sharebin", "@downloadstation", "_gsdata_", "recycle bin"),
        *("$recycle.bin", "recycler", "system volume information", "found.000"),
        *("__macosx", "network trash folder", "temporary items", "lost+found", "__pycache__"),
    )
)
SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))
OFFICE_LOCK, SYNOLOGY = "~$", "@synoresource"  # in names of files that describe another one
DRIVE = re.compile(r"[A-Za-z]:/")


def is_image(name: str) -> bool:
    """Whether the suffix is one that this machine reads; dots and blanks at its end are dropped."""
    return name.lower().rstrip(" .").endswith(SUFFIXES)


def is_hidden(name: str) -> bool:
    """Whether the file or a folder above it is hidden, or belongs to a system."""
    return passed_over(name) is not None


def passed_over(name: str) -> tuple[str, str] | None:
    """Return the file or the topmost folder in `name` that is passed over, and the reason."""
    parts = name.split("/")
    for depth, part in enumerate(parts):
        if reason := system_reason(part, is_folder=depth < len(parts) - 1):
            return "/".join(parts[: depth + 1]), reason
    return None


def system_reason(part: str, is_folder: bool) -> str:
    """Return why a file or folder of this name is passed over; "" where it is not."""
    kind = "folder" if is_folder else "file"
    if part.startswith("."):
        return f"hidden {kind}"
    name = part.lower()
    is_system = name in (SYSTEM_FOLDERS if is_folder else SYSTEM_FILES)
    if not is_folder:
        is_system = is_system or name.startswith(OFFICE_LOCK) or SYNOLOGY in name
    return f"system {kind}" if is_system else ""


def nfc(name: str) -> str:
    """Return a name of a class in Unicode's composed form: macOS writes the other form."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


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
    if DRIVE.match(name):
        return "its path is absolute"
    if ".." in name.replace(os.sep, "/").split("/"):
        return "its path leads out of the set"
    return ""


def not_utf8(name: str) -> bool:
    """Whether the name holds bytes of a file system or an archive that are not UTF-8."""
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)
