"""What a step of each pretext task costs beside what it must compute, and beside lightly's.

    python benchmarks/pretexts.py [TASK ...] [--backbone resnet18 --width 0.25] [--steps 30]

Ours is the whole loop: reading, augmentation, loss, backward and update, from the first step to the
last of an epoch. The bare loop has the task's own loss over the same network and batch, forward,
backward and update. Its inputs lie in memory: what prepares them runs once, and then answers from
memory. Both take turns, round by round.

Beside SimCLR and BYOL stands the loop that lightly's examples show. It has the same network, batch
and threads, a DataLoader with two workers, and lightly's transforms. `lightly` is in float32, and
`lightly alike` in our precision and memory format. It needs `pip install --no-deps lightly
lightly_utils lightning_utilities requests tqdm certifi`. Without these it is left out.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.common import (
    channels_first,
    noise_set,
    pretext_network,
    stage_work,
    started_machine,
)
from benchmarks.history import Report, options_parser, parsed
from benchmarks.replay import Clock, recorded
from benchmarks.rounds import take_turns
from transfer.artifacts import Images
from transfer.stage.context import StageContext
from transfer.stage.registry import find_stage, stage_names
from transfer.training.pretext_task import Pretext
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

SIZE = 32
# Where a task's defaults do not fit images of 32 px, or a set of some thousand images.
FITTING: dict[str, dict[str, Any]] = {
    "deepcluster": {"k": 100, "components": 64, "iterations": 5},
    "jigsaw": {"tile_size": 8, "shift": 1},
    "jigsawpp": {"tile_size": 8, "shift": 1},
    "relational": {"batch": 32, "views": 16},
}
SMALLER: dict[str, dict[str, Any]] = {
    "deepcluster": {"k": 4, "components": 4, "iterations": 1},
    "relational": {"batch": 4, "views": 4},
}


class Bench:
    """One task on a set of noise."""

    def __init__(self, name: str, runtime: Runtime, options: argparse.Namespace, folder: Path):
        backbone = {"name": options.backbone, "width": options.width}
        if options.backbone != "conv4":
            backbone["stem"] = "small"
        recipe = {"backbone": backbone, "epochs": 1, "batch_size": options.batch}
        recipe |= FITTING.get(name, {}) | (SMALLER.get(name, {}) if options.smoke else {})
        self.name, self.runtime, self.steps, self.folder = name, runtime, options.steps, folder
        kind: Any = find_stage(f"pretext/{name}", Path.cwd())
        self.task: Pretext = kind(**recipe)
        self.batch = self.task.batch_size
        count = (self.steps + 1) * self.batch
        self.images: Images = noise_set(folder / "set", count, SIZE)
        work = self.work()
        self.about = self.task.dataset_info(work)
        self.network = pretext_network(self.task, self.about)
        self.task.begin(self.network, work)
        self.task.before_epoch(self.network, work, 0)

    def work(self) -> StageContext:
        place = Path(tempfile.mkdtemp(dir=self.folder))
        return stage_work(place, self.runtime, {"images": self.images})

    def ours(self) -> float:
        """Images/s of the real loop."""
        clock, loss = Clock(self.batch), type(self.task).loss

        def timed(task: Pretext, *values: Any) -> Any:
            clock.tick()
            return loss(task, *values)

        with patch.object(type(self.task), "loss", timed):
            self.task.run(self.work())
        return clock.rate

    def bare(self) -> float:
        """Images/s of the loss over inputs in memory, its gradients, and the update."""
        device, draw = self.runtime.device, PerImageRng(0, torch.arange(self.batch))
        network: Any = self.network
        network.to(device, memory_format=torch.channels_last).train()
        optimizer, clock = self.task.make_optimizer(network), Clock(self.batch)
        batch = channels_first(self.images.pixels[: self.batch]).to(device)
        with recorded(self.name, self.task) as functions:
            for step in range(self.steps + 2):
                if step:  # the first prepares the inputs
                    clock.tick()
                with self.runtime.autocast():
                    loss, _ = self.task.loss(network, batch, draw)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    self.task.after_step(network, step / (self.steps + 2))
                for function in functions:
                    function.replayed = 0
        return clock.rate


def measure(name: str, bench: Bench, rounds: int, report: Report) -> None:
    """Report a task beside its bare loop, and beside lightly's where there is one.

    Args:
        name: The task.
        bench: Its network and set.
        rounds: Rounds that count.
        report: Where figures go.
    """
    sides = {"transfer": bench.ours, "bare loop": bench.bare}
    turns = take_turns(sides, rounds)
    report.compare(name, "images/s", turns, "transfer", "bare loop")
    if name not in ("simclr", "byol"):
        return
    try:
        from benchmarks.lightly_loop import lightly_rate
    except ImportError as error:
        report.remark(f"{name} is not beside lightly, which is not installed: {error}")
        return
    theirs = {
        "lightly": partial(lightly_rate, bench, alike=False),
        "lightly alike": partial(lightly_rate, bench, alike=True),
    }
    turns = take_turns({"transfer": bench.ours, **theirs}, rounds)
    for other in theirs:
        report.compare(name, "images/s", turns, "transfer", other)


def trained_tasks() -> list[str]:
    """The pretext tasks that train a network."""
    names = [name for name in stage_names() if name.startswith("pretext/")]
    trained = [name for name in names if issubclass(find_stage(name, Path.cwd()), Pretext)]
    return [name.removeprefix("pretext/") for name in trained]


def main() -> None:
    parser, tasks = options_parser(__doc__), trained_tasks()
    names = f"one of {', '.join(tasks)}; none: all of them"
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=names)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    options = parsed(parser, backbone="conv4", batch=8, steps=2, rounds=1)
    if unknown := set(options.tasks) - set(tasks):
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    runtime = started_machine(options.smoke)
    with Report(__file__, options) as report:
        for name in options.tasks or tasks:
            with tempfile.TemporaryDirectory() as place:
                try:
                    bench = Bench(name, runtime, options, Path(place))
                except ValueError as error:
                    report.remark(f"{name} is not measured at {SIZE} px: {error}")
                    continue
                measure(name, bench, options.rounds, report)


if __name__ == "__main__":
    main()
