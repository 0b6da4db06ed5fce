from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from transfer.errors import CorruptArtifact
from transfer.storage import hdf5_tables
from transfer.storage.hdf5_tables import (
    CHUNK_BYTES,
    MAX_ATTRIBUTE,
    TableReader,
    TableWriter,
    dataset,
    encode_strings,
    local_member,
    write_table,
)

ATTRIBUTES = {"space": {"layer": "conv5", "pool": [2, 2], "é": None}, "images": "key", "n": 1.5}


def columns() -> dict[str, np.ndarray]:
    draw = np.random.RandomState(0)
    return {
        "features": draw.rand(50, 8).astype(np.float16),
        "ids": encode_strings([f"photos/{number} – ü.jpg" for number in range(50)]),
        "labels": draw.randint(0, 9, 50),
        "centroids": draw.rand(7, 3, 2).astype(np.float32),
        "nothing": np.zeros((0, 5)),
    }


def everything(path: Path) -> dict[str, Any]:
    """All that a table holds, as bytes."""
    table = TableReader(path)
    found: dict[str, Any] = {"attributes": table.attributes}
    for name in table.shapes:
        values = table.read(name)
        found[name] = (values.shape, values.dtype.str, values.tobytes())
        pieces = [block.tobytes() for _, block in table.blocks(name, 17)]
        assert b"".join(pieces) == values.tobytes()
    return found


def written(path: Path, by_blocks: bool, **attributes: Any) -> Path:
    if not by_blocks:
        write_table(path, columns(), **attributes)
        return path
    same_length = {name: values for name, values in columns().items() if len(values) == 50}
    shapes = {name: (values.shape[1:], values.dtype.str) for name, values in same_length.items()}
    with TableWriter(path, rows=50, columns=shapes, **attributes) as table:
        for start in range(0, 50, 20):
            table.append(
                **{name: values[start : start + 20] for name, values in same_length.items()}
            )
    return path


@pytest.mark.parametrize("by_blocks", [False, True])
def test_what_is_written_is_read(tmp_path: Path, by_blocks: bool) -> None:
    table = TableReader(written(tmp_path / "t.h5", by_blocks, **ATTRIBUTES))
    assert table.attributes == ATTRIBUTES
    for name, values in columns().items():
        if name in table:
            assert table.shapes[name] == values.shape
            assert table.dtypes[name] == values.dtype.str
            assert (table.read(name) == values).all()
            assert (table.read(name, 3, 9) == values[3:9]).all()
    assert table.strings("ids")[4] == "photos/4 – ü.jpg"
    assert ("nothing" in table) != by_blocks


@pytest.mark.parametrize("by_blocks", [False, True])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, by_blocks: bool) -> None:
    one, two = (
        written(tmp_path / name, by_blocks, **ATTRIBUTES).read_bytes()
        for name in ("one.h5", "two.h5")
    )
    assert one == two


def test_rows_in_other_blocks_give_the_same_bytes(tmp_path: Path) -> None:
    values = np.arange(3_000_000, dtype=np.int64).reshape(-1, 10)
    for step in (300_000, 7_777):
        with TableWriter(
            tmp_path / f"{step}.h5", rows=300_000, columns={"x": ((10,), "int64")}
        ) as table:
            for start in range(0, 300_000, step):
                table.append(x=values[start : start + step])
    write_table(tmp_path / "whole.h5", {"x": values})
    assert len({(tmp_path / f"{name}.h5").read_bytes() for name in (300_000, 7_777)}) == 1
    assert (
        TableReader(tmp_path / "7777.h5").read("x") == TableReader(tmp_path / "whole.h5").read("x")
    ).all()


@pytest.mark.slow
@pytest.mark.parametrize("by_blocks", [False, True])
def test_a_flipped_byte_anywhere_is_noticed_or_means_nothing(
    tmp_path: Path, by_blocks: bool
) -> None:
    many = {
        f"attribute {number}": "x" * 900 for number in range(12)
    }  # more than HDF5 keeps in an object's header
    path = written(tmp_path / "t.h5", by_blocks, **ATTRIBUTES, **many)
    whole, data = everything(path), path.read_bytes()
    noticed = 0
    places = sorted({*range(0, min(len(data), 3000), 5), *range(0, len(data), 43)})
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << (place % 8) if place % 3 else 0xFF
        path.write_bytes(damaged)
        try:
            found = everything(path)
        except CorruptArtifact:
            noticed += 1
        else:
            assert found == whole, f"byte {place} of {len(data)}"
    assert noticed > len(places) / 4


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(
        st.sampled_from([np.uint8, np.int64, np.float16, np.float32]),
        arrays.array_shapes(max_dims=3, max_side=6),
    ),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_any_array_is_read_as_it_was_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, place: float, bit: int
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.h5"
    write_table(path, {"values": values}, note=ATTRIBUTES)
    whole, data = everything(path), bytearray(path.read_bytes())
    assert whole["values"] == (values.shape, values.dtype.str, values.tobytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = everything(path)
    except CorruptArtifact:
        return
    assert found == whole


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_file_cut_off_is_damaged(tmp_path: Path, kept: int) -> None:
    path = written(tmp_path / "t.h5", False)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptArtifact, match=r"t\.h5 cannot be read"):
        everything(path)


