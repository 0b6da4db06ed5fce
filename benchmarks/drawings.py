"""Does `drawings` measure anything? Rendering time, a linear classifier on raw pixels, a supervised AlexNet.

    python -m benchmarks.drawings

The linear classifier must stay under 40 %, the AlexNet of the shipped pipeline must exceed 95 %.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from stages.target.pseudo_label import PseudoLabel
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import PseudoLabels
from transfer.datasets.drawings import render
from transfer.training.trainer import train
from transfer.transforms.normalize import Normalization, normalize
from transfer.utils.lazy_imports import torch

MODEL = Normalization()


def main() -> None:
    start = time.perf_counter()
    pictures = {split: render.render(split, range(count)) for split, count in render.SPLITS.items()}
    print(
        f"rendering {sum(map(len, pictures.values())):,} images: {time.perf_counter() - start:.1f} s, one process"
    )
    labels = {split: render.labels(split) for split in pictures}
    flat = {
        split: pictures[split].reshape(len(pictures[split]), -1) / 255.0
        for split in ("train", "test")
    }
    mean, std = flat["train"].mean(axis=0), flat["train"].std(axis=0)
    for strength in (1e-5, 1e-4, 1e-3, 1e-2):
        linear = LogisticRegression(C=strength, max_iter=100).fit(
            (flat["train"] - mean) / std, labels["train"]
        )
        score = linear.score((flat["test"] - mean) / std, labels["test"])
        print(f"linear on raw pixels, C {strength:g}: {100 * score:.1f} %", flush=True)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = pack_images(folder / "train", pictures["train"], labels["train"])
        (folder / "labels").mkdir()
        zeros = np.zeros(len(images))
        PseudoLabels.write(
            folder / "labels", images.ids, labels["train"], np.arange(10), zeros, zeros
        )
        stage = PseudoLabel(
            labels="labels",
            backbone={"name": "alexnet", "width": 0.5, "batch_norm": True, "stem": "small"},
            epochs=60,
            batch_size=64,
            optimizer="adamw",
            learning_rate=1e-3,
            warmup_epochs=2.0,
            crop=0.5,
        )
        work = make_work(folder, {"images": images}, precision_name="auto", requested_threads=2)
        work.runtime.configure_threads()
        network = stage._build(64, 10, seed=0)
        wanted = torch.from_numpy(labels["train"])

        def loss(net: Any, batch: Any, ids: Any, rng: Any) -> Any:
            logits = net["head"](
                net["backbone"](normalize(stage.augment(batch, rng), MODEL)).flatten(1)
            )
            return torch.nn.functional.cross_entropy(logits, wanted[ids]), {}

        train(work, stage, network, loss, images)
        network.eval()
        right = 0
        with torch.inference_mode():
            for first in range(0, 1000, 250):
                batch = torch.from_numpy(pictures["test"][first : first + 250]).permute(0, 3, 1, 2)
                named = (
                    network["head"](network["backbone"](normalize(batch, MODEL)).flatten(1))
                    .argmax(1)
                    .numpy()
                )
                right += int((named == labels["test"][first : first + 250]).sum())
        print(
            f"supervised AlexNet, half width, {stage.epochs} epochs of `train`: {right / 10:.1f} % of `test`"
        )


if __name__ == "__main__":
    main()
