"""Suffixes of pictures: which ones this machine reads, and why it does not read the others."""

from __future__ import annotations

import os
from importlib.machinery import PathFinder
from typing import NamedTuple

# Pillow reads these in every installation.
ALWAYS_READ = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp"),
    *(".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
)


class OptionalFormat(NamedTuple):
    """A format that is read where one of some modules is installed."""

    suffixes: tuple[str, ...]
    modules: tuple[str, ...]
    package: str  # to install

    def module(self) -> str:
        """Return the installed module that reads the format; "" without one."""
        return next(filter(_is_installed, self.modules), "")


OPTIONAL_FORMATS = {
    "AVIF": OptionalFormat((".avif", ".avifs"), ("PIL._avif", "pillow_avif"), "'pillow>=11.3'"),
    "HEIC": OptionalFormat((".heic", ".heif", ".hif"), ("pillow_heif",), "pillow-heif"),
    "JPEG XL": OptionalFormat((".jxl",), ("pillow_jxl",), "pillow-jxl-plugin"),
}
_RAW = "a camera's raw data"
_DRAWING = "a drawing, not pixels"
# Suffixes of pictures that are never read -> what they are.
NEVER_READ = {
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef"), _RAW),
    **dict.fromkeys((".raw", ".srw", ".nrw", ".sr2", ".3fr", ".iiq"), _RAW),
    **dict.fromkeys((".svg", ".eps", ".ai", ".wmf", ".emf"), _DRAWING),
    **dict.fromkeys((".psd", ".psb", ".xcf"), "an image editor's document"),
    **dict.fromkeys((".exr", ".hdr", ".pfm"), "values without an upper limit"),
    **dict.fromkeys((".dcm", ".nii"), "a medical scan"),
    **dict.fromkeys((".tga", ".ico", ".pcx", ".qoi", ".xbm", ".xpm", ".sgi"), "a rare format"),
}


def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of pictures that this machine reads, in lower case."""
    optional = (each.suffixes for each in OPTIONAL_FORMATS.values() if each.module())
    return (*ALWAYS_READ, *(suffix for suffixes in optional for suffix in suffixes))


def unread_reason(name: str) -> str:
    """Return why a file with a picture's suffix is not read, with the remedy.

    Empty for a suffix that is read, and for one that is not a picture's.
    """
    suffix = os.path.splitext(name)[1].lower()
    for label, optional in OPTIONAL_FORMATS.items():
        if suffix in optional.suffixes and not optional.module():
            return f"{label}: `pip install {optional.package}` makes it readable"
    if suffix in NEVER_READ:
        return f"{NEVER_READ[suffix]}: export it as JPEG, PNG or TIFF"
    return ""


def _is_installed(module: str) -> bool:
    """Whether a module is there; it is not imported, nor is the package that it is in."""
    package, _, _ = module.partition(".")
    spec = PathFinder.find_spec(package)
    if spec is None or package == module:
        return spec is not None
    return PathFinder.find_spec(module, spec.submodule_search_locations) is not None
