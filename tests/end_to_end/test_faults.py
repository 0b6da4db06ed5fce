"""Runs that are killed, stopped, damaged, short of disk space, or not alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PIPELINE = """
name: faults
data: {card: drawings, limit: 96}
stages:
  pretext:
    uses: pretext/jigsawpp
    backbone: conv4
    epochs: 12
    batch_size: 16
    permutations: 20
    shift: 1
    embedding_dim: 16
    hidden_dim: 32
  features: {uses: extract/network, model: pretext, layer: conv3, pool: 2}
  prepared: {uses: prepare, features: features, steps: [l2, whiten], components: 8}
  clusters: {uses: cluster, features: prepared, k: 6, n_init: 2, iterations: 5}
  labels: {uses: assign, features: prepared, clusters: clusters}
  target:
    uses: target/pseudo_label
    labels: labels
    backbone: conv4
    epochs: 12
    batch_size: 16
    crop: 0.5
  linear: {uses: evaluate/linear, model: target, epochs: 3}
  knn: {uses: evaluate/knn, model: target, k: 5}
"""
KILLS = 15


class Folder:
    """A pipeline file with a store of its own."""

    def __init__(self, folder: Path):
        self.file, self.store = folder / "faults.yaml", folder / "store"
        folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(PIPELINE, encoding="utf-8")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "transfer",
            "run",
            str(self.file),
            "--store",
            str(self.store),
            *words,
        ]
        command += ["--threads", "1", "--device", "cpu"]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            # A shell makes what it runs in the background deaf to Ctrl-C, and that is handed down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in out + err, out + err
        assert process.returncode == code, out + err
        return out + err

    def transfer(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "transfer", *words, "--store", str(self.store)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def artifacts(self) -> dict[str, str]:
        """Map each file of the artifacts to its digest, without manifests, which hold times."""
        files = (
            path
            for path in self.store.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        )
        return {
            str(path.relative_to(self.store)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if not any(part.startswith(".") for part in path.relative_to(self.store).parts)
        }


def next_line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints; empty at its end."""
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("undisturbed"))
    folder.run()
    return folder


@pytest.fixture
def finished(undisturbed: Folder, tmp_path: Path) -> Folder:
    """A copy of the finished run, to damage."""
    folder = Folder(tmp_path / "copy")
    shutil.copytree(undisturbed.store, folder.store)
    return folder


