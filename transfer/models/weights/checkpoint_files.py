"""Files that torch.save wrote: zip archives, the older stream of pickles, and plain pickles."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from transfer.models.weights.checkpoint_objects import STORAGES, CheckpointObjects, Storage
from transfer.models.weights.named_code import LeftOut
from transfer.utils.lazy_imports import torch
from transfer.utils.pickle_interpreter import Placeholder, UnsafePickle

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older form
LOCAL_HEADER = 30  # bytes of a zip member's own header, without its name

Opener = Callable[[], IO[bytes]]


def read_checkpoint(path: Path) -> tuple[Any, LeftOut]:
    """Return what a zip archive of torch.save holds, and what was left out.

    Tensors are described; their values are read later. UnsafePickle where the file is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        (index,) = [name for name in members if name.endswith("data.pkl")]
        folder = index.removesuffix("data.pkl")
        data = archive.read(index) if members[index].CRC else _member(path, members[index])()
        order = f"{folder}byteorder"
        if order in members and _member(path, members[order])() not in (b"little", b""):
            raise UnsafePickle("has values in big-endian order: save it again on another machine")

    def load_storage(identity: Any) -> Storage:
        dtype, key, count = _storage_identity(identity)
        member = members.get(f"{folder}data/{key}")
        size = count * getattr(torch, dtype).itemsize
        if member is None or member.file_size < size:
            raise UnsafePickle(f"{size} bytes are missing in its member data/{key}")
        return Storage(dtype, count, _member(path, member))

    objects = CheckpointObjects(load_storage, _nested)
    return objects.run(bytes(data)), objects.left_out


def read_pickles(path: Path) -> tuple[Any, LeftOut]:
    """Return what the older form of torch.save, or a plain pickle, holds; like `read_checkpoint`.

    The older form has pickles of a magic number, of versions, of the object and of the names of its
    storages, then the bytes of each.
    """
    return _read_stream(lambda: open(path, "rb"))


def _read_stream(open_stream: Opener) -> tuple[Any, LeftOut]:
    waiting: dict[str, tuple[str, list[int]]] = {}  # key -> type, and the place of its bytes

    def load_storage(identity: Any) -> Any:
        if isinstance(identity, tuple) and identity[:1] in (("module",), (b"module",)):
            return identity[1]  # a class, followed by its source code
        dtype, key, count = _storage_identity(identity)
        place = waiting.setdefault(key, (dtype, []))[1]
        view = identity[5] if len(identity) > 5 else None
        start = view[1] * getattr(torch, dtype).itemsize if view else 0

        def read() -> bytearray:
            with open_stream() as stream:
                stream.seek(place[0] + start)
                return _exactly(stream, count * getattr(torch, dtype).itemsize)

        return Storage(dtype, count, read)

    objects = CheckpointObjects(load_storage, _nested)
    with open_stream() as stream:
        content = objects.run(stream)
        if content != MAGIC:
            return content, objects.left_out
        for _ in range(2):
            objects.run(stream)  # versions and sizes of types
        content = objects.run(stream)
        for key in objects.run(stream):
            if key not in waiting:
                raise UnsafePickle("has values that belong to no tensor")
            dtype, place = waiting[key]
            (count,) = struct.unpack("<q", _exactly(stream, 8))
            place.append(stream.tell())
            stream.seek(count * getattr(torch, dtype).itemsize, io.SEEK_CUR)
        end = stream.tell()
        if stream.seek(0, io.SEEK_END) < end or not all(place for _, place in waiting.values()):
            raise UnsafePickle("is cut short")
    return content, objects.left_out


def _nested(data: Any) -> tuple[Any, LeftOut]:
    """Return the storage that a plain pickle of tensors holds as a checkpoint in itself."""
    if not isinstance(data, bytes | bytearray):
        raise UnsafePickle("a tensor without its values")
    return _read_stream(lambda: io.BytesIO(data))


def _storage_identity(identity: Any) -> tuple[str, str, int]:
    """Return type, key and count of values of a storage: ("storage", type, key, device, count)."""
    if isinstance(identity, str):
        raise UnsafePickle(
            "has values that torch cannot find, as of `pickle_protocol=0`: save it again with 2"
        )
    if not isinstance(identity, tuple) or len(identity) < 5:
        raise UnsafePickle("refers to data that are not in the file")
    word, kind, key, _, count = identity[:5]
    known = isinstance(kind, Placeholder) and kind.state in STORAGES.values()
    if word not in ("storage", b"storage") or not known or type(count) is not int or count < 0:
        raise UnsafePickle("refers to data that are not in the file")
    return str(kind.state), str(key), count


def _member(path: Path, member: zipfile.ZipInfo) -> Callable[[], bytearray]:
    """Return a function that reads a member of a zip archive, and checks it against its checksum.

    torch can leave checksums out, which zipfile would refuse.
    """

    def read() -> bytearray:
        if member.compress_type != zipfile.ZIP_STORED:
            with zipfile.ZipFile(path) as archive:
                return bytearray(archive.read(member))
        with open(path, "rb") as file:
            file.seek(member.header_offset)
            header = _exactly(file, LOCAL_HEADER)
            name, extra = struct.unpack("<HH", header[26:30])
            file.seek(name + extra, io.SEEK_CUR)
            data = _exactly(file, member.file_size)
        if member.CRC and zlib.crc32(data) != member.CRC:
            raise UnsafePickle(f"is damaged: {member.filename} does not match its checksum")
        return data

    return read


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view, filled = memoryview(data), 0
    while filled < count:
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            raise UnsafePickle("is cut short")
        filled += got
    return data
