"""Zip and tar archives, valid, damaged and crafted."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.datasets.conftest import encode, picture

FILES = {
    "cat/1.png": encode(picture(1)),
    "dog/2.jpg": encode(picture(2), "JPEG"),
    "dog/ü 3.png": encode(picture(3)),
}


def write_tar(
    path: Path, files: dict[str, bytes], *members: tarfile.TarInfo, form: int = tarfile.PAX_FORMAT
) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return path


def write_zip(path: Path, files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def leads_up(path: Path) -> Path:
    return write_tar(
        path.with_suffix(".tar"), {**FILES, "../escaped.png": b"x", "a/../../b.png": b"x"}
    )


def is_absolute(path: Path) -> Path:
    return write_tar(path.with_suffix(".tar"), {**FILES, "/etc/escaped.png": b"x"})


def has_a_link(path: Path) -> Path:
    return write_tar(path.with_suffix(".tar"), FILES, link("cat/5.png", "/etc/passwd"))


def has_a_hard_link(path: Path) -> Path:
    return write_tar(
        path.with_suffix(".tar"), FILES, link("cat/5.png", "cat/1.png", tarfile.LNKTYPE)
    )


def has_a_pipe(path: Path) -> Path:
    return write_tar(path.with_suffix(".tar"), FILES, link("cat/5.png", "", tarfile.FIFOTYPE))


def has_one_twice(path: Path) -> Path:
    write_tar(path.with_suffix(".tar"), FILES)
    with tarfile.open(path.with_suffix(".tar"), "a") as archive:
        archive.addfile(tarfile.TarInfo("./cat//1.png"))
    return path.with_suffix(".tar")


def is_compressed(path: Path) -> Path:
    with tarfile.open(path.with_suffix(".tar"), "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("cat/1.png"))
    return path.with_suffix(".tar")


def is_cut(path: Path) -> Path:
    target = write_tar(path.with_suffix(".tar"), FILES)
    os.truncate(target, 1700)
    return target


def is_cut_between_files(path: Path) -> Path:
    target = write_tar(
        path.with_suffix(".tar"), {"cat/1.png": bytes([1]) * 512, "cat/2.png": bytes([1]) * 512}
    )
    os.truncate(target, 1024)
    return target


def is_two(path: Path) -> Path:
    target = write_tar(path.with_suffix(".tar"), FILES)
    target.write_bytes(target.read_bytes() * 2)
    return target


def is_no_tar(path: Path) -> Path:
    path.with_suffix(".tar").write_bytes(b"x" * 5000)
    return path.with_suffix(".tar")


def zip_leads_up(path: Path) -> Path:
    return write_zip(path.with_suffix(".zip"), {**FILES, "../../escaped.png": b"x"})


def zip_is_absolute(path: Path) -> Path:
    return write_zip(path.with_suffix(".zip"), {**FILES, "/escaped.png": b"x"})


def zip_has_a_link(path: Path) -> Path:
    target = write_zip(path.with_suffix(".zip"), FILES)
    with zipfile.ZipFile(target, "a") as archive:
        member = zipfile.ZipInfo("cat/5.png")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return target


def zip_is_packed_otherwise(path: Path) -> Path:
    return write_zip(path.with_suffix(".zip"), FILES, zipfile.ZIP_LZMA)


def zip_is_cut(path: Path) -> Path:
    target = write_zip(path.with_suffix(".zip"), FILES)
    os.truncate(target, target.stat().st_size - 60)
    return target


def zip_is_encrypted(path: Path) -> Path:
    target = write_zip(path.with_suffix(".zip"), {"1.png": b"x"})
    data = bytearray(target.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    target.write_bytes(data)
    return target


CRAFTED: dict[Callable[[Path], Path], str] = {
    leads_up: "2 files cannot be used:\n  '../escaped.png': its path leads out .*\n  'a/../../b",
    is_absolute: "'/etc/escaped.png': its path is absolute",
    has_a_link: "'cat/5.png': it is a link",
    has_a_hard_link: "'cat/5.png': it is a link",
    has_a_pipe: "'cat/5.png': it is not a plain file",
    has_one_twice: "it occurs twice",
    is_compressed: "not a readable tar archive .compressed: unpack it",
    is_cut: "not a readable tar archive ",
    is_cut_between_files: "truncated: it has no end mark",
    is_two: "two archives were joined",
    is_no_tar: "not a readable tar archive",
    zip_leads_up: "'../../escaped.png': its path leads out of the set",
    zip_is_absolute: "'/escaped.png': its path is absolute",
    zip_has_a_link: "'cat/5.png': it is a link",
    zip_is_packed_otherwise: "compressed by a method other than deflate",
    zip_is_cut: "not a readable zip archive",
    zip_is_encrypted: "it is encrypted",
}
