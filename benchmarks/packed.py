"""Packing images and feeding them: beside the decoder alone, the memory's bandwidth, and a set ten times the memory.

    python benchmarks/packed.py [packing] [reading] [waiting] [growth] [--images PATH.h5]

packing: 9,000 JPEGs packed by two processes, beside the same decoder alone in two processes (median of 3).
reading: shuffled batches of a packed raw set from the page cache, beside a copy in memory of as many bytes.
waiting: the share of time that a training of Conv4 on 32-px images waits for its batches (noise, or `--small-images`).
growth:  45 seconds of training on 1.5 GB of packed images and on 15 GB, both held to 1.5 GB of memory, page cache too,
         where this user may make control groups (cgroup v1 or v2); the peak of the process itself.
Photographs (an HDF5 file, see `transfer list data hdf5`) with `--images`; drawings otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path
from threading import Timer

import numpy as np
import torch

from stages.pretext.rotation import Rotation
from stages.pretext.supervised import Supervised
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Images, read_json, write_json
from transfer.datasets.drawings import render
from transfer.datasets.image_sets import ImageSets
from transfer.datasets.packed.batch_loader import Batches
from transfer.datasets.packed.decode import decode, square, to_jpeg
from transfer.datasets.spec import ImageSpec
from transfer.errors import Interrupted
from transfer.utils.runtime import Runtime

ROUNDS = 3
COUNT = 9000
SECONDS = 45
SECTIONS = ("packing", "reading", "waiting", "growth")


def photographs(folder: Path, images: Path | None) -> Path:
    """A folder of COUNT JPEG files."""
    place = folder / "jpegs"
    place.mkdir()
    if images is None:
        encoded = [
            to_jpeg(square(one, 128), 90) for one in render.render("unlabeled", range(COUNT))
        ]
    else:
        import h5py

        with h5py.File(images) as file:
            group = file["train"]
            data, offsets = group["jpeg"][:], group["offsets"][: COUNT + 1]
        encoded = [data[start:end].tobytes() for start, end in itertools.pairwise(offsets)]
    for number, one in enumerate(encoded):
        (place / f"{number:05}.jpg").write_bytes(one)
    return place


def decoded(path: str) -> int:
    """One image as the packing makes it, thrown away."""
    return square(decode(Path(path).read_bytes()), 96).shape[0]


def packing(folder: Path, images: Path | None) -> None:
    files = [str(path) for path in sorted(photographs(folder, images).iterdir())]
    ratios, ours, alone = [], [], []
    for turn in range(ROUNDS):
        start = time.perf_counter()
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
            assert len(list(pool.map(decoded, files, chunksize=16))) == len(files)
        alone.append(len(files) / (time.perf_counter() - start))
        pack = ImageSets(folder / "memory", folder).pack(
            ImageSpec(folder="jpegs", size=96), "unlabeled", False
        )
        work = make_work(folder / f"packed{turn}", requested_threads=2)
        start = time.perf_counter()
        pack.run(work)
        ours.append(len(files) / (time.perf_counter() - start))
        ratios.append(ours[-1] / alone[-1])
    print(
        f"packing: {statistics.median(ours):,.0f} images/s, the decoder alone {statistics.median(alone):,.0f}, "
        f"ratio {statistics.median(ratios):.2f} (medians of {ROUNDS})"
    )


def reading(folder: Path) -> None:
    images = random_set(folder / "set", 20_000, 96)
    order = np.random.RandomState(0).permutation(len(images))
    rows = np.sort(order[: len(images) // 256 * 256].reshape(-1, 256), axis=1)
    block = np.random.RandomState(1).randint(0, 256, (256, 96, 96, 3)).astype(np.uint8)
    sources = [block + turn for turn in range(8)]
    ratios = []
    for turn in range(ROUNDS + 1):  # the first brings the file into the page cache
        start = time.perf_counter()
        with Batches(images, Runtime("cpu"), 256) as feed:
            count = sum(batch.numel() for batch in feed.each(rows))
        ours = count / (time.perf_counter() - start)
        start = time.perf_counter()
        for number in range(len(rows)):
            sources[number % 8].copy()
        copied = count / (time.perf_counter() - start)
        ratios += [(ours / copied, ours, copied)] if turn else []
    ratio, ours, copied = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"reading: shuffled batches of 256 images of 96 px at {ours / 1e9:.1f} GB/s, "
        f"copies in memory {copied / 1e9:.1f} GB/s, ratio {ratio:.2f}"
    )


def waiting(folder: Path, cifar: Path | None) -> None:
    if cifar is None:
        name, images = "noise", random_set(folder / "set", 50_000, 32)
    else:
        name, pack = (
            cifar.name,
            ImageSets(folder / "memory", folder).pack(ImageSpec(hdf5=str(cifar)), "train", True),
        )
        pack.run(make_work(folder / "packed", requested_threads=Runtime().threads))
        images = Images(folder / "packed" / "made")
    work = make_work(
        folder, {"images": images}, requested_threads=Runtime().threads, precision_name="auto"
    )
    work.runtime.configure_threads()
    Rotation(backbone={"name": "conv4"}, epochs=1, batch_size=128).run(work)
    rate, share = work.figures["images/s"], work.figures["waiting for data"]
    print(
        f"waiting: rotation with Conv4 on {len(images)} images of {images.size} px ({name}), {rate} images/s, {share}"
    )


def growth(count: int) -> None:
    """Trains on `count` images of 128 px, for SECONDS; prints the peak of its own memory in MB."""
    with tempfile.TemporaryDirectory() as place:
        images = random_set(Path(place) / "set", count, 128)
        work = make_work(Path(place), {"images": images}, requested_threads=Runtime().threads)
        Timer(SECONDS, lambda: setattr(work.stop, "number", signal.SIGTERM)).start()
        with suppress(Interrupted):
            Supervised(backbone={"name": "alexnet", "width": 0.1}, epochs=100, batch_size=64).run(
                work
            )
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(own, work.saved_progress()["said"])


@contextmanager
def held(limit: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what is held to `limit` bytes, what a child calls to be held)."""
    one, two = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    group = (one if one.exists() else two) / "transfer_benchmark"
    try:
        group.mkdir(exist_ok=True)
        (group / ("memory.limit_in_bytes" if one.exists() else "memory.max")).write_text(str(limit))
    except OSError as error:
        yield f"not held to any memory: {error}", lambda: None
        return
    try:
        yield (
            f"held to {limit / 1e9:.1f} GB",
            lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )
    finally:
        group.rmdir()


