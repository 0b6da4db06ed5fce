"""What a step of each pretext task costs beside what it must compute, and SimCLR and BYOL beside lightly's examples.

    python -m benchmarks.pretexts [TASK ...] [--backbone resnet18 --width 0.25] [--batch 128] [--steps 30] [--rounds 3]

Ours is the whole loop: reading, augmentation, loss, backward, update, from the first step to the last of an epoch. The
bare loop has the task's own loss over the same network and batch, forward, backward and update, but its inputs lie in
memory: what prepares them (PREPARES) is run once and then answers from memory. Both take turns, round by round.

Beside SimCLR and BYOL stands the loop that lightly's examples show, with the same network, batch and threads: a
DataLoader with two workers and lightly's transforms; once as it stands, in float32, and once (`alike`) in our precision
and memory format. It needs `pip install --no-deps lightly lightly_utils lightning_utilities requests tqdm certifi`;
without these it is left out.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from stages.pretext.byol import project
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Images
from transfer.stage.registry import find_stage, stage_names
from transfer.training.pretext_task import Pretext
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

SIZE = 32
# What makes a task's inputs: its methods, and names in its module (or in the one of its base, where the loss is).
PREPARES = {
    "autoencoder": ["pair"],
    "bigan": ["views"],
    "byol": ["views"],
    "colorization": ["crop_of", "ab", "soft_bins"],
    "counting": ["wholes_and_quarters"],
    "deepcluster": ["augment"],
    "distortion": ["changed"],
    "exemplar": ["transform"],
    "inpainting": ["puzzle"],
    "jigsaw": ["tiles"],
    "jigsawpp": ["tiles"],
    "relational": ["see"],
    "relative_position": ["patches", "disguised"],
    "rotation": ["copies"],
    "simclr": ["views"],
    "supervised": ["augment"],
}
# Where a task's defaults do not fit images of 32 px, or a set of some thousand images.
FITTING: dict[str, dict[str, Any]] = {
    "deepcluster": {"k": 100, "components": 64, "iterations": 5},
    "jigsaw": {"tile": 8, "shift": 1},
    "jigsawpp": {"tile": 8, "shift": 1},
    "relational": {"batch": 32, "views": 16},
}


class Remembered:
    """A function that is called through once, and then answers what it answered, call by call."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.answers, self.replayed = function, [], None

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self.replayed is None:
            self.answers.append(self.function(*given, **named))
            return self.answers[-1]
        self.replayed += 1
        return self.answers[(self.replayed - 1) % len(self.answers)]


@contextmanager
def prepared(task: Pretext, names: list[str]) -> Iterator[list[Remembered]]:
    """Within, what prepares the task's inputs is remembered."""
    module, kept = importlib.import_module(type(task).loss.__module__), []
    with ExitStack() as stack:
        for name in [*names, "normalize"]:
            if hasattr(type(task), name):
                kept.append(Remembered(getattr(task, name)))
                stack.enter_context(patch.object(type(task), name, _as_method(kept[-1])))
            elif hasattr(module, name):
                kept.append(Remembered(getattr(module, name)))
                stack.enter_context(patch.object(module, name, kept[-1]))
        yield kept


def _as_method(remembered: Remembered) -> Callable[..., Any]:
    return lambda task, *given, **named: remembered(*given, **named)


