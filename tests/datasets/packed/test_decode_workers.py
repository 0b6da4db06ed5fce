"""Workers that decode images into shared memory."""

from __future__ import annotations

import os

import numpy as np
import pytest

from transfer.datasets.packed import decode_workers
from transfer.datasets.packed.decode import BadImage
from transfer.datasets.packed.decode_workers import Outcome, Square
from transfer.errors import TransferError


@pytest.mark.parametrize("forking", [1, 1000])
def test_squares_come_in_the_order_asked_for_with_a_reason_where_one_is_bad(
    forking: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(row: int) -> Square:
        if row == 7:
            raise BadImage("seven")
        if row == 9:
            return Square(b"nine")
        return Square(np.full((8, 8, 3), row, dtype=np.uint8), ("odd",) if row == 39 else ())

    monkeypatch.setattr(decode_workers, "MIN_IMAGES_TO_FORK", forking)
    with decode_workers.Decoders(read, 8, block=6, slots=2, workers=2, images=100) as decoders:
        first, second = decoders.load(0, [30, 7, 2, 39, 9, 0]), decoders.load(1, [5, 6])
        assert decode_workers.wait(first) == {
            1: Outcome(fault="seven"),
            3: Outcome(remarks=("odd",)),
            4: Outcome(encoded=b"nine"),
        }
        assert decode_workers.wait(second) == {}
    assert [int(decoders.slots[0][place].mean()) for place in (0, 2, 3, 5)] == [30, 2, 39, 0]
    assert [int(picture.mean()) for picture in decoders.slots[1][:2]] == [5, 6]


def test_a_decoder_that_is_killed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_workers, "MIN_IMAGES_TO_FORK", 1)
    with decode_workers.Decoders(
        lambda row: os._exit(9), 8, block=4, slots=1, workers=2, images=100
    ) as decoders:
        loading = decoders.load(0, [0, 1])
        with pytest.raises(TransferError, match="was killed from outside"):
            decode_workers.wait(loading)
