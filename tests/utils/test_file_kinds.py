"""Kinds of files by their first bytes."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from transfer.utils.file_kinds import KINDS, file_kind, read_kind


def encoded(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, form)
    return buffer.getvalue()


def archived(form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.txt", "a")
    elif form == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
    elif form == "hdf5":
        with h5py.File(buffer, "w") as file:
            file["a"] = [1]
    elif form == "hdf5 behind a user block":
        with h5py.File(buffer, "w", userblock_size=512) as file:
            file["a"] = [1]
    else:
        np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def state_dict(form: str) -> bytes:
    weights = {"a": torch.zeros(3)}
    if form == "safetensors":
        return safetensors.torch.save(weights)
    buffer = io.BytesIO()
    torch.save(weights, buffer, _use_new_zipfile_serialization=form == "zip")
    return buffer.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
CASES = [
    *(
        (encoded(form), form.lower())
        for form in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "PDF")
    ),
    (encoded("PPM"), "pnm"),
    (encoded("ICO"), "icon"),
    (encoded("TGA"), "unknown"),
    (b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf", "avif"),
    (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "avif"),
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heic"),
    (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "heic"),
    (b"\0\0\0\x18ftypisom\0\0\2\0isommp41", "video"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "video"),
    (b"RIFF\0\0\0\0AVI LIST", "video"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "video"),
    (b"II*\0\x10\0\0\0CR\2\0", "raw"),
    (b"", "empty"),
    (b"\0" * 5000, "zeros"),
    (LFS, "git-lfs"),
    (b"/annex/objects/SHA256E-s12--aa.jpg\n", "git-annex"),
    (b"\n <!DOCTYPE html><html><body>404 not found</body></html>", "html"),
    ("<html><title>Zugriff verweigert für</title>".encode("latin-1"), "html"),
    (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "xml"),
    (b'{"error": "no such file"}', "json"),
    (b"some words in a file", "text"),
    ("größer ".encode() * 1000, "text"),
    ("größer".encode("utf-16"), "text"),
    (b"BMI: 24, all is well in this text", "text"),
    (b"ab\0\1\2\xff", "unknown"),
    (archived("zip"), "zip"),
    (archived("tar"), "tar"),
    (gzip.compress(b"a", mtime=0), "gzip"),
    (archived("hdf5"), "hdf5"),
    (archived("hdf5 behind a user block"), "hdf5"),
    (archived("numpy"), "numpy"),
    (pickle.dumps({"a": 1}), "pickle"),
    *(
        (pickle.dumps(value, protocol), "pickle")
        for value in ({"a": 1}, [1])
        for protocol in (0, 1)
    ),
    (b"}q\0\0\0\0\0\0" + b'{"a":', "safetensors"),  # a length that begins as a pickle does
    (b"(dp1\nS'a'\np2\nI1\ns.", "pickle"),  # as Python 2 writes
    (state_dict("zip"), "zip"),
    (state_dict("old"), "pickle"),
    (state_dict("safetensors"), "safetensors"),
]


# Bytes in the names of tests would hold the times in archives, which differ between workers.
IDS = [f"{kind}-{index}" for index, (_, kind) in enumerate(CASES)]


@pytest.mark.parametrize(("data", "name"), CASES, ids=IDS)
def test_the_first_bytes_show_what_a_file_is(tmp_path: Path, data: bytes, name: str) -> None:
    assert file_kind(data).name == name
    (tmp_path / "file.jpg").write_bytes(data)
    assert read_kind(tmp_path / "file.jpg") == KINDS[name]


@pytest.mark.parametrize("data", [case[0] for case in CASES], ids=IDS)
def test_any_beginning_of_a_file_has_a_kind(data: bytes) -> None:
    for length in range(min(len(data), 300)):
        assert file_kind(data[:length]).text
