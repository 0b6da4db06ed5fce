"""Patterns that name several shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from transfer.datasets.readers.shard_patterns import expand
from transfer.datasets.readers.webdataset import TarSource
from transfer.errors import UsageError


def test_patterns_stand_for_files_that_are_all_there(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"s-{number:03}.tar").touch()
    assert [path.name for path in expand(tmp_path / "s-{000..002}.tar")] == [
        "s-000.tar",
        "s-001.tar",
        "s-002.tar",
    ]
    with pytest.raises(
        UsageError, match=r"2 of 5 shards do not exist:\n  .*s-003.tar\n  .*s-004.tar"
    ):
        expand(tmp_path / "s-{000..004}.tar")
    with pytest.raises(UsageError, match="matches no files"):
        expand(tmp_path / "t-*.tar")
    with pytest.raises(UsageError, match="is not a range of shards"):
        expand(tmp_path / "s-{9..1}.tar")
    with pytest.raises(UsageError, match="is not a range of shards"):
        expand(tmp_path / "s-{0..99999999999}.tar")
    with pytest.raises(UsageError, match="names a shard twice"):
        expand(tmp_path / "s-{000,000}.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no tar shards"):
        TarSource(tmp_path / "empty").listing("all")