def test_a_run_killed_at_random_moments_goes_on_and_ends_with_the_same_bytes(
    undisturbed: Folder, tmp_path: Path
) -> None:
    folder, moments = Folder(tmp_path / "killed"), random.Random(0)
    killed = 0
    for _ in range(4 * KILLS):
        process = folder.start("--save-every", "0")
        # Start-up alone takes seconds, and kills there test little: wait until the run is at work.
        assert next_line(process), process.communicate()
        time.sleep(moments.uniform(1.5, 4.5))
        process.kill()
        process.communicate()
        if process.returncode == 0:  # it came to its end before: start again
            shutil.rmtree(folder.store)
            continue
        assert process.returncode == -signal.SIGKILL
        killed += 1
        if killed == KILLS:
            break
    assert killed == KILLS
    folder.run()
    assert folder.artifacts() == undisturbed.artifacts()


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_a_checkpoint_from_which_the_same_command_goes_on(
    number: signal.Signals, code: int, jobs: str, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "stopped")
    longer = PIPELINE.replace(
        "epochs: 12\n    batch_size: 16\n    perm", "epochs: 4000\n    batch_size: 16\n    perm"
    )
    folder.file.write_text(longer, encoding="utf-8")
    process = folder.start("-j", jobs, "--save-every", "1")
    deadline = time.monotonic() + 120
    while not list(folder.store.glob(".checkpoints/*/training.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "stopped" in err
    assert "To resume: transfer run" in err
    assert "Traceback" not in out + err
    status = json.loads(folder.transfer("status", str(folder.file), "--json"))
    pretext = next(stage for stage in status["stages"] if stage["stage"] == "pretext")
    assert pretext["status"] == "resumed"
    assert "of 4000" in pretext["reason"]
    # It goes on from there: the same command, and not much later another signal.
    process = folder.start("-j", jobs)
    while "resumed" not in next_line(process):
        assert process.poll() is None
    process.send_signal(number)
    assert process.wait(timeout=120) == code


def flip(path: Path, at: float) -> None:
    """One bit of one byte, the time stamp kept."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


READERS = {  # each file of each kind of artifact, and a stage that reads it
    "images/*/images.npy": "features linear",
    "images/*/index.h5": "features linear",
    "images/*/images.json": "features linear",
    "images/*/manifest.json": "features linear",
    "pretext/*/*/model.safetensors": "features",
    "pretext/*/*/model.json": "features",
    "pretext/*/*/history.json": "features",
    "pretext/*/*/manifest.json": "features",
    "extract/*/*/features.h5": "prepared",
    "prepare/*/features.h5": "clusters",
    "prepare/*/preparation.h5": "clusters",
    "cluster/*/clusters.h5": "labels",
    "cluster/*/manifest.json": "labels",
    "assign/*/labels.h5": "target",
    "assign/*/labels.csv": "target",
    "target/*/*/model.safetensors": "knn",
    "target/*/*/model.json": "linear",
}


@pytest.mark.parametrize(("pattern", "reader"), READERS.items())
def test_a_flipped_byte_is_reported_when_it_is_read_and_its_producer_runs_again(
    pattern: str, reader: str, finished: Folder, undisturbed: Folder
) -> None:
    victim = sorted(finished.store.glob(pattern))[0]
    flip(victim, 0.6)
    assert victim.name in finished.transfer("verify", str(finished.file), code=4)
    message = finished.run(*reader.split(), "-f")
    assert "damaged" in message
    assert victim.name in message
    finished.transfer("verify", str(finished.file))
    assert finished.artifacts() == undisturbed.artifacts()


def test_verify_names_a_flipped_byte_in_scores(finished: Folder) -> None:
    flip(next(finished.store.glob("evaluate/linear/*/scores.json")), 0.5)
    assert "scores.json" in finished.transfer("verify", str(finished.file), code=4)


def test_a_missing_and_a_shortened_file_are_damage_too(finished: Folder) -> None:
    next(finished.store.glob("assign/*/labels.csv")).unlink()
    model = next(finished.store.glob("target/*/*/model.safetensors"))
    model.write_bytes(model.read_bytes()[:-10])
    assert "damaged" in finished.run()
    finished.transfer("verify", str(finished.file))


@pytest.mark.parametrize("runs", [2, 4])
def test_identical_runs_at_once_make_each_stage_exactly_once(
    runs: int, undisturbed: Folder, tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "together")
    processes = [folder.start() for _ in range(runs)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * runs, ends
    done = [
        line.split(":")[0] for out, _ in ends for line in out.splitlines() if ": done in " in line
    ]
    assert sorted(done) == sorted(set(done))
    assert len(done) == len(
        json.loads(folder.transfer("status", str(folder.file), "--json"))["stages"]
    )
    assert folder.artifacts() == undisturbed.artifacts()


def test_a_held_stage_is_waited_for_by_name_or_refused_with_no_wait(finished: Folder) -> None:
    from filelock import FileLock

    status = json.loads(finished.transfer("status", str(finished.file), "--json"))
    key = next(stage["key"] for stage in status["stages"] if stage["stage"] == "knn")
    with FileLock(finished.store / ".locks" / f"{key}.lock"):
        assert "held by" in finished.run("knn", "-f", "--no-wait", code=75)
        process = finished.start("knn", "-f")
        line = ""
        while "waiting for" not in line:
            line = next_line(process)
            assert line, process.communicate()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting a small disk takes root"
)
def test_a_full_disk_stops_the_stage_and_leaves_every_earlier_artifact_whole(
    tmp_path: Path,
) -> None:
    folder = Folder(tmp_path / "full")
    folder.store.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder.store)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        message = folder.run(code=1)
        assert "disk is full" in message
        assert "intact" in folder.transfer("verify", str(folder.file))
        subprocess.run(["mount", "-o", "remount,size=64m", str(folder.store)], check=True)
        folder.run()
    finally:
        subprocess.run(["umount", str(folder.store)], check=False)


def test_crafted_files_give_errors_and_load_no_pickle(finished: Folder, tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    for pattern in (
        "target/*/*/model.safetensors",
        "images/*/images.npy",
        "assign/*/labels.h5",
        "prepare/*/manifest.json",
    ):
        next(finished.store.glob(pattern)).write_bytes(pickle.dumps(Bomb()))
    for checkpoint in (
        "training.safetensors",
        "progress.json",
        "try-0.npz",
        "pixels",
        "part-00000.npy",
    ):
        for stage in json.loads(finished.transfer("status", str(finished.file), "--json"))[
            "stages"
        ]:
            path = finished.store / ".checkpoints" / stage["key"] / checkpoint
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(Bomb()))
    assert "damaged" in finished.run("-f")
    assert not (tmp_path / "exploded").exists()
