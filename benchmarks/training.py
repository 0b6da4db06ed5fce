"""What training and extraction cost beside a bare loop over the same network and batch in memory.

    python benchmarks/training.py [--plain | --memory] [--images 11520 --rounds 3]

Both sides take turns, round by round, in one process. The bare loops profit from the kept memory
of `transfer` too. `--plain` leaves it out, as in a script that knows nothing of it. `--memory`
extracts 10,000 and 100,000 images instead, each in a process of its own, and reports their peaks.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import count as counted
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.common import (
    ALEXNET,
    channels_first,
    hard_labels,
    noise_set,
    pretext_network,
    random_model,
    shipped_jigsaw,
    stage_work,
    started_machine,
)
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import in_own_process, seconds_of, status_bytes, take_turns
from stages.extract.network import ExtractNetwork
from stages.target.pseudo_label import PseudoLabel
from transfer.artifacts import Images
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.stage.base import Stage
from transfer.stage.image_input import DatasetInfo
from transfer.training.inference import BLOCK
from transfer.training.pretext_task import backbone_features
from transfer.training.recipe import TrainableStage
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

BATCH = 128
CLASSES = 200


class Bench:
    """A set of noise, and what the stages and the bare loops need."""

    def __init__(self, folder: Path, runtime: Runtime, options: argparse.Namespace, report: Report):
        self.folder, self.runtime, self.report = folder, runtime, report
        self.count, self.rounds = options.images, options.rounds
        self.images: Images = noise_set(folder / "images", self.count, 64, CLASSES)
        self.batch = channels_first(self.images.pixels[:BATCH])
        self.number = counted()

    def compare(self, measured: str, ours: Callable[[], float], bare: Callable[[], float]) -> None:
        """Report the rates of both.

        Args:
            measured: What they do.
            ours: Images/s of the stage.
            bare: Images/s of the bare loop.
        """
        rounds = take_turns({"transfer": ours, "bare loop": bare}, self.rounds)
        self.report.compare(measured, "images/s", rounds, "transfer", "bare loop")

    def stage(self, stage: Stage, **inputs: object) -> float:
        """Images/s of a stage, from its own figures where it has them."""
        work = stage_work(
            self.folder / f"run{next(self.number)}", self.runtime, {"images": self.images}, inputs
        )
        seconds = seconds_of(lambda: stage.run(work))
        return work.figures.get("images/s") or self.count / seconds

    def loop(
        self, task: TrainableStage, network: nn.Module, loss: Callable[[], torch.Tensor]
    ) -> Callable[[], float]:
        """What measures images/s of forward, backward and update over one batch in memory.

        Args:
            task: Whose optimizer it has.
            network: What is trained.
            loss: What computes the loss.
        """
        network.to(memory_format=torch.channels_last).train()
        optimizer, steps = task.make_optimizer(network), self.count // BATCH

        def run() -> None:
            for _ in range(steps):
                with self.runtime.autocast():
                    value = loss()
                value.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

        return lambda: steps * BATCH / seconds_of(run)


def target(bench: Bench) -> None:
    """Training AlexNet by hard labels."""
    task = PseudoLabel(
        labels="labels",
        backbone=backbone(ALEXNET),
        epochs=1,
        batch_size=BATCH,
        optimizer="adamw",
        learning_rate=1e-3,
        crop=0.5,
    )
    labels = hard_labels(bench.folder / "labels", bench.images)
    student = build_network(task.backbone, 0)
    head = nn.Linear(student.width(64), CLASSES)
    network = nn.ModuleDict({"backbone": student, "head": head})
    prepared = normalize(bench.batch, Normalization())
    classes = torch.arange(BATCH) % CLASSES

    def loss() -> torch.Tensor:
        return nn.functional.cross_entropy(head(student(prepared).flatten(1)), classes)

    loop = bench.loop(task, network, loss)
    bench.compare("target: AlexNet", lambda: bench.stage(task, labels=labels), loop)


def pretext(bench: Bench) -> None:
    """Training VGG-16 by Jigsaw++."""
    task = shipped_jigsaw()
    network: Any = pretext_network(task, DatasetInfo(64, bench.count, 0))
    draw = PerImageRng(0, torch.arange(BATCH))
    tiles = task.tiles(bench.batch, draw)
    _, answers = task.puzzles(torch.zeros(BATCH, 9, 1), draw)

    def loss() -> torch.Tensor:
        seen = network["embed"](backbone_features(network["backbone"], tiles.flatten(0, 1)))
        puzzles = seen.unflatten(0, (BATCH, 9))[:, None].expand(-1, 8, -1, -1)
        logits = network["head"](puzzles.flatten(0, 1).flatten(1))
        return nn.functional.cross_entropy(logits, answers.flatten())

    loop = bench.loop(task, network, loss)
    bench.compare("pretext: Jigsaw++, VGG-16", lambda: bench.stage(task), loop)


def extraction(bench: Bench) -> None:
    """Extracting conv4 of VGG-16."""
    model = random_model(bench.folder / "model", shipped_jigsaw().backbone, 64)
    whole = normalize(channels_first(bench.images.pixels[:BLOCK]), Normalization())
    frozen = model.network().to(memory_format=torch.channels_last)
    blocks = -(-bench.count // BLOCK)

    def run() -> None:
        for _ in range(blocks):
            with torch.inference_mode(), bench.runtime.autocast():
                frozen.layers(whole, ["conv4"])

    stage = ExtractNetwork(model="model", layer="conv4", pool=5)
    bench.compare(
        "extraction: VGG-16, conv4",
        lambda: bench.stage(stage, model=model),
        lambda: blocks * len(whole) / seconds_of(run),
    )


def extract(count: int, smoke: bool) -> None:
    """Extract features of `count` images, and print the peak memory of this process in MB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = noise_set(folder / "images", count, 32)
        inputs = {"model": random_model(folder / "model", "conv4", 32)}
        work = stage_work(folder, started_machine(smoke), {"images": images}, inputs)
        ExtractNetwork(model="model", layer="conv3", pool=4).run(work)
    print(status_bytes("VmHWM") / 1e6)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--memory", action="store_true", help="report the peaks of extraction")
    parser.add_argument("--plain", action="store_true", help="without the kept memory")
    parser.add_argument("--images", type=int, default=11_520, help="90 steps by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--extract", type=int, help=argparse.SUPPRESS)
    options = parsed(parser, images=BATCH, rounds=1)
    if options.extract:
        extract(options.extract, options.smoke)
        return
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        if options.memory:
            for count in (64, 128) if options.smoke else (10_000, 100_000):
                words = ["--extract", count, *(["--smoke"] if options.smoke else [])]
                peak = in_own_process(__file__, *words)[0]
                report.add(f"peak of extracting {count:,} images", peak, "MB")
            return
        runtime = Runtime() if options.plain else started_machine(options.smoke)
        bench = Bench(Path(place), runtime, options, report)
        for measure in (target, pretext, extraction):
            measure(bench)


if __name__ == "__main__":
    main()
