"""`transfer doctor`, `init` and `verify`."""

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
