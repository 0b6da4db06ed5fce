from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.errors import CorruptArtifact, LockHeld
from transfer.storage.manifest import MANIFEST, Manifest, describe_files, key_for
from transfer.storage.store import Store

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def manifest(key: str, files: dict[str, dict[str, object]], **changes: object) -> Manifest:
    facts = {
        "stage": "cluster",
        "key": key,
        "produces": "Clusters",
        "identity": {"k": 3},
        "inputs": {},
        "files": files,
        "figures": {},
        "environment": {},
        "seconds": 1.0,
        "source": "",
    }
    return Manifest(**{**facts, **changes})


def publish(store: Store, key: str = "a" * 20, content: str = "centroids") -> Path:
    building = store.begin(key)
    (building / "clusters.h5").write_text(content, encoding="utf-8")
    store.publish(building, manifest(key, describe_files(building)))
    return store.folder("cluster", key)


def hold(store: Store, key: str, wait: bool = False, waiting: Any = print) -> Any:
    return store.lock(key, wait=wait, waiting=waiting, pause_point=lambda: None)


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_key_does_not_depend_on_the_order_of_options(identity: dict[str, object]) -> None:
    assert key_for(identity) == key_for(dict(reversed(identity.items())))
    assert len(key_for(identity)) == 20


@given(st.dictionaries(st.text(), JSON, max_size=5), st.text(), JSON)
def test_a_key_changes_with_any_option(
    identity: dict[str, object], name: str, value: object
) -> None:
    changed = {**identity, name: value}
    same = json.dumps(changed, sort_keys=True) == json.dumps(identity, sort_keys=True)
    assert (key_for(changed) == key_for(identity)) == same


def test_keys_never_drift() -> None:
    assert (
        key_for({"stage": "cluster", "options": {"k": 200, "floor": 1e-4}, "name": "é"})
        == "2753dc576822494973e1"
    )


def test_what_is_published_is_found_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store)
    published = store.find("cluster", "a" * 20)
    assert published is not None
    store.check(folder, published, thorough=True)
    assert published.bytes == len("centroids")
    assert list(store.artifacts()) == [folder]
    assert not list((tmp_path / ".building").iterdir())
    assert not list((tmp_path / ".checkpoints").iterdir())


def test_what_has_no_manifest_is_never_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store)
    (folder / MANIFEST).unlink()
    assert store.find("cluster", "a" * 20) is None


def test_the_old_result_stands_until_the_new_one_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    folder = publish(store, content="old")
    renames, rename = [], os.rename

    def killed_after_one(source: str, target: str) -> None:
        if renames:
            raise KeyboardInterrupt
        renames.append(source)
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        publish(store, content="new")
    monkeypatch.undo()
    assert store.find("cluster", "a" * 20) is not None
    assert (folder / "clusters.h5").read_text() == "old"
    publish(store, content="new")
    assert (folder / "clusters.h5").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / MANIFEST).write_text("{}"),
        lambda folder: (folder / MANIFEST).write_text("[1"),
        lambda folder: (folder / MANIFEST).write_bytes(b"\x80\x04"),
        lambda folder: (folder / MANIFEST).write_text(
            (folder / MANIFEST).read_text().replace('"k": 3', '"k": 4')
        ),
        lambda folder: (folder / "clusters.h5").unlink(),
        lambda folder: (folder / "clusters.h5").write_text("longer than before"),
    ],
)
def test_a_manifest_or_files_that_do_not_fit_are_damage(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    damage(publish(store))
    with pytest.raises(CorruptArtifact):
        store.find("cluster", "a" * 20)


def test_a_changed_byte_is_damage_when_the_files_are_compared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = publish(store)
    (folder / "clusters.h5").write_text("centroidz")
    published = store.find("cluster", "a" * 20)
    assert published is not None
    with pytest.raises(CorruptArtifact, match=r"clusters\.h5"):
        store.check(folder, published)


def test_a_manifest_of_another_key_is_damage(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store).rename(store.folder("cluster", "b" * 20))
    with pytest.raises(CorruptArtifact, match="belongs to"):
        store.find("cluster", "b" * 20)


def test_a_lock_is_told_refused_and_dropped_with_its_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from transfer.storage.store import Store\n"
        f"store = Store(Path({str(tmp_path)!r}))\n"
        "with store.lock('k', wait=True, waiting=print, pause_point=lambda: None):\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(LockHeld, match=f"process {other.pid}"), hold(store, "k"):
        pass
    holders: list[str] = []

    def waiting(who: str) -> None:
        holders.append(who)
        other.kill()  # as a crash would: the kernel drops the lock

    with hold(store, "k", wait=True, waiting=waiting):
        assert str(other.pid) in holders[0]
    other.wait()


def test_what_is_put_aside_can_be_looked_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    aside = store.put_aside(publish(store))
    assert (aside / "clusters.h5").read_text() == "centroids"
    assert store.find("cluster", "a" * 20) is None
    assert list(store.artifacts()) == []


def test_the_digest_follows_the_bytes_and_not_the_times() -> None:
    one = manifest("k", {"a": {"sha256": "1", "size": 1}}, seconds=1.0)
    assert (
        one.digest
        == manifest(
            "k", {"a": {"sha256": "1", "size": 1}}, seconds=2.0, environment={"x": 1}
        ).digest
    )
    assert one.digest != manifest("k", {"a": {"sha256": "2", "size": 1}}).digest
    assert one.digest != manifest("k", {"b": {"sha256": "1", "size": 1}}).digest
