"""Plain data is read from pickles; everything else is refused and runs nothing."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.datasets.miniature import count_refused, noise
from tests.datasets.readers.record_files import (
    python2_pickle,
)
from transfer.datasets.readers.safe_pickle import read_plain_pickle
from transfer.utils.pickle_interpreter import UnsafePickle


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_plain_data_is_read_whatever_wrote_the_pickle(protocol: int, order: Any) -> None:
    pixels = np.asarray(noise(3, 4).reshape(3, -1), order=order)
    data = {"labels": [0, 300, -7, 1 << 70], "data": pixels, "name": "größe", "none": None}
    plain = read_plain_pickle(pickle.dumps(data, protocol=protocol))
    assert plain.keys() == data.keys()
    assert plain["labels"] == data["labels"]
    assert np.array_equal(plain["data"], pixels)
    assert (plain["name"], plain["none"]) == ("größe", None)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def array_of(dtype: bytes, shape: tuple[int, int], data: bytes) -> bytes:
    whole = python2_pickle({b"data": np.zeros((2, 3), dtype=np.uint8), b"labels": [0, 1]})
    return (
        whole.replace(b"U\x02u1", b"U\x02" + dtype)
        .replace(b"K\x02K\x03\x86", b"K" + bytes([shape[0]]) + b"K" + bytes([shape[1]]) + b"\x86")
        .replace(b"U\x06" + bytes(6), b"U" + bytes([len(data)]) + data)
    )


LISTS = b"".join(b"]q%c(h%ch%ce" % (number + 1, number, number) for number in range(60))

NESTED = (
    b"\x80\x02}U\x01a(]q\x00" + LISTS + b"ts."
)  # the last would have 2 ** 60 items within items

PICKLES = {
    "runs a command": (
        pickle.dumps({b"data": Harmful(), b"labels": [0]}),
        "asks for '(posix|nt) system'",
    ),
    "runs a command by an old name": (
        b"\x80\x02}U\x04datacos\nsystem\nU\x04true\x85Rs.",
        "asks for 'os system'",
    ),
    "calls a built-in": (
        b"\x80\x02}U\x04datac__builtin__\neval\nU\x011\x85Rs.",
        "asks for '__builtin__ eval'",
    ),
    "reads a file by numpy": (
        b"\x80\x02}U\x04datacnumpy\nfromfile\nU\x01x\x85Rs.",
        "asks for 'numpy fromfile'",
    ),
    "makes an instance": (
        b"\x80\x02(ios\nsystem\n.",
        "operation INST|it asks for|not a readable pickle",
    ),
    "asks for what is elsewhere": (b"\x80\x02}U\x01aU\x011Qs.", "operation BINPERSID"),
    "asks for an extension": (b"\x80\x02\x82\x01.", "operation EXT1|not a readable pickle"),
    "objects in an array": (array_of(b"O8", (2, 3), bytes(6)), "an array of type 'O8'"),
    "numbers of eight bytes": (array_of(b"i8", (2, 3), bytes(48)), "an array of type 'i8'"),
    "an array larger than its bytes": (
        array_of(b"u1", (200, 200), bytes(6)),
        r"shape \(200, 200\) in 6 bytes",
    ),
    "lists within lists": (NESTED, "a list of anything but numbers and texts"),
    "a list that holds itself": (b"\x80\x02}U\x01a]q\x00h\x00as.", "a list of anything but"),
    "a key of tuples in tuples": (
        b"\x80\x02}U\x01a" + b"2\x86" * 60 + b"K\x01s.",
        "a key of tuples in tuples",
    ),
    "no dict": (pickle.dumps([1, 2]), "a dict is required"),
    "cut": (python2_pickle({b"data": noise(2, 4).reshape(2, -1)})[:-30], "not a readable pickle"),
    "nothing": (b"", "not a readable pickle"),
    "no pickle": (b"not a pickle at all", "pickle|operation"),
    "an empty stack": (b"\x80\x02s.", "its stack is empty|not a readable pickle"),
    "a key that cannot be one": (b"\x80\x02}]K\x01s.", "not a readable pickle"),
    "a missing megabyte": (b"\x80\x02T\xff\xff\xff\x7fabc.", "not a readable pickle"),
    "too long a number": (b"\x80\x02}U\x01aI" + b"9" * 5000 + b"\ns.", "not a readable pickle"),
}


@pytest.mark.parametrize("what", PICKLES)
def test_a_pickle_of_more_than_plain_data_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    data, message = PICKLES[what]
    with pytest.raises(UnsafePickle, match=message):
        read_plain_pickle(data)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_any_damage_to_a_pickle_gives_a_message_or_data() -> None:
    whole = python2_pickle(
        {b"data": noise(2, 4).reshape(2, -1), b"labels": [1, 2], b"filenames": [b"a", b"b"]}
    )

    def read(damaged: bytes) -> None:
        assert isinstance(read_plain_pickle(damaged), dict)

    assert count_refused(whole, UnsafePickle, read) > 500
