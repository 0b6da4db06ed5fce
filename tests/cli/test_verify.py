"""`transfer verify`: results of a file, a whole store, and a part of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.common import flip, lines_of
from tests.conftest import Said, Tiny


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
    assert said.endswith(f"A run without -f may not notice. To repair them: {found['repair']}\n")
    assert sorted(one["stage"] for one in found["damaged"]) == ["clusters", "features", "knn"]
    assert "damaged" in lines_of(invoke("status", tiny.file, "--store", tiny.store).out)["knn"]
    assert re.search(
        r"^knn +damaged$", invoke("show", tiny.file, "--store", tiny.store).out, re.MULTILINE
    )
    assert invoke("show", tiny.file, "knn", "--store", tiny.store, check=4).out == ""
    transfer(*shlex.split(found["repair"])[1:], "--threads", 1)
    assert invoke(*words).out.startswith("11 artifacts intact")


def test_verify_of_a_store_reads_everything_and_needs_no_file(
    invoke: Callable[..., Said], finished: Tiny
) -> None:
    of_file = json.loads(invoke("verify", finished.file, "--store", finished.store, "--json").out)
    of_store = json.loads(invoke("verify", "--store", finished.store, "--json").out)
    assert len(of_store["intact"]) == len(of_file["intact"]) == 11
    assert of_store["bytes"] == of_file["bytes"]
    assert all((finished.store / label / "manifest.json").exists() for label in of_store["intact"])


@pytest.mark.parametrize("total", [1, 2, 3, 30])
def test_parts_have_every_artifact_once(
    invoke: Callable[..., Said], finished: Tiny, total: int
) -> None:
    words = ["verify", "--store", finished.store, "--json"]
    parts = [
        json.loads(invoke(*words, "--part", f"{number}/{total}").out)["intact"]
        for number in range(1, total + 1)
    ]
    everything = json.loads(invoke(*words).out)["intact"]
    assert sorted(label for part in parts for label in part) == sorted(everything)
    # Of a file, the parts are the same.
    named = invoke("verify", finished.file, "--store", finished.store, "--part", f"1/{total}").out
    count = len(parts[0])
    assert (f" {count} artifact" in f" {named.removeprefix(f'part 1/{total}: ')}") is (count > 0)


@pytest.mark.parametrize("part", ["0/3", "4/3", "x", "1", "1/0", "-1/3", "1/3/5", ""])
def test_part_that_does_not_exist_is_refused(
    invoke: Callable[..., Said], finished: Tiny, part: str
) -> None:
    said = invoke("verify", "--store", finished.store, "--part", part, check=2)
    assert "write 1/30" in said.err


def test_damage_in_a_store_ends_with_4_in_its_part_alone(
    invoke: Callable[..., Said], tiny: Tiny
) -> None:
    flip(next(tiny.store.glob("cluster/*/clusters.h5")))
    next(tiny.store.glob("evaluate/knn/*/manifest.json")).unlink()
    shutil.copytree(next(tiny.store.glob("assign/*")), tiny.store / "smoke" / "assign" / ("a" * 20))
    words = ["verify", "--store", tiny.store]
    said = invoke(*words, check=4).out
    assert re.search(r"damaged: cluster/[0-9a-f]{20}: .*clusters.h5 is not what was written", said)
    assert re.search(r"damaged: evaluate/knn/[0-9a-f]{20}: .*its manifest is missing", said)
    assert re.search(r"damaged: smoke/assign/a{20}: .*manifest.json belongs to", said)
    assert "9 artifacts intact" in said
    assert "the next run that uses them makes them again" in said
    damaged = 0
    for number in range(1, 6):
        part = [*words, "--part", f"{number}/5"]
        result = json.loads(invoke(*part, "--json", check=None).out)
        assert invoke(*part, check=None).code == (4 if result["damaged"] else 0)
        damaged += len(result["damaged"])
    assert damaged == 3
    assert "damaged: smoke/assign" in invoke(*words, "--smoke", check=4).out


@pytest.mark.slow
def test_removing_the_folder_of_a_damaged_artifact_repairs_a_store(
    invoke: Callable[..., Said],
    transfer: Callable[..., subprocess.CompletedProcess[str]],
    tiny: Tiny,
) -> None:
    flip(next(tiny.store.glob("cluster/*/clusters.h5")))
    words = ["run", tiny.file, "--store", tiny.store, "--threads", 1, "--device", "cpu"]
    assert "nothing to do" in transfer(*words).stdout
    (damaged,) = json.loads(invoke("verify", "--store", tiny.store, "--json", check=4).out)[
        "damaged"
    ]
    folder = Path(damaged["what"].partition(": ")[0])
    assert f": {folder}: " in invoke("verify", "--store", tiny.store, check=4).out
    shutil.rmtree(folder)
    transfer(*words)
    assert invoke("verify", "--store", tiny.store).out.startswith("11 artifacts intact")


def test_verify_of_nothing_is_reported(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    empty = invoke("verify", finished.file, "--store", tmp_path / "empty").out
    assert empty == f"nothing to verify: no result of {finished.file} is in {tmp_path / 'empty'}\n"
    assert invoke("verify", "--store", "empty").out.startswith("nothing to verify: no results in ")
    text = invoke("verify", "--store", finished.store, "--part", "4000/4001").out
    assert text.startswith("nothing to verify: no results in part 4000/4001 of ")
    assert "does not exist" in invoke("verify", "--store", "none", check=2).err
    assert "does not exist" in invoke("verify", check=2).err
    assert "is a file" in invoke("verify", "--store", finished.file, check=2).err
    assert "name one: transfer verify FILE" in invoke("verify", "--set", "seed=1", check=2).err
