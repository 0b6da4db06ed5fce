"""What `prepare` costs beside reading and writing the features and its matrix products, and the memory that it takes.

    python benchmarks/prepare.py [--rows 1000000 --width 512 --components 512 --rounds 3]

Features are float16 in HDF5 with checksums, steps [l2, whiten]. The parts: reading all blocks twice (once to fit, once
to apply), writing as many values, and on blocks that lie in memory the covariance in float64 and the map in float32.
They take turns with the whole stage, round by round; peaks are of the stage's own process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stages.prepare import Prepare
from tests.stages.handmade import make_work
from transfer.artifacts import Features
from transfer.storage.hdf5_tables import TableWriter, encode_strings
from transfer.utils.runtime import Runtime


def write(folder: Path, rows: int, width: int) -> None:
    """Features with directions of different variance, a block at a time."""
    folder.mkdir()
    random = np.random.default_rng(0)
    scales = np.geomspace(1, 0.01, width, dtype=np.float32)
    facts = {"space": {"model": "m"}, "layer": "conv5", "images": "i", "preparation": []}
    columns = {"features": ((width,), "float16"), "ids": ((), "S12")}
    ids = encode_strings([f"{row:012}" for row in range(rows)])
    columns["ids"] = ((), ids.dtype.str)
    with TableWriter(folder / "features.h5", rows, columns, **facts) as table:
        for first in range(0, rows, 8192):
            block = (
                random.standard_normal((min(8192, rows - first), width), dtype=np.float32) * scales
                + 0.1
            )
            table.append(features=block.astype(np.float16))
        table.append(ids=ids)


def whole(place: str, components: str, number: str) -> None:
    """The stage, in a process of its own: prints its seconds and the peak of its memory in MB."""
    runtime = Runtime()
    runtime.configure_threads()
    folder = Path(place)
    work = make_work(folder / f"whole-{number}", {}, {"features": Features(folder / "features")})
    work.runtime = runtime
    start = time.perf_counter()
    Prepare(features="features", components=int(components)).run(work)
    took = time.perf_counter() - start
    # Not getrusage: a process that was forked counts its parent's peak as its own.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    print(took, int(status.partition("VmHWM:")[2].split()[0]) / 1024)


def parts(folder: Path, width: int, components: int, number: int) -> tuple[float, float]:
    """Seconds of reading twice and writing, and of the products."""
    features, matrix = Features(folder / "features"), torch.randn(width, components)
    product, room = torch.zeros(width, width, dtype=torch.float64), None
    moving = computing = 0.0
    columns = {"features": ((components,), "float16")}
    start = time.perf_counter()
    for _ in features.blocks():
        pass
    moving += time.perf_counter() - start
    with TableWriter(folder / f"copy-{number}.h5", len(features), columns) as table:
        blocks = features.blocks()
        while True:
            start = time.perf_counter()
            _, block = next(blocks, (0, None))
            moving += time.perf_counter() - start
            if block is None:
                break
            rows = torch.from_numpy(block)
            room = torch.empty(rows.shape, dtype=torch.float64) if room is None else room
            double = room[: len(rows)].copy_(rows)
            start = time.perf_counter()
            product.addmm_(double.T, double)
            mapped = rows @ matrix
            computing += time.perf_counter() - start
            start = time.perf_counter()
            table.append(features=mapped.half().numpy())
            moving += time.perf_counter() - start
    (folder / f"copy-{number}.h5").unlink()
    return moving, computing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--whole", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.whole:
        whole(*asked.whole)
        return
    runtime = Runtime()
    runtime.configure_threads()
    ratios, seconds, peaks, movings, computings = [], [], [], [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write(folder / "features", asked.rows, asked.width)
        for number in range(asked.rounds):
            command = [
                sys.executable,
                __file__,
                "--whole",
                place,
                str(asked.components),
                str(number),
            ]
            took, peak = map(
                float,
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(),
            )
            moving, computing = parts(folder, asked.width, asked.components, number)
            for made in (folder / f"whole-{number}").rglob("*.h5"):
                made.unlink()
            (
                seconds.append(took),
                peaks.append(peak),
                movings.append(moving),
                computings.append(computing),
            )
            ratios.append(took / (moving + computing))
    middle = statistics.median
    print(
        f"prepare of {asked.rows:,} x {asked.width}, l2 and whiten to {asked.components}: {middle(seconds):.1f} s; "
        f"reading twice and writing {middle(movings):.1f} s + products {middle(computings):.1f} s: ratio "
        f"{middle(ratios):.2f}; peak {max(peaks):,.0f} MB (medians of {asked.rounds}; {runtime.threads} threads, torch "
        f"{torch.__version__})"
    )


if __name__ == "__main__":
    main()
