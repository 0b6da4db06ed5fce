from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from transfer.datasets.readers.base import Survey
from transfer.datasets.readers.folder import FolderSource
from transfer.datasets.readers.hdf5 import Hdf5Source
from transfer.utils.stamp_cache import StampCache


@pytest.fixture
def survey_folder(tmp_path: Path) -> Callable[..., Survey]:
    """Survey a folder; all surveys of a test share a memory."""
    return lambda folder, labeled=True: FolderSource(folder, labeled).survey(
        StampCache(tmp_path / "memory")
    )


@pytest.fixture
def survey_hdf5(tmp_path: Path) -> Callable[[Path], Survey]:
    """Survey an HDF5 file; all surveys of a test share a memory."""
    return lambda path: Hdf5Source(path).survey(StampCache(tmp_path / "memory"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the path of an HDF5 file."""
    return tmp_path / "set.h5"
