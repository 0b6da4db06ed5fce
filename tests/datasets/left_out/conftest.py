"""A pipeline that packs a set, and folders in each form that a reader takes."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said

PACKING = """\
data: {}
stages:
  net:
    uses: pretext/pretrained
    backbone: {name: conv4, width: 0.25}
    random_weights: true
    size: 16
  features: {uses: extract/network, model: net, layer: conv4}
"""


@pytest.fixture
def packing(tmp_path: Path) -> Path:
    """A pipeline file whose stage `features` packs the split `unlabeled` of a set."""
    path = tmp_path / "packing.yaml"
    path.write_text(PACKING, encoding="utf-8")
    return path


@pytest.fixture
def plan_of(invoke: Callable[..., Said], packing: Path) -> Callable[..., dict[str, Any]]:
    """Return what `status` prints of the stage that packs a set: `plan_of(folder=path)`."""

    def plan(**data: Any) -> dict[str, Any]:
        stages = json.loads(invoke("status", packing, "--json", *set_data(data)).out)["stages"]
        return next(stage for stage in stages if stage["uses"] == "images")

    return plan


@pytest.fixture
def refusal_of(invoke: Callable[..., Said], packing: Path) -> Callable[..., str]:
    """Return the message of a set that is refused at planning."""
    return lambda **data: invoke("status", packing, *set_data(data), check=2).err


def set_data(data: dict[str, Any]) -> list[str]:
    """Return `--set data=...` for the options of a set."""
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in data.items()}
    return ["--set", f"data={json.dumps({'size': 16, **texts}, ensure_ascii=False)}"]


def as_zip(folder: Path) -> Path:
    """Return a zip of a folder, with its links left out."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


def as_tar(folder: Path) -> Path:
    """Return a tar of a folder."""
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=folder.name)
    return path


def as_it_is(folder: Path) -> Path:
    return folder


FORMS = [as_it_is, as_zip, as_tar]


def write_shard(path: Path, files: dict[str, bytes]) -> Path:
    """Write a tar shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path
