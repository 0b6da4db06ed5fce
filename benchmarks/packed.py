"""Packing and feeding: beside the decoder, the memory's bandwidth, and a set ten times the memory.

    python benchmarks/packed.py [packing] [reading] [waiting] [growth] [--photographs PATH.h5]

- packing: JPEG files packed by two processes, beside the same decoder alone in two processes.
- reading: shuffled batches of a packed raw set from the page cache, beside copies in memory.
- waiting: the share of time that a training of Conv4 on 32-px images waits for its batches.
- growth: training on 1.5 GB of packed images and on 15 GB, both held to 1.5 GB of memory, page
  cache too. It needs the right to make control groups. The figure is the peak of the process.

`--photographs` is an HDF5 file (see `transfer list data hdf5`) whose images are packed, and
`--small` one whose images are trained on. Without them drawings and noise take their place.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count as counted
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import numpy as np

from benchmarks.common import noise_set, stage_work, started_machine, stored_jpegs
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import in_own_process, seconds_of, status_bytes, take_turns
from stages.pretext.rotation import Rotation
from stages.pretext.supervised import Supervised
from transfer.artifacts import Images
from transfer.datasets.drawings import render
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.batch_loader import Batches
from transfer.datasets.packed.decode import decode, square, to_jpeg
from transfer.datasets.spec import ImageSpec
from transfer.errors import Interrupted
from transfer.models import backbone
from transfer.utils.runtime import Runtime

LIMIT = 1_500_000_000  # bytes that `growth` is held to
SIDE = 128  # px of the images of `growth`
SECTIONS = ("packing", "reading", "waiting", "growth")


def write_jpegs(place: Path, photographs: Path | None, count: int) -> list[str]:
    """Write JPEG files; returns their paths.

    Args:
        place: The folder.
        photographs: An HDF5 file of them; None for drawings.
        count: How many at most.
    """
    place.mkdir()
    if photographs is None:
        rows = np.arange(count) % render.SPLITS["unlabeled"]
        encoded = [to_jpeg(square(image, 128), 90) for image in render.render("unlabeled", rows)]
    else:
        encoded = [data for _, _, data in stored_jpegs(photographs, "train", count)]
    for number, picture in enumerate(encoded):
        (place / f"{number:05}.jpg").write_bytes(picture)
    return [str(path) for path in sorted(place.iterdir())]


def decoded(path: str) -> int:
    """One image as the packing makes it, thrown away."""
    return square(decode(Path(path).read_bytes()), 96).shape[0]


def packing(folder: Path, options: argparse.Namespace, report: Report) -> None:
    files = write_jpegs(folder / "jpegs", options.photographs, options.images)
    numbers = counted()

    def alone() -> None:
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
            assert len(list(pool.map(decoded, files, chunksize=16))) == len(files)

    def ours() -> float:
        sets = ImageSets(folder / "memory", folder)
        pack = sets.pack(
            ImageSpec.model_validate({"folder": "jpegs", "size": 96}), "unlabeled", False
        )
        work = stage_work(folder / f"packed{next(numbers)}", Runtime("cpu", requested_threads=2))
        return len(files) / seconds_of(lambda: pack.run(work))

    sides = {"decoder alone": lambda: len(files) / seconds_of(alone), "packing": ours}
    rounds = take_turns(sides, options.rounds, warm_up=False)
    what = "photographs" if options.photographs else "drawings"
    report.compare(f"packing {len(files):,} {what}", "images/s", rounds, "packing", "decoder alone")


def reading(folder: Path, options: argparse.Namespace, report: Report) -> None:
    images = noise_set(folder / "set", 2 * options.images, 96)
    order = np.random.RandomState(0).permutation(len(images))
    batch = min(256, len(images))
    rows = np.sort(order[: len(images) // batch * batch].reshape(-1, batch), axis=1)
    block = np.random.RandomState(1).randint(0, 256, (batch, 96, 96, 3)).astype(np.uint8)
    sources, gigabytes = [block + turn for turn in range(8)], rows.size * block[0].size / 1e9

    def read() -> None:
        with Batches(images, Runtime("cpu"), batch) as feed:
            for _ in feed.each(rows):
                pass

    def copy() -> None:
        for number in range(len(rows)):
            sources[number % 8].copy()

    sides = {
        "batches": lambda: gigabytes / seconds_of(read),
        "copies": lambda: gigabytes / seconds_of(copy),
    }
    rounds = take_turns(sides, options.rounds)
    report.compare(f"shuffled batches of {batch} of 96 px", "GB/s", rounds, "batches", "copies")


def waiting(folder: Path, options: argparse.Namespace, report: Report) -> None:
    runtime = started_machine(options.smoke)
    if options.small is None:
        images = noise_set(folder / "set", 5 * options.images, 32)
    else:
        sets = ImageSets(folder / "memory", folder)
        pack = sets.pack(ImageSpec.model_validate({"hdf5": str(options.small)}), "train", True)
        pack.run(stage_work(folder / "packed", runtime))
        images = Images(folder / "packed" / "made")
    work = stage_work(folder, runtime, {"images": images})
    Rotation(backbone=backbone("conv4"), epochs=1, batch_size=128).run(work)
    what = f"rotation with Conv4 on {len(images):,} images of {images.size} px"
    report.add(what, work.figures["images/s"], "images/s")
    report.add("its waiting for data", float(work.figures["waiting for data"].split()[0]), "%")


# Growth


def train_for_a_while(count: int, seconds: float, smoke: bool) -> None:
    """Train for a while, and print the peak of this process in MB.

    Args:
        count: How many images there are.
        seconds: How long the training lasts.
        smoke: Whether this is a smoke run.
    """
    with tempfile.TemporaryDirectory() as place:
        images = noise_set(Path(place) / "set", count, SIDE)
        work = stage_work(Path(place), started_machine(smoke), {"images": images})
        timer = Timer(seconds, lambda: setattr(work.stop, "number", signal.SIGTERM))
        timer.start()
        with suppress(Interrupted):
            narrow = backbone({"name": "alexnet", "width": 0.1})
            Supervised(backbone=narrow, epochs=10_000, batch_size=64).run(work)
        print(status_bytes("VmHWM") / 1e6)


@contextmanager
def control_group(limit: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """(How a process is held to `limit` bytes, what it calls to be held)."""
    root = Path("/sys/fs/cgroup")
    first = (root / "memory").exists()  # version 1 of control groups
    group = (root / "memory" if first else root) / "transfer_benchmark"
    try:
        group.mkdir(exist_ok=True)
        name = "memory.limit_in_bytes" if first else "memory.max"
        (group / name).write_text(str(limit))
    except OSError:
        yield "not held to any memory", lambda: None
        return
    try:
        procs = group / "cgroup.procs"
        yield f"held to {limit / 1e9:.1f} GB", lambda: procs.write_text(str(os.getpid()))
    finally:
        group.rmdir()


def growth(folder: Path, options: argparse.Namespace, report: Report) -> None:
    for count in (options.grow, 10 * options.grow):
        with control_group(LIMIT) as (how, hold):
            own = ["--train-on", count, "--seconds", options.seconds]
            own += ["--smoke"] if options.smoke else []
            peak = in_own_process(__file__, *own, preexec=hold)[0]
        size = count * SIDE * SIDE * 3 / 1e9
        report.add(f"peak of training on {size:.3g} GB of images, {how}", peak, "MB")


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--photographs", type=Path, help="HDF5 file of photographs to pack")
    parser.add_argument("--small", type=Path, help="HDF5 file of small photographs to train on")
    parser.add_argument("--images", type=int, default=9000, help="to pack; read 2, train 5 times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=45.0, help="of each training of growth")
    parser.add_argument("--grow", type=int, default=30_000, help="images of growth's smaller set")
    parser.add_argument("--train-on", type=int, help=argparse.SUPPRESS)
    options = parsed(parser, images=60, rounds=1, seconds=1.0, grow=64)
    if options.train_on:
        train_for_a_while(options.train_on, options.seconds, options.smoke)
        return
    if unknown := set(options.sections) - set(SECTIONS):
        named = ", ".join(sorted(unknown))
        parser.error(f"no section {named}; there are {', '.join(SECTIONS)}")
    measures = {"packing": packing, "reading": reading, "waiting": waiting, "growth": growth}
    with Report(__file__, options) as report:
        for section in options.sections or SECTIONS:
            with tempfile.TemporaryDirectory() as place:
                measures[section](Path(place), options, report)


if __name__ == "__main__":
    main()
