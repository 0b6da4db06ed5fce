"""Jigsaw++: time to the same accuracy with one puzzle an image, as published, and with eight.

    python benchmarks/puzzles.py [--minutes 4]

Eight puzzles have the same embeddings. Both train the shipped pipeline's network on `drawings`, one
after the other, each for so long. The figures are minutes to each accuracy on the permutations,
which is the mean of the last 20 steps.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import (
    packed_set,
    pretext_network,
    shipped_jigsaw,
    stage_work,
    started_machine,
)
from benchmarks.history import Report, options_parser, parsed
from stages.pretext.jigsawpp import JigsawPP
from transfer.artifacts import Images
from transfer.datasets.drawings import render
from transfer.stage.image_input import DatasetInfo
from transfer.training.trainer import train
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

WANTED = (0.02, 0.1, 0.25, 0.5, 0.65)
WINDOW = 20


class OutOfTime(Exception):
    """Ends a training from within its loss."""


class Stopwatch:
    """A loss that notes when each accuracy was reached first."""

    def __init__(self, task: JigsawPP, minutes: float):
        self.task, self.minutes = task, minutes
        self.reached: dict[float, float] = {}
        self.accuracies: list[float] = []
        self.start = time.perf_counter()

    def __call__(
        self, network: Any, batch: Tensor, draw: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        value, figures = self.task.loss(network, batch, draw)
        self.accuracies.append(float(figures["accuracy"]))
        for classes in WANTED:
            if len(self.accuracies) >= WINDOW and self.recent >= classes:
                self.reached.setdefault(classes, self.passed)
        if self.passed > self.minutes or len(self.reached) == len(WANTED):
            raise OutOfTime
        return value, figures

    @property
    def passed(self) -> float:
        """Minutes since the start."""
        return (time.perf_counter() - self.start) / 60

    @property
    def recent(self) -> float:
        """The accuracy of the last steps."""
        last = self.accuracies[-WINDOW:]
        return sum(last) / len(last)

    def report(self, report: Report) -> None:
        """Report the rate, the times and the last accuracy."""
        count = self.task.puzzles_per_image
        name = f"{count} puzzles an image" if count > 1 else "1 puzzle an image"
        rate = len(self.accuracies) * self.task.batch_size / (60 * self.passed)
        report.add(f"{name}: rate", rate, "images/s")
        for classes, minutes in self.reached.items():
            report.add(f"{name}: time to {classes:.0%}", minutes, "minutes")
        report.add(f"{name}: accuracy at the end", 100 * self.recent, "%")


def measure(
    images: Images, folder: Path, task: JigsawPP, minutes: float, runtime: Runtime
) -> Stopwatch:
    """Train a task until all accuracies are reached, or time is over.

    Args:
        images: The set.
        folder: Where its files go.
        task: The task.
        minutes: The most that it trains.
        machine: Where it runs.
    """
    work = stage_work(folder, runtime, {"images": images})
    network = pretext_network(task, DatasetInfo(64, len(images), 0))
    stopwatch = Stopwatch(task, minutes)
    try:
        train(work, task, network, stopwatch, images)
    except OutOfTime:
        return stopwatch
    raise AssertionError("the training ended before its time")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=4.0, help="of each of the two")
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=128)
    options = parsed(parser, minutes=0.02, images=32, batch=16)
    runtime = started_machine(options.smoke)
    torch.manual_seed(0)
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = packed_set(folder / "set", render.render("unlabeled", range(options.images)))
        for puzzles in (8, 1):
            task = shipped_jigsaw(
                puzzles_per_image=puzzles,
                epochs=100_000,
                schedule="constant",
                batch_size=options.batch,
            )
            watch = measure(images, folder / str(puzzles), task, options.minutes, runtime)
            watch.report(report)


if __name__ == "__main__":
    main()
