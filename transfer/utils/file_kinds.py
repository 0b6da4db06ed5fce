"""What a file is by its first bytes, whatever its name: a picture, an archive, a web page, ..."""

from __future__ import annotations

import codecs
import struct
from pathlib import Path
from typing import NamedTuple

HEAD = 4096  # bytes that are enough to know a kind


class FileKind(NamedTuple):
    """A kind of file. `remedy` is what gives the file itself, where that is the same for all."""

    name: str
    text: str  # with its article, as in "a web page (HTML)"
    remedy: str = ""


_AGAIN = "copy or download it again"
_UNPACK = "unpack it"
UNKNOWN = FileKind("unknown", "a file of an unknown kind")
KINDS = {
    kind.name: kind
    for kind in (
        UNKNOWN,
        FileKind("empty", "an empty file", _AGAIN),
        FileKind("zeros", "a file of zeros only", _AGAIN),
        FileKind("html", "a web page (HTML)", "download the file itself"),
        FileKind("xml", "an XML text", "download the file itself"),
        FileKind("json", "a JSON text"),
        FileKind("text", "a text"),
        FileKind("git-lfs", "a Git LFS pointer", "`git lfs pull` fetches the file itself"),
        FileKind("git-annex", "a git-annex pointer", "`git annex get` fetches the file itself"),
        FileKind("macos", "a macOS resource fork (._*)", "remove it"),
        FileKind("plist", "a macOS property list", "download the file itself"),
        FileKind("jpeg", "a JPEG picture"),
        FileKind("png", "a PNG picture"),
        FileKind("webp", "a WebP picture"),
        FileKind("gif", "a GIF picture"),
        FileKind("tiff", "a TIFF picture"),
        FileKind("bmp", "a BMP picture"),
        FileKind("avif", "an AVIF picture"),
        FileKind("heic", "a HEIC picture"),
        FileKind("jpeg2000", "a JPEG 2000 picture"),
        FileKind("jxl", "a JPEG XL picture"),
        FileKind("pnm", "a PNM picture (PPM, PGM, PBM)"),
        FileKind("pfm", "a PFM picture of float values"),
        FileKind("raw", "a camera's raw picture"),
        FileKind("svg", "an SVG drawing"),
        FileKind("icon", "a Windows icon"),
        FileKind("psd", "a Photoshop document"),
        FileKind("exr", "an OpenEXR picture"),
        FileKind("dicom", "a DICOM scan"),
        FileKind("pdf", "a PDF document"),
        FileKind("postscript", "a PostScript document"),
        FileKind("office", "an office document of an old kind, or Thumbs.db"),
        FileKind("video", "a video"),
        FileKind("audio", "a sound file"),
        FileKind("zip", "a zip archive", _UNPACK),
        FileKind("gzip", "a gzip archive", _UNPACK),
        FileKind("bzip2", "a bzip2 archive", _UNPACK),
        FileKind("xz", "an xz archive", _UNPACK),
        FileKind("zstd", "a Zstandard archive", _UNPACK),
        FileKind("7z", "a 7z archive", _UNPACK),
        FileKind("rar", "a rar archive", _UNPACK),
        FileKind("tar", "a tar archive", _UNPACK),
        FileKind("hdf5", "an HDF5 file"),
        FileKind("numpy", "a NumPy array"),
        FileKind("matlab", "a MATLAB file"),
        FileKind("pickle", "a Python pickle"),
        FileKind("safetensors", "a safetensors file"),
        FileKind("program", "a program"),
        FileKind("sqlite", "an SQLite database"),
    )
}
# Offset, bytes there, and the kind; the first that agrees is taken.
_SIGNATURES = (
    (0, b"version https://git-lfs.github.com/spec/", "git-lfs"),
    (0, b"/annex/objects/", "git-annex"),
    (0, b"\0\x05\x16\x07", "macos"),
    (0, b"\0\x05\x16\0", "macos"),
    (0, b"bplist00", "plist"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"CR\x02\0", "raw"),  # Canon's CR2, which begins as a TIFF does
    (0, b"FUJIFILMCCD-RAW", "raw"),
    (0, b"IIRO", "raw"),
    (0, b"IIU\0", "raw"),
    *((0, mark, "tiff") for mark in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg2000"),
    (0, b"\xff\x0a", "jxl"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (0, b"8BPS", "psd"),
    (0, b"\x76\x2f\x31\x01", "exr"),
    (128, b"DICM", "dicom"),
    (0, b"%PDF", "pdf"),
    (0, b"%!PS", "postscript"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office"),
    *((0, mark, "video") for mark in (b"\x1aE\xdf\xa3", b"\0\0\x01\xba", b"\0\0\x01\xb3", b"FLV")),
    *((0, mark, "audio") for mark in (b"ID3", b"fLaC", b"OggS")),
    *((0, mark, "zip") for mark in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (257, b"ustar", "tar"),
    *((offset, b"\x89HDF\r\n\x1a\n", "hdf5") for offset in (0, 512, 1024, 2048)),
    (0, b"\x93NUMPY", "numpy"),
    # Pickles of protocol 0 and 1: a dict, a list, an ordered dict, torch's number.
    *((0, b"(%cp%c\n" % (kind, memo), "pickle") for kind in b"dl" for memo in b"01"),
    (0, b"ccollections\nOrderedDict\n", "pickle"),
    (0, b"L119547037146038801333356L\n.", "pickle"),
    (0, b"MATLAB 5.0 MAT-file", "matlab"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ\x90\0", "program"),
    (0, b"SQLite format 3\0", "sqlite"),
)
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # their possible lengths
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def file_kind(start: bytes) -> FileKind:
    """Return the kind of a file from its first `HEAD` bytes, or all of them; else UNKNOWN."""
    start = start[:HEAD]
    if not start:
        return KINDS["empty"]
    for offset, mark, name in _SIGNATURES:
        if start.startswith(mark, offset):
            return KINDS[name]
    return KINDS[_structured(start) or _textual(start)]


def read_kind(path: Path) -> FileKind:
    """Return the kind of a file on disk; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return file_kind(file.read(HEAD))


def _structured(start: bytes) -> str:
    """Return the name of a kind that more than fixed bytes show; "" if none does."""
    if start[4:8] == b"ftyp":
        return _media_brand(start)
    if start[:4] == b"RIFF":
        return {b"WEBP": "webp", b"AVI ": "video", b"WAVE": "audio"}.get(start[8:12], "unknown")
    if start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if start[:4] in (b"\0\0\1\0", b"\0\0\2\0") and start[4:6].strip(b"\0"):
        return "icon"
    if start[:1] == b"P" and start[2:3].isspace():
        return "pnm" if start[1:2] in b"123456" else "pfm" if start[1:2] in b"Ff" else ""
    if start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pickle"
    if len(start) > 9 and start[8:9] == b"{":
        header = struct.unpack("<Q", start[:8])[0]
        if 2 <= header <= 100 << 20 and start[9:10] in (b'"', b" ", b"}"):
            return "safetensors"
    if start[:3] in (b"}q\0", b"}q\1", b"]q\0", b"]q\1"):  # protocol 1: a dict or a list
        return "pickle"
    return "" if start.strip(b"\0") else "zeros"


def _media_brand(start: bytes) -> str:
    """Return the kind of a file of boxes (ISO base media) by the brands of its first box."""
    length = int.from_bytes(start[:4], "big")
    brands = [start[8:12], *(start[at : at + 4] for at in range(16, min(length, len(start)), 4))]
    if any(brand in (b"avif", b"avis") for brand in brands):
        return "avif"
    if brands[0] == b"crx ":
        return "raw"
    return "heic" if brands[0] in _HEIC_BRANDS else "video"


def _textual(start: bytes) -> str:
    encoding = "utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    decoder = codecs.getincrementaldecoder(encoding)  # the last character may be cut off
    try:
        text = decoder().decode(start)
        is_text = all(letter.isprintable() or letter.isspace() for letter in text)
    except UnicodeDecodeError:
        text, is_text = start.decode("latin-1"), False  # old web pages are not UTF-8
    opening = text.lstrip().lower()
    if opening.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        return "html"
    if opening.startswith(("<?xml", "<svg", "<!--", "<!doctype", "<error")):
        return "svg" if "<svg" in opening else "html" if "<html" in opening else "xml"
    if not is_text:
        return "unknown"
    return "json" if opening.startswith(("{", "[")) else "text"
