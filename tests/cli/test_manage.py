"""`transfer doctor`, `init`, `verify` and `gc`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.common import flip, lines_of
from tests.conftest import TINY, Said, Tiny
from transfer.utils.paths import shipped_folder


@pytest.mark.slow
def test_doctor_says_what_is_installed_and_ends_with_1_where_something_is_wrong(
    transfer: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = transfer("doctor", "--store", tmp_path / "store", "--json", check=None)
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["problems"])
    assert {"torch", "h5py", "numpy"} <= found["versions"].keys()
    assert found["faiss"].startswith("faiss-")
    assert found["precision"] in ("float32", "bfloat16")
    assert found["free bytes"] > 0
    assert found["store"] == str(tmp_path / "store")


def test_init_puts_the_shipped_files_there_and_leaves_alone_what_is(
    invoke: Callable[..., Said], tmp_path: Path
) -> None:
    first = invoke("init", "new").out.splitlines()
    copies = sorted((tmp_path / "new" / "pipelines").glob("*.yaml"))
    assert [copy.read_bytes() for copy in copies] == [
        s.read_bytes() for s in sorted(shipped_folder("pipelines").glob("*.yaml"))
    ]
    copies[0].write_text(TINY, encoding="utf-8")
    second = invoke("init", "new").out
    assert second.count(" exists; not changed") == len(copies)
    assert copies[0].read_text(encoding="utf-8") == TINY
    offered = shlex.split(first[-1].removeprefix("next: transfer "))
    assert invoke(*offered, "-n").code == 0
    assert "is a file; name a folder" in invoke("init", copies[0], check=2).err


@pytest.mark.slow
def test_verify_reads_everything_and_ends_with_4_on_damage_and_its_advice_mends_it(
    invoke: Callable[..., Said],
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
) -> None:
    words = ["verify", tiny.file, "--store", tiny.store]
    assert invoke(*words).out.startswith("11 artifacts intact")
    flip(next(tiny.store.glob("cluster/*/clusters.h5")))
    flip(next(tiny.store.glob("extract/network/*/manifest.json")))
    next(tiny.store.glob("evaluate/knn/*/scores.json")).unlink()
    said = invoke(*words, check=4).out
    assert "8 artifacts intact" in said
    assert re.search(r"damaged: clusters: .*clusters.h5 is not what was written", said)
    assert re.search(r"damaged: features: .*manifest.json", said)
    assert re.search(r"damaged: knn: .*scores.json is missing", said)
    found = json.loads(invoke(*words, "--json", check=4).out)
    assert sorted(one["stage"] for one in found["damaged"]) == ["clusters", "features", "knn"]
    assert "damaged" in lines_of(invoke("status", tiny.file, "--store", tiny.store).out)["knn"]
    assert re.search(
        r"^knn +damaged$", invoke("show", tiny.file, "--store", tiny.store).out, re.MULTILINE
    )
    assert invoke("show", tiny.file, "knn", "--store", tiny.store, check=4).out == ""
    transfer(*shlex.split(found["repair"])[1:], "--threads", 1)
    assert invoke(*words).out.startswith("11 artifacts intact")


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
