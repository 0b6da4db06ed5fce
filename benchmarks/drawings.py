"""Does the set `drawings` measure anything? Rendering, a linear classifier, a supervised AlexNet.

    python benchmarks/drawings.py [--epochs 60]

The linear classifier reads raw pixels and must stay under 40 %. The AlexNet is that of the shipped
pipeline and must exceed 95 %.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmarks.common import (
    ALEXNET,
    channels_first,
    hard_labels,
    packed_set,
    stage_work,
    started_machine,
)
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of
from stages.target.pseudo_label import PseudoLabel
from transfer.artifacts import Model
from transfer.datasets.drawings import render
from transfer.models import backbone
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import safetensors
from transfer.utils.runtime import Runtime

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)


def linear(pixels: dict[str, np.ndarray], labels: dict[str, np.ndarray], rounds: int) -> float:
    """Percent of `test` that the best linear classifier on raw pixels of `train` names right.

    Args:
        pixels: Split -> images.
        labels: Split -> classes.
        rounds: Iterations of the solver at most.
    """
    flat = {split: pixels[split].reshape(len(pixels[split]), -1) / 255.0 for split in pixels}
    mean, deviation = flat["train"].mean(axis=0), flat["train"].std(axis=0) + 1e-9
    train, test = ((flat[split] - mean) / deviation for split in ("train", "test"))
    scores = []
    warnings.simplefilter("ignore", ConvergenceWarning)
    for strength in STRENGTHS:
        classifier = LogisticRegression(C=strength, max_iter=rounds).fit(train, labels["train"])
        scores.append(100 * float(classifier.score(test, labels["test"])))
    return max(scores)


def supervised(
    folder: Path,
    runtime: Runtime,
    pixels: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    epochs: int,
) -> float:
    """Percent of `test` that an AlexNet of half width names right after learning `train`.

    Args:
        folder: Where its files go.
        machine: Where it runs.
        pixels: Split -> images.
        labels: Split -> classes.
        epochs: Passes over `train`.
    """
    images = packed_set(folder / "train", pixels["train"], labels["train"])
    stage = PseudoLabel(
        labels="labels",
        backbone=backbone(ALEXNET),
        epochs=epochs,
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-3,
        warmup_epochs=min(2.0, epochs / 2),
        crop=0.5,
    )
    inputs = {"labels": hard_labels(folder / "labels", images)}
    work = stage_work(folder, runtime, {"images": images}, inputs)
    stage.run(work)
    model = Model(work.folder)
    network, head = model.network(), safetensors.load_file(work.folder / "head.safetensors")
    right = 0
    with torch.inference_mode():
        for first in range(0, len(pixels["test"]), 250):
            batch = channels_first(pixels["test"][first : first + 250])
            features = network(normalize(batch, model.normalization)).flatten(1)
            guesses = (features @ head["weight"].T + head["bias"]).argmax(1).numpy()
            right += int((guesses == labels["test"][first : first + 250]).sum())
    return 100 * right / len(pixels["test"])


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--limit", type=int, default=8000, help="images of a split at most")
    parser.add_argument("--iterations", type=int, default=100, help="of the linear classifier")
    options = parsed(parser, epochs=1, limit=120, iterations=2)
    counts = {split: min(count, options.limit) for split, count in render.SPLITS.items()}
    pixels: dict[str, np.ndarray] = {}

    def draw_all() -> None:
        for split, count in counts.items():
            pixels[split] = render.render(split, range(count))

    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        seconds = seconds_of(draw_all)
        report.add(f"rendering {sum(counts.values()):,} images in one process", seconds, "s")
        del pixels["unlabeled"]
        labels = {split: render.labels(split)[: counts[split]] for split in pixels}
        best = linear(pixels, labels, options.iterations)
        report.add("linear classifier on raw pixels, the best of four strengths", best, "%")
        score = supervised(
            Path(place), started_machine(options.smoke), pixels, labels, options.epochs
        )
        report.add("supervised AlexNet of half width", score, "%")


if __name__ == "__main__":
    main()
