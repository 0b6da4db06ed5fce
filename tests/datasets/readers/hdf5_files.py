"""Invalid and crafted HDF5 files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.datasets.conftest import split_of, write_h5


def crafted(**changes: Any) -> dict[str, Any]:
    return {
        name: values for name, values in {**split_of(4), **changes}.items() if values is not None
    }


RISING = split_of(4)["offsets"]


def no_hdf5(path: Path) -> None:
    path.write_bytes(b"not an HDF5 file at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    write_h5(path, train=split_of(4))
    path.write_bytes(path.read_bytes()[:-700])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps(split_of(2)))


def no_groups(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["jpeg"] = split_of(2)["jpeg"]


def objects(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train/offsets"], file["train/labels"] = RISING, [0] * 4
        file.require_group("train").create_dataset("jpeg", (4,), dtype=h5py.vlen_dtype(np.uint8))


def references(path: Path) -> None:
    write_h5(path, train=crafted(labels=None))
    with h5py.File(path, "r+") as file:
        file.require_group("train").create_dataset(
            "labels", data=[file.require_group("train").ref] * 4, dtype=h5py.ref_dtype
        )


def groups_for_datasets(path: Path) -> None:
    write_h5(path, train=crafted(labels=None))
    with h5py.File(path, "r+") as file:
        file.create_group("train/labels")


def external_group(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    with h5py.File(path, "w") as file:
        file["train"] = h5py.ExternalLink("secret.h5", "/train")


def external_dataset(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file["train/jpeg"] = h5py.ExternalLink("secret.h5", "/train/jpeg")


def external_storage(path: Path) -> None:
    path.with_name("secret.bin").write_bytes(split_of(4)["jpeg"].tobytes())
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        size = int(RISING[-1])
        file.require_group("train").create_dataset(
            "jpeg", (size,), np.uint8, external=[(str(path.with_name("secret.bin")), 0, size)]
        )


def virtual_dataset(path: Path) -> None:
    write_h5(path.with_name("secret.h5"), train=split_of(4))
    write_h5(path, train=crafted(jpeg=None))
    layout = h5py.VirtualLayout((int(RISING[-1]),), np.uint8)
    layout[:] = h5py.VirtualSource(
        str(path.with_name("secret.h5")), "train/jpeg", (int(RISING[-1]),)
    )
    with h5py.File(path, "r+") as file:
        file.require_group("train").create_virtual_dataset("jpeg", layout)


def soft_link(path: Path) -> None:
    write_h5(path, data=crafted(jpeg=None, labels=None), train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file["data/bytes"] = split_of(4)["jpeg"]
        file["train/jpeg"] = h5py.SoftLink("/data/bytes")
        del file["data/offsets"]


def loop(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train"] = h5py.SoftLink("/train")


def claims_a_terabyte(path: Path) -> None:
    write_h5(path, train=crafted(jpeg=None))
    with h5py.File(path, "r+") as file:
        file.require_group("train").create_dataset("jpeg", (1 << 40,), np.uint8, chunks=(1 << 20,))


CRAFTED: dict[Callable[[Path], None], str] = {
    no_hdf5: "not a usable HDF5",
    empty: "not a usable HDF5",
    truncated: "truncated file",
    pickled: "not a usable HDF5",
    no_groups: "has no group with 'jpeg' and 'offsets'",
    objects: "'train/jpeg' must be 1-D uint8",
    references: "'train/labels' must be 1-D integers",
    groups_for_datasets: "'train/labels' must be 1-D integers",
    external_group: "'train' is a link to elsewhere",
    external_dataset: "'jpeg' is a link to elsewhere",
    external_storage: "'jpeg' keeps its data in other files",
    virtual_dataset: "'jpeg' keeps its data in other files",
    soft_link: "'jpeg' is a link to elsewhere",
    loop: "'train' is a link to elsewhere",
    claims_a_terabyte: "more than the file can hold",
}
