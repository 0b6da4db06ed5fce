"""How long a command takes that finds nothing to do, beside `dvc repro` on a chain of six stages if dvc is on the PATH.

    python -m benchmarks.nothing_to_do

The commands take turns, ten rounds in one run; medians are printed.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "pipelines" / "jigsawpp_vgg_to_alexnet.yaml"
ROUNDS = 10


def seconds(words: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(
        words, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def dvc_chain(folder: Path) -> list[str] | None:
    """Six stages that copy a file on, made once."""
    if shutil.which("dvc") is None:
        return None
    folder.mkdir()
    stages = "".join(
        f"  s{i}:\n    cmd: cp f{i - 1} f{i}\n    deps: [f{i - 1}]\n    outs: [f{i}]\n"
        for i in range(1, 7)
    )
    (folder / "f0").write_text("0", encoding="utf-8")
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}", encoding="utf-8")
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=folder, check=True)
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True)
    return ["dvc", "repro"]


def main() -> None:
    transfer = shutil.which(
        "transfer", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = [transfer, "run", str(FILE), "--smoke", "--store", str(folder / "store")]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        commands = {
            "run": run,
            "status": [transfer, "status", *run[2:]],
            "--help": [transfer, "--help"],
        }
        dvc = dvc_chain(folder / "dvc")
        if dvc:
            commands["dvc repro"] = dvc
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, words in commands.items():
                taken[name].append(
                    seconds(words, folder / "dvc" if name.startswith("dvc") else folder)
                )
        medians = {name: statistics.median(values) for name, values in taken.items()}
        for name, median in medians.items():
            print(f"{name:<10} {median:.3f} s (median of {ROUNDS}, least {min(taken[name]):.3f})")
        if dvc:
            print(f"run / dvc repro: {medians['run'] / medians['dvc repro']:.2f}")


if __name__ == "__main__":
    main()
