"""What `prepare` costs beside reading and writing features and its matrix products, and its memory.

    python benchmarks/prepare.py [--rows 1000000 --width 512 --components 512 --rounds 3]

Features are float16 in HDF5 with checksums, and the steps are [l2, whiten]. One part is moving: all
blocks are read twice (to fit, and to apply), and as many values are written. The other is products,
on blocks in memory: the covariance in float64, and the map in float32. They take turns with the
whole stage, which is a process of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import count as counted
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import stage_work, started_machine
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import in_own_process, seconds_of, status_bytes, take_turns
from stages.prepare import Prepare
from transfer.artifacts import Features
from transfer.storage.hdf5_tables import TableWriter, encode_strings


def write_features(folder: Path, rows: int, width: int) -> None:
    """Write features with directions of different variance, a block at a time.

    Args:
        folder: Where they are written.
        rows: How many.
        width: Values of each.
    """
    folder.mkdir()
    random = np.random.default_rng(0)
    scales = np.geomspace(1, 0.01, width, dtype=np.float32)
    facts = {"space": {"model": "m"}, "layer": "conv5", "images": "i", "preparation": []}
    ids = encode_strings([f"{row:012}" for row in range(rows)])
    columns = {"features": ((width,), "float16"), "ids": ((), ids.dtype.str)}
    with TableWriter(folder / "features.h5", rows, columns, **facts) as table:
        for first in range(0, rows, 8192):
            block = random.standard_normal((min(8192, rows - first), width), dtype=np.float32)
            table.append(features=(block * scales + 0.1).astype(np.float16))
        table.append(ids=ids)


def prepare(options: argparse.Namespace) -> None:
    """Run the stage in this process, and print its seconds and this process's peak in MB."""
    features = Features(Path(options.features))
    with tempfile.TemporaryDirectory(dir=features.folder.parent) as place:
        runtime = started_machine(options.smoke)
        work = stage_work(Path(place), runtime, inputs={"features": features})
        stage = Prepare(features="features", components=options.components)
        print(seconds_of(lambda: stage.run(work)), status_bytes("VmHWM") / 1e6)


class Parts:
    """Reading, writing and products, without the stage."""

    def __init__(self, features: Features, components: int):
        self.features, self.components = features, components
        self.number = counted()

    def measure(self) -> dict[str, float]:
        """Seconds of reading twice and writing, and of the products."""
        width = self.features.shape[1]
        matrix = torch.randn(width, self.components)
        product = torch.zeros(width, width, dtype=torch.float64)
        seconds = {"moving": seconds_of(self.read), "products": 0.0}
        path = self.features.folder.parent / f"copy{next(self.number)}.h5"
        columns = {"features": ((self.components,), "float16")}
        with TableWriter(path, len(self.features), columns) as table:
            blocks = self.features.blocks()
            while True:
                start = time.perf_counter()
                _, block = next(blocks, (0, None))
                seconds["moving"] += time.perf_counter() - start
                if block is None:
                    break
                rows = torch.from_numpy(block)
                double = rows.double()
                start = time.perf_counter()
                product.addmm_(double.T, double)
                mapped = rows @ matrix
                seconds["products"] += time.perf_counter() - start
                start = time.perf_counter()
                table.append(features=mapped.half().numpy())
                seconds["moving"] += time.perf_counter() - start
        path.unlink()
        return seconds

    def read(self) -> None:
        for _ in self.features.blocks():
            pass


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--components", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", help=argparse.SUPPRESS)
    options = parsed(parser, rows=500, width=16, components=8, rounds=1)
    if options.features:
        prepare(options)
        return
    started_machine(options.smoke)
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "features"
        write_features(folder, options.rows, options.width)
        words = ["--features", folder, "--components", options.components]
        words += ["--smoke"] if options.smoke else []

        def whole() -> dict[str, float]:
            seconds, peak = in_own_process(__file__, *words)
            return {"prepare": seconds, "peak": peak}

        parts = Parts(Features(folder), options.components)
        sides = {"whole": whole, "parts": parts.measure}
        rounds = take_turns(sides, options.rounds, warm_up=False)
        report.compare("prepare", "s", rounds, "prepare", "moving", "products")
        report.add("moving: reading twice and writing", rounds.median("moving"), "s")
        report.add("products", rounds.median("products"), "s")
        report.add("peak of prepare", max(rounds.values["peak"]), "MB")


if __name__ == "__main__":
    main()
