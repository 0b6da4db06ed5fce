"""`transfer gc`: what stays and why, what can go and why."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.small import SMALL, age, clusters
from tests.conftest import Said, Tiny
from transfer.storage.history_lines import append_line, history_file, read_lines
from transfer.storage.locks import hold_lock
from transfer.utils.files import TICK

Invoke = Callable[..., Said]
Write = Callable[..., Path]
K6 = ("--set", "stages.clusters.k=6")


@pytest.fixture
def small(pipeline: Write) -> Path:
    """A file `small.yaml` in a folder with more than it."""
    pipeline("a note", "notes.txt")
    return pipeline(SMALL, "small.yaml")


@pytest.fixture
def store(tmp_path: Path, small: Path, invoke: Invoke) -> Path:
    """A store where `small.yaml` was run with k = 5, as it is written, and with k = 6."""
    invoke("run", small, "--store", "s")
    invoke("run", small, "--store", "s", *K6)
    return tmp_path / "s"


def listed(invoke: Invoke, store: Path, *words: object, **check: int) -> dict[str, Any]:
    return json.loads(invoke("gc", "--store", store, "--json", *words, **check).out)


def reasons(result: dict[str, Any], name: str = "entries") -> dict[str, str]:
    return {Path(entry["path"]).name: entry["reason"] for entry in result[name]}


def test_gc_of_a_store_whose_results_are_all_needed_lists_nothing(
    invoke: Invoke, finished: Tiny, tmp_path: Path
) -> None:
    assert "0 entries, 0 bytes" in invoke("gc", "--store", finished.store).out
    assert "0 entries, 0 bytes" in invoke("gc", "--store", tmp_path / "none").out
    assert not (tmp_path / "none").exists()


def test_what_the_file_asks_for_stays_after_a_run_with_another_value(
    invoke: Invoke, small: Path, store: Path
) -> None:
    k5, k6 = clusters(store)[5], clusters(store)[6]
    assert "0 entries" in invoke("gc", "--store", store, "--delete").out
    kept = reasons(listed(invoke, store, "--kept"), "kept")
    assert kept[k5.name] == "small.yaml asks for it"
    assert "--set stages.clusters.k=6" in kept[k6.name]
    result = listed(invoke, store, "--older-than", "0d")
    assert list(reasons(result)) == [k6.name]
    assert "last used" in reasons(result)[k6.name]
    assert "small.yaml --set stages.clusters.k=6" in reasons(result)[k6.name]
    assert clusters(store).keys() == {5, 6}
    assert "1 entry" in invoke("gc", "--store", store, "--older-than", "0d", "--delete").out
    assert clusters(store).keys() == {5}
    assert "up to date" in invoke("status", small, "--store", store).out


def test_what_was_run_with_set_stays_for_thirty_days(
    invoke: Invoke, small: Path, store: Path
) -> None:
    age(store, 29)
    assert "0 entries" in invoke("gc", "--store", store).out
    age(store, 2)
    said = invoke("gc", "--store", store).out
    assert "last used 31 days ago: small.yaml --set stages.clusters.k=6" in said
    assert "nothing was deleted; add --delete" in said
    assert "0 entries" in invoke("gc", "--store", store, "--older-than", "5w").out
    invoke("run", small, "--store", store, *K6)  # nothing to do, and used again
    assert "0 entries" in invoke("gc", "--store", store, "--delete").out
    assert clusters(store).keys() == {5, 6}


def test_a_run_with_nothing_to_do_counts_from_memory_too(
    invoke: Invoke, small: Path, store: Path
) -> None:
    for _ in range(3):
        age(store, 20)
        time.sleep(2 * TICK / 1e9)  # an answer of files that changed a moment ago is not kept
        for _ in range(2):
            invoke("run", small, "--store", store, *K6)
    *_, (_, last) = read_lines(history_file(store))
    assert last is not None
    assert last["same"]
    age(store, 20)
    assert "0 entries" in invoke("gc", "--store", store, "--older-than", "21d").out
    history_file(store).unlink()
    invoke("run", small, "--store", store, *K6)
    assert "cannot be read" not in invoke("gc", "--store", store).out


def test_keep_counts_different_runs_of_each_file(
    invoke: Invoke, small: Path, pipeline: Write, store: Path
) -> None:
    other = pipeline(SMALL.replace("k: 5", "k: 4"), "other.yaml")
    invoke("run", other, "--store", store, "--set", "stages.clusters.k=7")
    for _ in range(2):
        invoke("run", small, "--store", store, "--set", "stages.clusters.k=8")
    names = {k: folder.name for k, folder in clusters(store).items()}
    assert names.keys() == {5, 6, 7, 8}
    assert reasons(listed(invoke, store, "--keep", 0)).keys() == {names[6], names[7], names[8]}
    assert reasons(listed(invoke, store, "--keep", 1)).keys() == {names[6]}
    assert reasons(listed(invoke, store, "--keep", 2)).keys() == set()
    assert reasons(listed(invoke, store, "--keep", 1, "--older-than", "1d")).keys() == set()


def test_a_tag_keeps_what_its_run_used_until_it_is_removed(
    invoke: Invoke, small: Path, store: Path
) -> None:
    invoke("run", small, "--store", store, *K6, "--tag", "best")
    age(store, 400)
    assert "0 entries" in invoke("gc", "--store", store, "--older-than", "0d", "--delete").out
    kept = reasons(listed(invoke, store, "--kept"), "kept")
    assert kept[clusters(store)[6].name] == "tag best (small.yaml --set stages.clusters.k=6)"
    invoke("history", "--untag", "best", "--store", store)
    assert "1 entry" in invoke("gc", "--store", store).out


def test_an_edited_file_keeps_what_it_asks_for_now_and_before_for_a_while(
    invoke: Invoke, small: Path, store: Path
) -> None:
    small.write_text(SMALL.replace("k: 5", "k: 6"), encoding="utf-8")
    k5 = clusters(store)[5].name
    assert reasons(listed(invoke, store)) == {}
    assert reasons(listed(invoke, store, "--older-than", "0s")).keys() == {k5}


@pytest.mark.parametrize(
    "content",
    [
        "stages: [",
        SMALL.replace("card: drawings", "folder: /nowhere/photos").replace(", limit: 48", ""),
        SMALL.replace("cluster,", "missing_package/cluster,"),
        SMALL.replace("cluster,", "'plugin.py:Cluster',"),
        "\x00",
    ],
    ids=["broken YAML", "no images", "no such method", "plug-in that exits", "no text"],
)
def test_a_file_that_is_not_understood_keeps_all_it_ever_asked_for_and_is_named(
    invoke: Invoke, small: Path, store: Path, content: str
) -> None:
    small.with_name("plugin.py").write_text("raise SystemExit(3)", encoding="utf-8")
    small.write_text(content, encoding="utf-8")
    age(store, 400)
    result = listed(invoke, store, "--older-than", "0d", "--delete", "--kept")
    assert result["entries"] == []
    assert clusters(store).keys() == {5, 6}
    assert [entry["file"] for entry in result["unknown"]] == [str(small)]
    said = invoke("gc", "--store", store).out
    assert f"{small} is not understood now: " in said
    assert f"--forget {small}" in said
    forgotten = invoke("gc", "--store", store, "--forget", small).out
    assert "results of" not in forgotten
    assert "0 entries" not in forgotten


def test_a_file_on_a_disk_that_is_not_mounted_keeps_its_results_and_a_removed_one_does_not(
    invoke: Invoke, pipeline: Write, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    file = pipeline(SMALL, "disk/small.yaml")
    store = tmp_path / "elsewhere" / "s"
    invoke("run", file, "--store", store)
    age(store, 400)
    for folder in ("disk", None):  # an empty mount point, or none
        file.unlink(missing_ok=True)
        if folder is None:
            file.parent.rmdir()
        said = invoke("gc", "--store", store, "--delete").out
        assert "is its disk mounted?" in said
        assert clusters(store).keys() == {5}
    file.parent.mkdir()
    (file.parent / "other.txt").touch()
    said = invoke("gc", "--store", store).out
    assert "last used 400 days ago: small.yaml" in said
    assert "4 entries" in said


def test_a_renamed_file_keeps_its_results_and_so_does_a_broken_one_of_its_name(
    invoke: Invoke, small: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "pipelines").mkdir()
    moved = small.rename(tmp_path / "pipelines" / "renamed.yaml")
    age(store, 400)
    assert reasons(listed(invoke, store)).keys() == {clusters(store)[6].name}
    moved.write_text(SMALL.replace("k: 5", "k: five"), encoding="utf-8")
    result = listed(invoke, store)
    assert result["entries"] == []
    assert [entry["file"] for entry in result["unknown"]] == [str(moved)]


@pytest.mark.parametrize("smoke", [(), ("--smoke",)])
def test_smoke_results_and_those_of_a_file_as_it_is_are_kept_apart(
    invoke: Invoke, small: Path, store: Path, smoke: tuple[str, ...]
) -> None:
    invoke("run", small, "--store", store, "--smoke")
    invoke("run", small, "--store", store, "--smoke", *K6)
    age(store / "smoke" if smoke else store, 40)
    result = listed(invoke, store)
    folder = clusters(store / "smoke" if smoke else store)[6]
    assert [entry["path"] for entry in result["entries"]] == [str(folder)]


def test_members_of_a_matrix_stay_with_their_file(
    invoke: Invoke, pipeline: Write, tmp_path: Path
) -> None:
    text = "matrix: {k: [3, 4]}\n" + SMALL.replace("k: 5", "k: '${k}'")
    file, store = pipeline(text), tmp_path / "s"
    invoke("run", file, "clusters[k=3]", "--store", store)
    invoke("run", file, "--store", store, "--set", "matrix.k=[5, 4]")
    age(store, 60)
    assert clusters(store).keys() == {3, 4, 5}
    assert reasons(listed(invoke, store)).keys() == {clusters(store)[5].name}


def test_damaged_lines_lose_nothing_and_can_be_dropped(
    invoke: Invoke, small: Path, store: Path
) -> None:
    age(store, 400)
    path = history_file(store)
    intact = path.read_bytes()
    for content in (
        intact + b'{"checksum":"12',  # torn by a power cut
        intact.replace(b'"k=6"', b'"k=7"').replace(b"stages.clusters.k=6", b"stages.clusters.k=7"),
        intact + b"\xff\x00\xfe\n",
        b"[]\n" + intact,
        b"\x00" * len(intact),
    ):
        path.write_bytes(content)
        said = invoke("gc", "--store", store, "--older-than", "0d", "--delete").out
        assert "cannot be read" in said
        assert "deletes no results" in said
        assert clusters(store).keys() == {5, 6}
        assert "cannot be read" in invoke("history", "--store", store).err
        invoke("run", small, "--store", store)  # a line after half a line is a line of its own
        assert invoke("history", "--store", store).out.splitlines()[0].endswith("up to date")
    path.write_bytes(intact + b'{"checksum":"12')
    command = next(line for line in said.splitlines() if "to drop: " in line)
    invoke(*shlex.split(command.partition("to drop: transfer ")[2]))
    assert "1 entry" in invoke("gc", "--store", store).out


def test_a_store_of_an_earlier_version_keeps_everything_for_the_keeping_time(
    invoke: Invoke, small: Path, store: Path
) -> None:
    record = {
        f"clusters{k}": {"uses": "cluster", "key": folder.name}
        for k, folder in clusters(store).items()
    }
    age(store, 400)
    shutil.rmtree(store / ".history")
    (store / ".pipelines").mkdir()
    former = store / ".pipelines" / "small.json"
    former.write_text(json.dumps(record))
    assert "0 entries" in invoke("gc", "--store", store, "--delete").out
    invoke("run", small, "--store", store)
    age(store, 29)
    assert "0 entries" in invoke("gc", "--store", store, "--delete").out
    age(store, 2)
    assert "last used 31 days ago: pipeline small" in invoke("gc", "--store", store).out
    for content in ("", "{", "[]", '{"clusters": 5}', '{"clusters": {"uses": "cluster"}}'):
        former.write_text(content)
        said = invoke("gc", "--store", store, "--older-than", "0", "--delete").out
        assert ".pipelines: small.json is damaged" in said
        assert clusters(store).keys() == {5, 6}
        assert (
            "k 5 → 7"
            in invoke("run", small, "--store", store, "-n", "--set", "stages.clusters.k=7").out
        )


def test_leftovers_are_listed_and_a_checkpoint_stays_while_its_result_is_asked_for(
    invoke: Invoke, store: Path
) -> None:
    checkpoint = store / ".checkpoints" / clusters(store)[5].name
    for leftover in (".building/a", ".checkpoints/b", ".damaged/c", "cluster/.d.previous"):
        (store / leftover).mkdir(parents=True)
        (store / leftover / "file").write_bytes(1000 * b"x")
    (store / "cluster" / "d").mkdir()
    (store / "cluster" / "d" / "x").touch()
    checkpoint.mkdir()
    (checkpoint / "file").write_bytes(b"x")
    assert reasons(listed(invoke, store)).keys() == {"a", "c", ".d.previous"}
    result = listed(invoke, store, "--keep", 1)
    assert reasons(result) == {
        "a": "an unfinished result of a run that was killed",
        "b": "a checkpoint",
        "c": "a damaged result that was put aside",
        ".d.previous": "a result that a later one replaced",
    }
    assert result["bytes"] == 4000
    assert (
        "4 entries, 4,000 bytes (4.0 kB) deleted"
        in invoke("gc", "--store", store, "--keep", 1, "--delete").out
    )
    assert checkpoint.exists()
    (store / "cluster" / "d" / "x").unlink()
    (store / "cluster" / "d").rmdir()
    assert clusters(store).keys() == {5, 6}


def test_a_long_run_counts_from_its_end(invoke: Invoke, small: Path, store: Path) -> None:
    age(store, 60)
    path = history_file(store)
    lines = [body for _, body in read_lines(path)]
    path.unlink()
    for line in lines:
        assert line is not None
        if "ends" in line:
            line["ended"] = time.time() - 86_400  # it took 59 days
        append_line(path, line)
    assert "0 entries" in invoke("gc", "--store", store).out


def test_a_run_in_progress_keeps_its_own(invoke: Invoke, store: Path) -> None:
    path = history_file(store)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # the end of k = 6
    run = json.loads(lines[-2])["run"]
    lock = store / ".locks" / f"run-{run}.lock"
    with hold_lock(lock, wait=False, waiting=print, pause_point=lambda: None):
        code = "import sys; from transfer.cli import main; sys.argv[0] = 'transfer'; main()"
        words = ["gc", "--store", str(store), "--older-than", "0d", "--delete", "--kept"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
        )
        assert "0 entries" in done.stdout
        assert "is running" in done.stdout
    history = invoke("history", "--store", store).out
    assert "killed" in history
    assert "1 entry" in invoke("gc", "--store", store, "--older-than", "0d").out


def test_a_project_that_was_moved_keeps_and_loses_as_before(
    invoke: Invoke, pipeline: Write, tmp_path: Path
) -> None:
    (tmp_path / "old" / "pipelines").mkdir(parents=True)
    file = pipeline(SMALL, "old/pipelines/small.yaml")
    invoke("run", file)
    invoke("run", file, *K6)
    age(tmp_path / "old" / ".transfer", 40)
    (tmp_path / "old").rename(tmp_path / "new")
    file, store = tmp_path / "new" / "pipelines" / "small.yaml", tmp_path / "new" / ".transfer"
    result = listed(invoke, store)
    assert reasons(result).keys() == {clusters(store)[6].name}
    assert result["unknown"] == []
    assert "as last run, with --set stages.clusters.k=6" in invoke("show", file).err
    assert "up to date" in invoke("status", file).out


def test_two_at_once_delete_each_result_once(store: Path, tmp_path: Path) -> None:
    words = ["gc", "--store", str(store), "--older-than", "0d", "--delete", "--json"]
    command = [sys.executable, "-m", "transfer", *words]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) for _ in range(2)]
    for process in both:
        out, _ = process.communicate()
        assert process.returncode == 0
        assert len(json.loads(out)["entries"]) <= 1
    assert clusters(store).keys() == {5}


@pytest.mark.parametrize("value", ["30", "d", "-1d", "1 month", "", "soon"])
def test_an_age_needs_a_unit(invoke: Invoke, tmp_path: Path, value: str) -> None:
    said = invoke("gc", "--store", tmp_path, f"--older-than={value}", check=2).err
    assert "write 30d, 12h or 2w" in said


def test_a_store_that_cannot_be_written_can_be_listed(
    invoke: Invoke, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkdir", _read_only)
    monkeypatch.setattr(os, "rename", _read_only)
    assert "1 entry" in invoke("gc", "--store", store, "--older-than", "0d").out


def _read_only(path: str, *_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system", path)


def copy_asking_for_six(small: Path, name: str = "copy.yaml") -> Path:
    """A copy of a pipeline file, never run, that asks for what `--set` made."""
    file = small.with_name(name)
    file.write_text(small.read_text(encoding="utf-8").replace("k: 5", "k: 6"), encoding="utf-8")
    return file


@pytest.mark.parametrize("beside", ["lock", "folder", "link", "unreadable"])
def test_a_file_that_cannot_be_read_does_not_hide_those_beside_it(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path, beside: str
) -> None:
    small = pipeline(SMALL, "small.yaml")
    store = tmp_path / ".transfer"
    invoke("run", small, "--store", store, "--set", "stages.clusters.k=6")
    copy_asking_for_six(small)
    if beside == "lock":  # Emacs' lock of a file that is being edited
        (tmp_path / ".#small.yaml").symlink_to("me@host.999:1")
    elif beside == "folder":
        (tmp_path / "x.yaml").mkdir()
    elif beside == "link":
        (tmp_path / "x.yaml").symlink_to("nowhere.yaml")
    else:
        (tmp_path / "x.yaml").write_bytes(b"stages: \xff")
    invoke("gc", "--store", store, "--older-than", "0", "--delete")
    assert set(clusters(store)) == {6}


def test_files_beside_a_link_to_the_store_count(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    small = pipeline(SMALL, "small.yaml")
    disk = tmp_path / "disk" / "store"
    disk.mkdir(parents=True)
    store = tmp_path / ".transfer"
    store.symlink_to(disk)
    invoke("run", small, "--store", store, "--set", "stages.clusters.k=6")
    copy_asking_for_six(small)
    invoke("gc", "--store", store, "--older-than", "0", "--delete")
    assert set(clusters(disk)) == {6}


@pytest.mark.parametrize("form", ["flow", "mark"])
def test_pipeline_files_of_other_forms_count(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    small = pipeline(SMALL, "small.yaml")
    store = tmp_path / ".transfer"
    invoke("run", small, "--store", store, "--set", "stages.clusters.k=6")
    file = copy_asking_for_six(small)
    if form == "flow":
        from ruamel.yaml import YAML

        value = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
        file.write_text(json.dumps(value), encoding="utf-8")
    else:
        body = file.read_text(encoding="utf-8")
        head, _, stages = body.partition("stages:\n")
        file.write_text(f"stages:\n{stages}{head}", encoding="utf-8-sig")
    assert "cached" in invoke("status", file, "clusters", "--store", store).out
    invoke("gc", "--store", store, "--older-than", "0", "--delete")
    assert set(clusters(store)) == {6}


def test_a_copy_that_cannot_be_planned_is_named(
    invoke: Callable[..., Said], pipeline: Callable[..., Path], tmp_path: Path
) -> None:
    small = pipeline(SMALL, "small.yaml")
    store = tmp_path / ".transfer"
    invoke("run", small, "--store", store)
    file = copy_asking_for_six(small)
    file.write_text(file.read_text(encoding="utf-8") + "x: [\n", encoding="utf-8")
    said = invoke("gc", "--store", store).out
    assert f"{file} is not understood now: " in said
    assert "what it asks for besides is unknown" in said
