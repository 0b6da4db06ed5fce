"""What a linear probe of all layers costs beside its parts: one pass through the network, and the heads alone.

    python benchmarks/probe.py [--images 10000] [--rounds 3]

The parts: `outputs` of the same layers over the same images, pooled to the same grids, and the same heads on features
that already lie in memory. They take turns with the whole stage, round by round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from stages.evaluate._layer_features import pool_to_grid, probed_layers
from stages.evaluate._linear_head import Head, fit_head
from stages.evaluate._linear_head import feature_statistics as moments
from stages.evaluate.linear import Linear
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Images, Model
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.training.inference import extract_layers
from transfer.transforms.normalize import Normalization
from transfer.utils.runtime import Runtime

SIZE = 64
CLASSES = 10


def parts(
    model: Model, sets: dict[str, Images], probe: Linear, runtime: Runtime
) -> tuple[float, float]:
    """Seconds of one extraction of both splits, and of the heads."""
    layers = [layer for layer in probed_layers(model) if layer in (probe.layers or layer)]
    kept: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    start = time.perf_counter()
    for role, images in sets.items():
        for _, found in extract_layers(model, images, layers, runtime):
            for layer in layers:
                block = pool_to_grid(found[layer], probe.preset.dimensions, probe.preset.pooling)
                if role == "train":
                    kept[layer].append(block.half().cpu().numpy())
    extraction = time.perf_counter() - start
    labels, rows = sets["train"].labels, np.arange(len(sets["train"]))
    rows = rows[round(probe.preset.held_out * len(rows)) :]
    start = time.perf_counter()
    for layer in layers:
        features = np.concatenate(kept.pop(layer))
        head = Head(probe.preset.norm, *moments(features, rows, probe.preset.norm), CLASSES)
        for _ in fit_head(head, probe.preset, features, labels, lambda epoch: rows, runtime.device):
            pass
    return extraction, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    runtime = Runtime()
    runtime.configure_threads()
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sets = {
            role: pack_images(
                folder / role,
                random.randint(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8),
                np.arange(count) % CLASSES,
            )
            for role, count in (("train", asked.images), ("test", asked.images // 5))
        }
        (folder / "model").mkdir()
        network = build_network(
            backbone({"name": "alexnet", "batch_norm": True, "stem": "small"}), 0
        )
        Model.write(
            folder / "model",
            network,
            size=SIZE,
            normalization=Normalization(),
            made_by={},
            history=[],
        )
        model = Model(folder / "model")
        probe = Linear(model="model", layers=[f"conv{n}" for n in range(1, 6)])
        ratios, wholes, extractions, headss = [], [], [], []
        for turn in range(asked.rounds + 1):  # the first warms up
            extraction, heads = parts(model, sets, probe, runtime)
            work = make_work(
                folder / str(turn),
                sets,
                {"model": model},
                requested_threads=runtime.threads,
                precision_name="auto",
            )
            start = time.perf_counter()
            probe.run(work)
            whole = time.perf_counter() - start
            if turn:
                wholes.append(whole), extractions.append(extraction), headss.append(heads)
                ratios.append(whole / (extraction + heads))
    print(
        f"probe of AlexNet, conv1 to conv5, {asked.images:,} images: {statistics.median(wholes):.1f} s; extraction "
        f"{statistics.median(extractions):.1f} s + heads alone {statistics.median(headss):.1f} s: ratio "
        f"{statistics.median(ratios):.2f} (median of {asked.rounds}; {runtime.device}, {runtime.precision}, "
        f"{runtime.threads} threads, torch {torch.__version__})"
    )


if __name__ == "__main__":
    main()
