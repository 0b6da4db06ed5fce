"""What the training loop and the extraction cost beside a bare loop over the same network and batch in memory.

    python benchmarks/training.py [--plain | --memory]

Each measurement alternates with its bare counterpart, round by round, in one process; medians are printed. The bare
loops profit from `transfer.utils.runtime.keep_memory` too: `--plain` leaves it out, as in a script that knows nothing of it.
`--memory` extracts 10,000 and 100,000 images instead, each in a process of its own, and prints their peak memory.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages.extract.network import ExtractNetwork
from stages.pretext.jigsawpp import JigsawPP
from stages.target.pseudo_label import PseudoLabel
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Model, PseudoLabels
from transfer.models.build import build_network
from transfer.stage.base import DatasetInfo
from transfer.training.inference import BLOCK
from transfer.training.pretext_task import backbone_features
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.runtime import Runtime

ROUNDS = 3
IMAGES = 11_520  # 90 steps
CLASSES = 200


def target() -> PseudoLabel:
    return PseudoLabel(
        labels="labels",
        backbone={"name": "alexnet", "width": 0.5, "batch_norm": True, "stem": "small"},
        epochs=1,
        batch_size=128,
        optimizer="adamw",
        learning_rate=1e-3,
        crop=0.5,
    )


def pretext() -> JigsawPP:
    return JigsawPP(
        backbone={"name": "vgg16", "width": 0.25, "batch_norm": True, "stem": "small"},
        epochs=1,
        batch_size=128,
        tile_size=18,
        shift=1,
        puzzles_per_image=8,
        embedding_dim=128,
        hidden_dim=1024,
        dropout=0.0,
        optimizer="adamw",
        learning_rate=1e-3,
    )


def bare_training(
    network: nn.Module, step: object, batch: int, runtime: Runtime, optimizer: torch.optim.Optimizer
) -> float:
    """Images/s of forward, backward and update over one batch that lies in memory, as `step` computes the loss."""
    network.to(memory_format=torch.channels_last).train()
    start = time.perf_counter()
    for _ in range(IMAGES // batch):
        with runtime.autocast():
            loss = step()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return IMAGES / (time.perf_counter() - start)


def compare(name: str, ours: object, bare: object) -> None:
    pairs = [(ours(), bare()) for _ in range(ROUNDS + 1)][1:]  # the first round warms both up
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{name:<34} {mine:8.0f} images/s, bare loop {theirs:8.0f}, ratio {ratio:.2f} (median of {ROUNDS})",
        flush=True,
    )


def speed(folder: Path, runtime: Runtime) -> None:
    random = np.random.RandomState(0)
    images = pack_images(
        folder / "images", random.randint(0, 256, (IMAGES, 64, 64, 3)).astype(np.uint8)
    )
    labels = np.arange(IMAGES) % CLASSES
    (folder / "labels").mkdir()
    zeros = np.zeros(IMAGES)
    PseudoLabels.write(folder / "labels", images.ids, labels, np.arange(CLASSES), zeros, zeros)

    def run(stage: object, **inputs: object) -> float:
        with tempfile.TemporaryDirectory() as place:
            work = make_work(
                Path(place),
                {"images": images},
                inputs,
                requested_threads=runtime.threads,
                precision_name="auto",
            )
            start = time.perf_counter()
            stage.run(work)
            return work.figures.get("images/s") or IMAGES / (time.perf_counter() - start)

    batch = torch.from_numpy(np.array(images.pixels[:128])).permute(0, 3, 1, 2)

    task = target()
    network = task._build(64, CLASSES, 0)
    prepared, wanted = normalize(batch, Normalization()), torch.from_numpy(labels[:128])
    optimizer = task.make_optimizer(network)
    compare(
        "target: AlexNet-BN, half width, 64 px",
        lambda: run(task, labels=PseudoLabels(folder / "labels")),
        lambda: bare_training(
            network,
            lambda: nn.functional.cross_entropy(
                network["head"](network["backbone"](prepared).flatten(1)), wanted
            ),
            128,
            runtime,
            optimizer,
        ),
    )

    jigsaw = pretext()
    puzzler = jigsaw._build(DatasetInfo(64, IMAGES, 0), 0)
    rng = PerImageRng(0, torch.arange(128))
    tiles = jigsaw.tiles(batch, rng)
    _, answers = jigsaw.puzzles(torch.zeros(128, 9, 1), rng)

    def solve() -> torch.Tensor:
        embedded = puzzler["embed"](
            backbone_features(puzzler["backbone"], tiles.flatten(0, 1))
        ).unflatten(0, (128, 9))
        puzzles = embedded[:, None].expand(-1, 8, -1, -1).flatten(0, 1).flatten(1)
        return nn.functional.cross_entropy(puzzler["head"](puzzles), answers.flatten())

    solver = jigsaw.make_optimizer(puzzler)
    compare(
        "pretext: Jigsaw++, VGG-16 x 0.25",
        lambda: run(jigsaw),
        lambda: bare_training(puzzler, solve, 128, runtime, solver),
    )

    (folder / "model").mkdir()
    backbone = build_network(jigsaw.backbone, 0)
    Model.write(
        folder / "model", backbone, size=64, normalization=Normalization(), made_by={}, history=[]
    )
    model = Model(folder / "model")
    whole = torch.from_numpy(np.array(images.pixels[:BLOCK])).permute(0, 3, 1, 2)
    fed, frozen = (
        normalize(whole, Normalization()),
        model.network().to(memory_format=torch.channels_last),
    )

    def bare_extraction() -> float:
        start = time.perf_counter()
        for _ in range(IMAGES // BLOCK):
            with torch.inference_mode(), runtime.autocast():
                frozen.layers(fed, ["conv4"])
        return IMAGES / (time.perf_counter() - start)

    stage = ExtractNetwork(model="model", layer="conv4", pool=5)
    compare("extraction: VGG-16 x 0.25, conv4", lambda: run(stage, model=model), bare_extraction)


def memory(count: int) -> None:
    """Extract features of `count` images of 32 px with Conv4, and print the peak memory of this process."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        random = np.random.RandomState(0)
        images = pack_images(folder / "images", np.zeros((8, 32, 32, 3), np.uint8))
        # The packed file is written by blocks here too, so that what is measured is the extraction.
        shape = (count, 32, 32, 3)
        with open(folder / "images" / "images.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "|u1", "fortran_order": False, "shape": shape}
            )
            for start in range(0, count, 5000):
                file.write(random.bytes(min(5000, count - start) * 32 * 32 * 3))
        from transfer.storage.hdf5_tables import encode_strings, write_table

        write_table(
            folder / "images" / "index.h5",
            {"ids": encode_strings([f"train/{i}" for i in range(count)])},
        )
        (folder / "model").mkdir()
        from transfer.models import backbone

        network = build_network(backbone("conv4"), 0)
        Model.write(
            folder / "model",
            network,
            size=32,
            normalization=Normalization(),
            made_by={},
            history=[],
        )
        work = make_work(
            folder, {"images": images}, {"model": Model(folder / "model")}, requested_threads=2
        )
        ExtractNetwork(model="model", layer="conv3", pool=4).run(work)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.count:
        memory(asked.count)
    elif asked.memory:
        peaks = {}
        for count in (10_000, 100_000):
            words = [sys.executable, __file__, "--count", str(count)]
            peaks[count] = int(
                subprocess.run(words, capture_output=True, text=True, check=True).stdout
            )
            print(f"extraction of {count:,} images: peak {peaks[count]} MB", flush=True)
        print(f"difference {peaks[100_000] - peaks[10_000]} MB")
    else:
        runtime = Runtime()
        if not asked.plain:
            runtime.configure_threads()
        print(
            f"{runtime.device}, {runtime.precision}, {runtime.threads} threads, torch {torch.__version__}"
        )
        with tempfile.TemporaryDirectory() as place:
            speed(Path(place), runtime)


if __name__ == "__main__":
    main()
