"""What a linear probe of all layers costs beside one pass through the network and the heads alone.

    python benchmarks/probe.py [--images 10000 --rounds 3]

The parts are `outputs` of the same layers over the same images, pooled to the same grids, and the
same heads on features that lie in memory already. They take turns with the whole stage.
"""

from __future__ import annotations

import tempfile
from itertools import count as counted
from pathlib import Path

import numpy as np

from benchmarks.common import ALEXNET, noise_set, random_model, stage_work, started_machine
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of, take_turns
from stages.evaluate._layer_features import pool_to_grid
from stages.evaluate._linear_head import Head, fit_head
from stages.evaluate._linear_head import feature_statistics as moments
from stages.evaluate.linear import Linear
from transfer.artifacts import Images, Model
from transfer.training.inference import extract_layers
from transfer.utils.runtime import Runtime

SIZE = 64
CLASSES = 10
LAYERS = [f"conv{number}" for number in range(1, 6)]


class Parts:
    """One extraction of both splits, and the heads on what it gave."""

    def __init__(self, model: Model, sets: dict[str, Images], probe: Linear, runtime: Runtime):
        self.model, self.sets, self.probe, self.runtime = model, sets, probe, runtime
        self.kept: dict[str, list[np.ndarray]] = {}

    def measure(self) -> dict[str, float]:
        """Seconds of each."""
        self.kept = {layer: [] for layer in LAYERS}
        return {"extraction": seconds_of(self.extract), "heads": seconds_of(self.fit_heads)}

    def extract(self) -> None:
        preset = self.probe.preset
        for role, images in self.sets.items():
            for _, layers in extract_layers(self.model, images, LAYERS, self.runtime):
                for layer in LAYERS:
                    block = pool_to_grid(layers[layer], preset.dimensions, preset.pooling)
                    if role == "train":
                        self.kept[layer].append(block.half().cpu().numpy())

    def fit_heads(self) -> None:
        preset, labels = self.probe.preset, self.sets["train"].labels
        assert labels is not None
        rows = np.arange(round(preset.held_out * len(labels)), len(labels))
        for layer in LAYERS:
            features = np.concatenate(self.kept.pop(layer))
            head = Head(preset.norm, *moments(features, rows, preset.norm), CLASSES)
            for _ in fit_head(
                head, preset, features, labels, lambda epoch: rows, self.runtime.device
            ):
                pass


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parsed(parser, images=60, rounds=1)
    runtime = started_machine(options.smoke)
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        folder, turns = Path(place), counted()
        counts = {"train": options.images, "test": max(CLASSES, options.images // 5)}
        sets = {
            role: noise_set(folder / role, count, SIZE, CLASSES) for role, count in counts.items()
        }
        model = random_model(folder / "model", ALEXNET | {"width": 1.0}, SIZE)
        probe = Linear(model="model", layers=LAYERS)
        parts = Parts(model, sets, probe, runtime)

        def whole() -> float:
            work = stage_work(folder / f"turn{next(turns)}", runtime, sets, {"model": model})
            return seconds_of(lambda: probe.run(work))

        rounds = take_turns({"parts": parts.measure, "probe": whole}, options.rounds)
        what = f"probe of five layers of AlexNet, {options.images:,} images"
        report.compare(what, "s", rounds, "probe", "extraction", "heads")
        report.add("extraction alone", rounds.median("extraction"), "s")
        report.add("heads alone", rounds.median("heads"), "s")


if __name__ == "__main__":
    main()
