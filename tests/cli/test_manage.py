"""`transfer gc`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TINY, Said, Tiny


def test_gc_of_a_store_whose_results_are_all_needed_finds_nothing(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    assert "0 entries, 0 bytes" in invoke("gc", "--store", finished.store).out
    assert "0 entries, 0 bytes" in invoke("gc", "--store", tmp_path / "none").out


@pytest.mark.slow
def test_gc_lists_in_bytes_and_deletes_only_on_demand_what_no_pipeline_needs(
    invoke: Callable[..., Said],
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
) -> None:
    other = tiny.file.with_name("other.yaml")
    other.write_text(
        TINY.replace("name: tiny", "name: other").replace("k: 5, iterations", "k: 4, iterations")
    )
    transfer("run", other, "clusters", "--store", tiny.store, "--threads", 1)
    before = sorted(tiny.store.glob("**/manifest.json"))
    assert "0 entries" in invoke("gc", "--store", tiny.store, "--delete").out
    # Once nobody remembers `other`, its own clusters go; what it shares with `tiny` stays.
    (tiny.store / ".pipelines" / "other.json").unlink()
    for leftover in (
        ".building/a",
        ".checkpoints/b",
        ".damaged/c",
        "cluster/.d.previous",
        "cluster/d",
    ):
        (tiny.store / leftover).mkdir(parents=True)
        (tiny.store / leftover / "file").write_bytes(1000 * b"x")
    found = json.loads(invoke("gc", "--store", tiny.store, "--json").out)
    paths = {str(Path(one["path"]).relative_to(tiny.store)) for one in found["entries"]}
    (clusters,) = paths - {".building/a", ".checkpoints/b", ".damaged/c", "cluster/.d.previous"}
    assert re.fullmatch(r"cluster/[0-9a-f]{20}", clusters)
    size = sum(path.stat().st_size for path in (tiny.store / clusters).iterdir()) + 4000
    assert found["bytes"] == size
    said = invoke("gc", "--store", tiny.store).out
    assert f"5 entries, {size:,} bytes" in said
    assert "nothing was deleted; add --delete" in said
    assert sorted(tiny.store.glob("**/manifest.json")) == before
    assert "deleted" in invoke("gc", "--store", tiny.store, "--delete").out
    assert len(sorted(tiny.store.glob("**/manifest.json"))) == len(before) - 1
    assert "up to date" in invoke("status", tiny.file, "--store", tiny.store).out
    assert "0 entries" in invoke("gc", "--store", tiny.store).out


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"clusters": 5}', '{"clusters": {"uses": "cluster"}}']
)
def test_gc_deletes_nothing_where_it_cannot_tell_what_is_needed(
    invoke: Callable[..., Said], tiny: Tiny, content: str
) -> None:
    (tiny.store / ".pipelines" / "tiny.json").write_text(content)
    before = sorted(tiny.store.rglob("*"))
    assert ".pipelines: tiny.json " in invoke("gc", "--store", tiny.store, "--delete", check=4).err
    assert sorted(tiny.store.rglob("*")) == before