class Clock:
    """Rate between the first and the last of its ticks, each of which is a batch."""

    def __init__(self, batch: int):
        self.batch, self.first, self.last, self.ticks = batch, 0.0, 0.0, 0

    def tick(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.ticks += 1

    @property
    def rate(self) -> float:
        return (self.ticks - 1) * self.batch / (self.last - self.first)


class Bench:
    """One task on one set."""

    def __init__(
        self, name: str, runtime: Runtime, backbone: dict[str, Any], batch: int, steps: int
    ):
        options = {"backbone": backbone, "epochs": 1, "batch": batch, **FITTING.get(name, {})}
        self.name, self.runtime, self.steps = name, runtime, steps
        self.task: Pretext = find_stage(f"pretext/{name}", Path.cwd())(**options)
        self.batch = self.task.batch_size
        self.folder = tempfile.TemporaryDirectory()
        count, place = (steps + 1) * self.batch, Path(self.folder.name)
        pixels = np.random.RandomState(0).randint(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
        self.images: Images = pack_images(place / "set", pixels, np.arange(count) % 10)
        work = self.work()
        self.network = self.task._build(self.task.dataset_info(work), 0)
        self.task.begin(self.network, work)
        self.task.before_epoch(self.network, work, 0)

    def work(self) -> Any:
        place = Path(tempfile.mkdtemp(dir=self.folder.name))
        return make_work(
            place,
            {"images": self.images},
            device_name=str(self.runtime.device),
            requested_threads=self.runtime.threads,
            precision_name=self.runtime.precision,
        )

    def ours(self) -> float:
        """Images/s of the real loop."""
        clock, loss = Clock(self.batch), type(self.task).loss

        def timed(task: Pretext, *given: Any) -> Any:
            clock.tick()
            return loss(task, *given)

        with patch.object(type(self.task), "loss", timed):
            self.task.run(self.work())
        return clock.rate

    def bare(self) -> float:
        """Images/s of the loss over inputs in memory, its gradients, and the update."""
        device, rng = self.runtime.device, PerImageRng(0, torch.arange(self.batch))
        network = self.network.to(device, memory_format=torch.channels_last).train()
        optimizer, clock = self.task.make_optimizer(network), Clock(self.batch)
        batch = (
            torch.from_numpy(np.array(self.images.pixels[: self.batch]))
            .permute(0, 3, 1, 2)
            .to(device)
        )
        with prepared(self.task, PREPARES.get(self.name, [])) as kept:
            for step in range(self.steps + 2):
                if step:  # the first one prepares the inputs
                    clock.tick()
                with self.runtime.autocast():
                    loss, _ = self.task.loss(network, batch, rng)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    self.task.after_step(network, step / (self.steps + 2))
                for one in kept:
                    one.replayed = 0
        return clock.rate

    def lightly(self, as_it_stands: bool) -> float:
        """Images/s of lightly's example with this task's network; `as_it_stands`: in float32, channels first."""
        import lightly.transforms
        from lightly.loss import NegativeCosineSimilarity, NTXentLoss
        from lightly.models.utils import update_momentum
        from torch.utils.data import DataLoader

        byol, network = (
            self.name == "byol",
            self.task._build(self.task.dataset_info(self.work()), 0).to(self.runtime.device),
        )
        if not as_it_stands:
            network = network.to(memory_format=torch.channels_last)
        transform = lightly.transforms.SimCLRTransform(input_size=SIZE)
        if byol:
            one = lightly.transforms.BYOLView1Transform(input_size=SIZE)
            two = lightly.transforms.BYOLView2Transform(input_size=SIZE)
            transform = lightly.transforms.BYOLTransform(one, two)
        loader = DataLoader(
            Pictures(self.images, transform),
            batch_size=self.batch,
            shuffle=True,
            drop_last=True,
            num_workers=2,
        )
        optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.06)
        contrast, away, clock = NTXentLoss(), NegativeCosineSimilarity(), Clock(self.batch)
        for views in loader:
            clock.tick()
            x0, x1 = (view.to(self.runtime.device) for view in views)
            if byol:
                for part in ("backbone", "projector"):
                    update_momentum(network[part], network["target"][part], m=0.996)
            with nullcontext() if as_it_stands else self.runtime.autocast():
                z0, z1 = (project(network, x) for x in (x0, x1))
                if byol:
                    with torch.no_grad():
                        t0, t1 = (project(network["target"], x) for x in (x0, x1))
                    p0, p1 = network["predictor"](z0), network["predictor"](z1)
                    loss = 0.5 * (away(p0, t1) + away(p1, t0))
                else:
                    loss = contrast(z0, z1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return clock.rate


class Pictures(torch.utils.data.Dataset):
    """The packed images as PIL's, as torchvision's sets give them."""

    def __init__(self, images: Images, transform: Callable[[Any], list[Tensor]]):
        self.pixels, self.transform = images.pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> list[Tensor]:
        from PIL import Image

        return self.transform(Image.fromarray(np.array(self.pixels[row])))


def compare(label: str, sides: dict[str, Callable[[], float]], rounds: int) -> None:
    """Run all sides in turns; print medians, and the median of each round's ratio of the first side to each other."""
    seen = [{name: side() for name, side in sides.items()} for _ in range(rounds + 1)][
        1:
    ]  # the first warms up
    first, *others = sides
    text = f"{label:<18} ours {statistics.median(one[first] for one in seen):7.0f} images/s"
    for name in others:
        ratio = statistics.median(one[first] / one[name] for one in seen)
        text += f"; {name} {statistics.median(one[name] for one in seen):7.0f}, ratio {ratio:.2f}"
    print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [name.removeprefix("pretext/") for name in stage_names() if name.startswith("pretext/")]
    trained = [
        name for name in names if issubclass(find_stage(f"pretext/{name}", Path.cwd()), Pretext)
    ]
    parser.add_argument(
        "tasks", nargs="*", metavar="TASK", help=f"one of {', '.join(trained)}; none: all of them"
    )
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if unknown := set(asked.tasks) - set(trained):
        parser.error(f"no such task: {', '.join(sorted(unknown))}")
    runtime = Runtime()
    runtime.configure_threads()
    backbone = {"name": asked.backbone, "width": asked.width}
    if asked.backbone != "conv4":
        backbone["stem"] = "small"
    print(
        f"{runtime.device}, {runtime.precision}, {runtime.threads} threads, torch {torch.__version__}; {backbone}"
    )
    for name in asked.tasks or trained:
        try:
            bench = Bench(name, runtime, backbone, asked.batch, asked.steps)
        except ValueError as error:
            print(f"{name:<18} not at {SIZE} px: {error}", flush=True)
            continue
        compare(name, {"ours": bench.ours, "bare": bench.bare}, asked.rounds)
        if name in ("simclr", "byol"):
            try:
                import lightly.transforms  # noqa: F401
            except ImportError as error:
                print(f"{name:<18} not beside lightly: {error}", file=sys.stderr)
                continue
            theirs = {
                "lightly": partial(bench.lightly, True),
                "alike": partial(bench.lightly, False),
            }
            compare(name, {"ours": bench.ours, **theirs}, asked.rounds)


if __name__ == "__main__":
    main()
