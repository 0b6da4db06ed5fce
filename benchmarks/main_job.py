"""The README's first command, from an empty store: minutes, peak memory, and the target's probe.

    python benchmarks/main_job.py [--seeds 0 1 2] [--set data=...] [--folder PHOTOS.h5]

The probe of the target stands beside that of random weights. Each seed is a process with a store of
its own. `--set` is handed on to `transfer run`. `--folder` first writes the images of an HDF5 set
as a folder of files, and runs on that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.common import SHIPPED, SMALL, stored_jpegs
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import Rounds, take_turns


def write_folder(source: Path, target: Path, limit: int) -> None:
    """Write the images of an HDF5 set as `<split>/<class>/<number>.jpg`.

    Args:
        source: The HDF5 file.
        target: The folder.
        limit: Images of a split at most, evenly spread.
    """
    for split in ("train", "test"):
        for row, label, encoded in stored_jpegs(source, split, limit):
            path = target / split / label / f"{row:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)


def run(seed: int, sets: list[str], smoke: bool) -> dict[str, float]:
    """Run the pipeline from an empty store, and return what it took and scored.

    Args:
        seed: The pipeline's seed.
        sets: What `--set` hands on.
        smoke: Whether `transfer` makes a smoke run.
    """
    transfer = [sys.executable, "-m", "transfer"]
    with tempfile.TemporaryDirectory() as store:
        words = [str(SHIPPED), "--store", store, *(SMALL if smoke else [])]
        words += [f"--set={text}" for text in (f"seed={seed}", *sets)]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*transfer, "run", *words, *(["--threads", "1"] if smoke else [])]
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(os.waitstatus_to_exitcode(status))
        command = [*transfer, "show", *words, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        scores = {}
        for stage in json.loads(done.stdout):
            if stage.get("produces") == "Scores":
                path = next(Path(store).glob(f"**/{stage['key']}/scores.json"))
                scores[stage["stage"]] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return {
        "minutes": seconds / 60,
        "peak": usage.ru_maxrss / 1024,
        "target": scores["linear"]["best"],
        "random weights": scores["linear_random"]["best"],
        "nearest neighbors": scores["knn"]["knn"],
    }


def report_seed(rounds: Rounds, seed: int, report: Report) -> None:
    """Report the figures of one seed.

    Args:
        rounds: Its one round.
        seed: The seed.
        report: Where they go.
    """
    report.add(f"seed {seed}: time", rounds.median("minutes"), "minutes")
    report.add(f"seed {seed}: peak memory", rounds.median("peak"), "MB")
    probe = f"seed {seed}: linear probe, best layer"
    report.compare(probe, "%", rounds, "target", "random weights")
    report.add(f"seed {seed}: nearest neighbors", rounds.median("nearest neighbors"), "%")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--limit", type=int, default=2000, help="images of a split in the folder")
    options = parsed(parser, seeds=[0])
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        sets = list(options.sets)
        if options.folder:
            write_folder(options.folder, Path(place) / "photos", options.limit)
            sets.append(f"data={place}/photos")
        for seed in options.seeds:
            side = partial(run, seed, sets, options.smoke)
            report_seed(take_turns({"run": side}, 1, warm_up=False), seed, report)


if __name__ == "__main__":
    main()