def test_a_file_or_a_column_that_is_not_there_is_damage(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=r"gone\.h5 cannot be read") as caught:
        TableReader(tmp_path / "gone.h5")
    assert caught.value.folder == str(tmp_path)
    table = TableReader(written(tmp_path / "t.h5", False))
    with pytest.raises(CorruptArtifact):
        table.read("weights")


def test_missing_rows_are_an_error(tmp_path: Path) -> None:
    shapes = {"a": ((2,), "float32"), "b": ((), "int64")}
    with (
        pytest.raises(ValueError, match="rows are missing in b"),
        TableWriter(tmp_path / "t.h5", 4, shapes) as table,
    ):
        table.append(a=np.ones((4, 2)), b=np.ones(3))


def test_an_error_while_writing_is_told_and_not_the_rows_that_it_left_out(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="disk"),
        TableWriter(tmp_path / "t.h5", 4, {"a": ((), "int64")}),
    ):
        raise OSError("disk")


@pytest.mark.parametrize(
    "block", [np.ones((5, 2)), np.ones((4, 1)), np.ones(4), np.ones((4, 2, 1))]
)
def test_rows_that_do_not_fit_are_never_stretched_or_cut(tmp_path: Path, block: np.ndarray) -> None:
    with (
        pytest.raises(ValueError, match="do not fit into 'a'"),
        TableWriter(tmp_path / "t.h5", 4, {"a": ((2,), "float32")}) as table,
    ):
        table.append(a=block)


@pytest.mark.parametrize("values", [np.float32(3), np.array(["a", "bc"], dtype=object)])
def test_what_hdf5_would_keep_without_a_checksum_is_refused(tmp_path: Path, values: Any) -> None:
    with pytest.raises(ValueError, match="must be an array of rows"):
        write_table(tmp_path / "t.h5", {"a": values})


def test_an_attribute_may_be_as_long_as_is_checksummed_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "t.h5"
    write_table(path, {}, text="x" * (MAX_ATTRIBUTE - 2))
    assert len(TableReader(path).attributes["text"]) == MAX_ATTRIBUTE - 2
    data = bytearray(path.read_bytes())
    data[data.find(b"x" * 1000) + 500] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifact):
        TableReader(path)
    with pytest.raises(ValueError, match="make it a column"):
        write_table(path, {}, text="x" * MAX_ATTRIBUTE)


def test_a_table_without_rows_or_columns_is_a_table(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t.h5", rows=0, columns={"a": ((3,), "float32")}):
        pass
    assert TableReader(tmp_path / "t.h5").read("a").shape == (0, 3)
    write_table(tmp_path / "empty.h5", {})
    assert TableReader(tmp_path / "empty.h5").shapes == {}


def test_chunks_are_rows_of_about_a_megabyte(tmp_path: Path) -> None:
    write_table(
        tmp_path / "t.h5",
        {"a": np.zeros((3000, 1000), dtype=np.float32), "wide": np.zeros((2, 600_000))},
    )
    with h5py.File(tmp_path / "t.h5") as file:
        assert dataset(file, "a").chunks == (CHUNK_BYTES // 4000, 1000)
        assert dataset(file, "wide").chunks == (1, 600_000)
        assert dataset(file, "a").fletcher32


def link(path: Path) -> None:
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["a"] = np.arange(3)
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "/a")


def soft(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["b"] = np.arange(3)
        file["a"] = h5py.SoftLink("/b")


def storage(path: Path) -> None:
    path.with_name("other.bin").write_bytes(b"secret")
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "a", (6,), np.uint8, external=[(str(path.with_name("other.bin")), 0, 6)]
        )


def group(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("a/b")


def attribute(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["space"] = "no { json"


@pytest.mark.parametrize(
    "craft", [link, soft, storage, group, attribute], ids=lambda craft: craft.__name__
)
def test_a_crafted_file_is_damaged_and_leads_nowhere(tmp_path: Path, craft: Any) -> None:
    craft(tmp_path / "t.h5")
    with pytest.raises(CorruptArtifact, match=r"t\.h5 cannot be read"):
        TableReader(tmp_path / "t.h5")


def test_texts_that_are_no_utf8_are_damage(tmp_path: Path) -> None:
    write_table(tmp_path / "t.h5", {"ids": np.array([b"\xff\xfe"])})
    with pytest.raises(CorruptArtifact):
        TableReader(tmp_path / "t.h5").strings("ids")


def test_a_member_of_the_file_itself_is_given(tmp_path: Path) -> None:
    write_table(tmp_path / "t.h5", {"a": np.arange(3)})
    with h5py.File(tmp_path / "t.h5") as file:
        assert local_member(file, "a").name == "/a"
        assert dataset(file, "a")[:].tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="is not a group"):
            hdf5_tables.group(file, "a")
        with pytest.raises((KeyError, RuntimeError)):
            local_member(file, "b")


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=40)
def test_any_texts_come_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "t.h5"
    write_table(path, {"ids": encode_strings(texts)})
    assert TableReader(path).strings("ids") == texts
