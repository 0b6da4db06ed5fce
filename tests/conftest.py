"""Fixtures of all tests: the command line, pipeline files, and a small finished store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Before torch is imported: two workers run at a time, and their threads would wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

TINY = """\
name: tiny
seed: 0
data: {card: drawings, limit: 64}
stages:
  pretext:
    uses: pretext/jigsawpp
    backbone: {name: conv4, width: 0.5}
    epochs: 1
    batch_size: 32
    tile_size: 16
    shift: 1
    permutations: 20
    embedding_dim: 16
    hidden_dim: 32
  features: {uses: extract/network, model: pretext, layer: conv4, pool: 2}
  prepared: {uses: prepare, features: features, components: 8}
  clusters: {uses: cluster, features: prepared, k: 5, iterations: 3}
  labels: {uses: assign, features: prepared, clusters: clusters}
  target:
    uses: target/pseudo_label
    labels: labels
    backbone: {name: conv4, width: 0.5}
    epochs: 1
    batch_size: 32
  linear: {uses: evaluate/linear, model: target, epochs: 2}
  knn: {uses: evaluate/knn, model: target, k: 5}
"""


@dataclass
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread a worker: on two cores, two workers of two threads are several times slower."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if "torch" in sys.modules:  # a test before may have asked for more
        sys.modules["torch"].set_num_threads(1)
    monkeypatch.delenv("TRANSFER_STORE", raising=False)


def command_line(
    *words: object, cwd: Path, check: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run `transfer WORDS...` in a new process; a traceback fails, whatever the exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "transfer", *map(str, words)],
        cwd=cwd,
        text=True,
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert check is None or done.returncode == check, (
        f"{done.returncode}: {done.stdout}{done.stderr}"
    )
    return done


@pytest.fixture
def transfer(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`transfer("run", file, check=2)` runs the command line in a new process, in `tmp_path`."""

    def call(
        *words: object, cwd: Path = tmp_path, check: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        return command_line(*words, cwd=cwd, check=check)

    return call


@pytest.fixture
def invoke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run a command in this process: faster, for those that neither train nor get signals."""
    from transfer.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: object, check: int | None = 0) -> Said:
        monkeypatch.setattr(sys, "argv", ["transfer", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        said = Said(code, captured.out, captured.err)
        assert "Traceback" not in said.text
        assert check is None or code == check, f"{code}: {said.text}"
        return said

    return call


@pytest.fixture
def pipeline(tmp_path: Path) -> Callable[..., Path]:
    """Write a pipeline file into `tmp_path`."""

    def write(text: str | bytes, name: str = "pipeline.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
        return path

    return write


@dataclass
class Tiny:
    """A pipeline file, and a store of its finished results."""

    file: Path
    store: Path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The tiny pipeline, run once for all tests; take `tiny`, a copy, to write to it."""
    folder = tmp_path_factory.mktemp("finished")
    made = Tiny(folder / "tiny.yaml", folder / "store")
    made.file.write_text(TINY, encoding="utf-8")
    command_line(
        "run", made.file, "--store", made.store, "--threads", 1, "--device", "cpu", cwd=folder
    )
    return made


@pytest.fixture
def tiny(finished: Tiny, tmp_path: Path) -> Tiny:
    """A copy of the finished tiny pipeline that a test may change."""
    made = Tiny(tmp_path / "tiny.yaml", tmp_path / "store")
    shutil.copyfile(finished.file, made.file)
    shutil.copytree(finished.store, made.store)
    return made
