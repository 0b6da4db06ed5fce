"""The README's first command, from an empty store: minutes, peak memory, and the probe beside random weights'.

    python -m benchmarks.main_job [--seeds 0 1 2] [--set data=...] [--folder PHOTOS.h5]

Each seed is a process with a store of its own. `--set` is handed on to `transfer run`.
`--folder` first writes the images of an HDF5 set as a folder of files, and runs on that.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "pipelines" / "jigsawpp_vgg_to_alexnet.yaml"


def write_folder(source: Path, target: Path, limit: int) -> None:
    """The images of an HDF5 set as `<split>/<class>/<number>.jpg`, at most `limit` a split, evenly spread."""
    import h5py

    with h5py.File(source, "r") as file:
        names = json.loads(file.attrs["class_names"])
        for split in ("train", "test"):
            group = file[split]
            offsets, labels = group["offsets"][:], group["labels"][:]
            step = max(1, len(labels) // limit)
            for row in range(0, len(labels), step):
                path = target / split / names[labels[row]] / f"{row:06}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(
                    io.BytesIO(group["jpeg"][offsets[row] : offsets[row + 1]].tobytes()).getvalue()
                )


def run(seed: int, sets: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as store:
        words = [
            sys.executable,
            "-m",
            "transfer",
            "run",
            str(FILE),
            "--store",
            store,
            f"--set=seed={seed}",
        ]
        words += [f"--set={one}" for one in sets]
        start = time.perf_counter()
        process = subprocess.Popen(words)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(os.waitstatus_to_exitcode(status))
        shown = [
            sys.executable,
            "-m",
            "transfer",
            "show",
            str(FILE),
            "--store",
            store,
            "--json",
            f"--set=seed={seed}",
        ]
        found = subprocess.run(
            [*shown, *(f"--set={one}" for one in sets)], capture_output=True, text=True, check=True
        )
        scores = {}
        for stage in json.loads(found.stdout):
            if stage.get("produces") == "Scores":
                scores[stage["stage"]] = json.loads(
                    next(Path(store).glob(f"**/{stage['key']}/scores.json")).read_text(
                        encoding="utf-8"
                    )
                )["figures"]
        return {
            "minutes": seconds / 60,
            "MB": usage.ru_maxrss / 1024,
            "target": scores["linear"]["best"],
            "random": scores["linear_random"]["best"],
            "knn": scores["knn"]["knn"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--limit", type=int, default=2000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sets = asked.sets
        if asked.folder:
            write_folder(asked.folder, Path(place) / "photos", asked.limit)
            sets = [*sets, f"data={place}/photos"]
        rows = []
        for seed in asked.seeds:
            rows.append(run(seed, sets))
            print(
                f"seed {seed}: "
                + ", ".join(f"{name} {value:.2f}" for name, value in rows[-1].items()),
                flush=True,
            )
    gains = [row["target"] - row["random"] for row in rows]
    print(
        f"target - random, best layer: mean {statistics.mean(gains):.2f} points, each {[round(g, 2) for g in gains]}"
    )


if __name__ == "__main__":
    main()