def random_set(folder: Path, count: int, side: int) -> Images:
    """A packed set of noise, written block by block."""
    images = pack_images(folder, np.zeros((1, side, side, 3), np.uint8))
    from transfer.storage.hdf5_tables import encode_strings, write_table

    with open(folder / "images.npy", "wb") as file:
        facts = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
        np.lib.format.write_array_header_1_0(file, facts)
        block = np.random.RandomState(0).bytes(1000 * side * side * 3)
        for start in range(0, count, 1000):
            file.write(block[: min(1000, count - start) * side * side * 3])
    (folder / "index.h5").unlink()
    ids = encode_strings([f"train/{row}" for row in range(count)])
    write_table(folder / "index.h5", {"ids": ids, "labels": np.arange(count) % 10})
    card = read_json(folder / "images.json")
    write_json(folder / "images.json", card | {"classes": [str(label) for label in range(10)]})
    return Images(images.folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sections", nargs="*", choices=[[], *SECTIONS], help="which; all of them without"
    )
    parser.add_argument("--images", type=Path, help="HDF5 file of photographs to pack")
    parser.add_argument(
        "--small-images",
        type=Path,
        help="HDF5 file of small photographs, such as CIFAR-10, to train on",
    )
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.count:
        growth(asked.count)
        return
    print(f"{Runtime().threads} threads, torch {torch.__version__}")
    for section in asked.sections or SECTIONS:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            if section == "packing":
                packing(folder, asked.images)
            elif section == "reading":
                reading(folder)
            elif section == "waiting":
                waiting(folder, asked.small_images)
            else:
                for count in (30_000, 300_000):
                    words = [sys.executable, __file__, "--count", str(count)]
                    with held(1_500_000_000) as (how, hold):
                        told = subprocess.run(
                            words, capture_output=True, text=True, check=True, preexec_fn=hold
                        ).stdout
                    size, (peak, done) = count * 128 * 128 * 3 / 1e9, told.split(maxsplit=1)
                    print(
                        f"growth: {size:.1f} GB of images, {how}: peak {peak} MB, {done.strip()}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
