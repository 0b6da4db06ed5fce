"""`transfer doctor`: packages, extras, machine, store, and problems with their remedies."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Said
from transfer.inspection import machine
from transfer.inspection.packages import EXTRAS, FAISS, REQUIRED
from transfer.utils.paths import CHECKOUT


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages seem not to be installed."""
    version = metadata.version

    def present(name: str) -> str:
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", present)


@pytest.mark.slow
def test_doctor_reports_what_is_installed_and_the_machine(
    transfer: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = transfer("doctor", "--store", tmp_path / "store", "--json", check=None)
    facts: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(facts["problems"])
    assert {"torch", "h5py", "numpy"} <= facts["versions"].keys()
    assert facts["faiss"].startswith("faiss-")
    assert facts["precision"] in ("float32", "bfloat16")
    assert facts["free bytes"] > 0
    assert facts["store"] == str(tmp_path / "store")
    assert 1 <= facts["cores"]["usable"] <= facts["cores"]["total"]
    assert facts["memory"]["total"] >= facts["memory"]["available"] > 0
    assert facts["extras"].keys() == EXTRAS.keys()


@pytest.mark.parametrize(
    ("extra", "packages"),
    [("teachers", ["timm"]), ("onnx", ["onnx", "onnxruntime"]), ("onnx", ["onnxscript"])],
)
def test_missing_extra_is_no_problem_and_its_command_is_printed(
    invoke: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    extra: str,
    packages: list[str],
) -> None:
    without(monkeypatch, *packages)
    facts = json.loads(invoke("doctor", "--json").out)
    assert facts["problems"] == []
    assert facts["extras"][extra]["installed"] is False
    text = invoke("doctor").out
    purpose = re.escape(EXTRAS[extra].purpose)
    command = re.escape(f"pip install 'transfer[{extra}]'")
    assert re.search(rf"^  {extra} +{purpose}; not installed: {command}$", text, re.MULTILINE)
    assert all(f"{package} –" in text for package in packages)


def test_missing_requirement_is_a_problem_with_its_remedy(
    invoke: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "scikit-image")
    said = invoke("doctor", check=1).out
    assert "PROBLEM: scikit-image is not installed: pip install scikit-image\n" in said


def test_store_below_a_file_is_a_problem(invoke: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = invoke("doctor", "--store", "file", check=1).out
    assert "PROBLEM: the store file cannot be made, since file is a file: choose another" in said


def test_packages_are_those_of_the_project_file() -> None:
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(requirements: list[str]) -> set[str]:
        return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}

    assert names(project["dependencies"]) == {*REQUIRED, *FAISS}
    extras = project["optional-dependencies"]
    assert {name: names(extras[name]) for name in extras} == {
        name: set(extra.packages) for name, extra in EXTRAS.items()
    }


@pytest.mark.parametrize(
    ("files", "quota", "limit", "available"),
    [
        ({}, None, None, None),
        ({"cpu.max": "max 100000", "memory.max": "max"}, None, None, None),
        ({"cpu.max": "150000 100000"}, 1.5, None, None),
        ({"memory.max": "1000000", "memory.current": "400000"}, None, 1_000_000, 600_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None, None),
        ({"cpu.max": "x", "memory.max": "x"}, None, None, None),
    ],
)
def test_limits_of_a_container_count(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    files: dict[str, str],
    quota: float | None,
    limit: int | None,
    available: int | None,
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{content}\n")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    assert machine.cores()["quota"] == quota
    assert machine.memory()["limit"] == limit
    assert available is None or machine.memory()["available"] == available
