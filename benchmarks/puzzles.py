"""Jigsaw++: time to the same accuracy with one puzzle an image, as published, and with eight of the same embeddings.

    python -m benchmarks.puzzles [--minutes 4]

Both train the shipped pipeline's network on `drawings`, one after the other, each for so long; printed are the minutes
to each accuracy on the permutations (mean of the last 20 steps).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.training import pretext
from stages.pretext.jigsawpp import JigsawPP
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Images
from transfer.datasets.drawings import render
from transfer.stage.base import DatasetInfo
from transfer.training.trainer import train

WANTED = (0.02, 0.1, 0.25, 0.5, 0.65)
WINDOW = 20


class OutOfTime(Exception):
    """Ends a training from within its loss."""


class Stopwatch:
    """A loss that notes when each accuracy was reached first."""

    def __init__(self, task: JigsawPP, minutes: float):
        self.task, self.minutes = task, minutes
        self.reached: dict[float, float] = {}
        self.seen: list[float] = []
        self.start = time.perf_counter()

    def __call__(self, network: Any, batch: Any, rng: Any) -> Any:
        value, figures = self.task.loss(network, batch, rng)
        self.seen.append(float(figures["accuracy"]))
        passed = (time.perf_counter() - self.start) / 60
        for wanted in WANTED:
            if len(self.seen) >= WINDOW and self.recent >= wanted:
                self.reached.setdefault(wanted, passed)
        if passed > self.minutes or len(self.reached) == len(WANTED):
            raise OutOfTime
        return value, figures

    @property
    def recent(self) -> float:
        return sum(self.seen[-WINDOW:]) / WINDOW

    def told(self) -> str:
        rate = len(self.seen) * self.task.batch_size / (time.perf_counter() - self.start)
        times = ", ".join(
            f"{wanted:.0%} after {minutes:.2f} min" for wanted, minutes in self.reached.items()
        )
        puzzles = self.task.puzzles_per_image
        return f"{puzzles} puzzles an image: {rate:.0f} images/s, {times or 'none'}; last {self.recent:.1%}"


def measure(images: Images, folder: Path, puzzles: int, minutes: float) -> str:
    work = make_work(folder, {"images": images}, precision_name="auto", requested_threads=None)
    work.runtime.configure_threads()
    task = pretext().model_copy(
        update={"puzzles_per_image": puzzles, "epochs": 1000, "schedule": "constant"}
    )
    stopwatch = Stopwatch(task, minutes)
    try:
        train(
            work,
            task,
            task._build(DatasetInfo(64, len(images), 0), work.seed_for("weights")),
            stopwatch,
            images,
        )
    except OutOfTime:
        return stopwatch.told()
    raise AssertionError("the training ended before its time")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        images = pack_images(Path(place) / "set", render.render("unlabeled", range(8000)))
        for puzzles in (8, 1):
            print(measure(images, Path(place) / str(puzzles), puzzles, asked.minutes), flush=True)


if __name__ == "__main__":
    main()
