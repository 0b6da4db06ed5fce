"""What a training step of each strategy costs beside one of hard labels on the same target, and of a live teacher.

    python benchmarks/strategies.py [--target conv4 --size 32 --batch 128 --steps 30 --rounds 5]

Images a second of the training loop itself (features kept by an earlier stage, queues included), each strategy in turn,
round by round; ratios are of times, to that of `pseudo_label` in the same round: lower is better. `live` is beside the
time of hard labels plus one forward pass of the teacher.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.assign import Assign
from stages.cluster import Cluster
from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare
from stages.target.multi_label import MultiLabel
from stages.target.pseudo_label import PseudoLabel
from stages.target.regression import Regression
from stages.target.similarity import Similarity
from stages.target.soft_label import SoftLabel
from tests.stages.handmade import make_work, pack_images
from transfer.artifacts import Clusters, Features, Images, Model, PseudoLabels
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.training.inference import extract_layers
from transfer.transforms.normalize import Normalization
from transfer.utils.runtime import Runtime

COUNT = 4096
TEACHER = {"name": "resnet18", "width": 0.25, "stem": "small"}


def made(
    stage: Any,
    folder: Path,
    runtime: Runtime,
    images: dict[str, Images] | None = None,
    **inputs: Any,
) -> Any:
    """What a stage makes, with what it said of it."""
    work = make_work(folder, images, inputs)
    work.runtime = runtime
    stage.run(work)
    artifact = stage.produces(work.folder)
    artifact.rate = work.figures.get("images/s")
    return artifact


def strategies(
    asked: argparse.Namespace,
    kept: Features,
    clusters: Clusters,
    labels: dict[int, PseudoLabels],
    model: Model,
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Each strategy's stage with what it reads. clusters: those of k = 200."""
    recipe: dict[str, Any] = {
        "backbone": {"name": asked.target, "width": asked.width},
        "batch": asked.batch,
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "crop": 0.5,
        "epochs": max(1, round(asked.steps * asked.batch / COUNT)),
    }
    several = {f"labels.{place}": one for place, one in enumerate(labels.values())}
    queue = {"anchors": asked.anchors}
    return {
        "pseudo_label": (PseudoLabel(labels="l", **recipe), {"labels": labels[200]}),
        "multi_label (three)": (MultiLabel(labels=["a", "b", "c"], **recipe), several),
        "soft_label": (
            SoftLabel(features="p", clusters="c", **recipe),
            {"features": kept, "clusters": clusters},
        ),
        "regression, linear": (
            Regression(features="p", head="linear", **recipe),
            {"features": kept},
        ),
        "regression, mlp 512": (
            Regression(features="p", hidden_dim=512, **recipe),
            {"features": kept},
        ),
        "regression, mlp 1024": (
            Regression(features="p", hidden_dim=1024, **recipe),
            {"features": kept},
        ),
        "similarity, one queue": (Similarity(features="p", **(recipe | queue)), {"features": kept}),
        "similarity, seed": (
            Similarity(features="p", variant="seed", **(recipe | queue)),
            {"features": kept},
        ),
        "similarity, two queues": (
            Similarity(features="p", queues=2, **(recipe | queue)),
            {"features": kept},
        ),
        "similarity, two, slow copy": (
            Similarity(features="p", queues=2, ema=0.999, **(recipe | queue)),
            {"features": kept},
        ),
        "live regression, mlp 512": (
            Regression(features="p", hidden_dim=512, live="m", **recipe),
            {"features": kept, "live": model},
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="conv4")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--anchors", type=int, default=4096)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    runtime = Runtime()
    runtime.configure_threads()
    random = np.random.RandomState(0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        pixels = random.randint(0, 256, (COUNT, asked.size, asked.size, 3)).astype(np.uint8)
        images = {"images": pack_images(folder / "images", pixels)}
        (folder / "model").mkdir()
        Model.write(
            folder / "model",
            build_network(backbone(TEACHER), 0),
            size=asked.size,
            normalization=Normalization(),
            made_by={},
            history=[],
        )
        model = Model(folder / "model")
        features = made(
            ExtractNetwork(model="m", layer="layer3", pool=2),
            folder / "f",
            runtime,
            images,
            model=model,
        )
        kept = made(
            Prepare(features="f", components=asked.dimensions),
            folder / "p",
            runtime,
            features=features,
        )
        labels: dict[int, PseudoLabels] = {}
        for k in (50, 100, 200):
            clusters = made(
                Cluster(features="p", k=k, iterations=5), folder / f"c{k}", runtime, features=kept
            )
            both = {"features": kept, "clusters": clusters}
            labels[k] = made(Assign(features="p", clusters="c"), folder / f"l{k}", runtime, **both)
        runs = strategies(asked, kept, clusters, labels, model)
        times: dict[str, list[float]] = {name: [] for name in [*runs, "teacher forward"]}
        for turn in range(asked.rounds + 1):  # the first warms up
            start = time.perf_counter()
            for _ in extract_layers(model, images["images"], ["layer3"], runtime):
                pass
            found = {"teacher forward": (time.perf_counter() - start) / COUNT}
            for name, (stage, inputs) in runs.items():
                found[name] = (
                    1 / made(stage, folder / f"{turn} {name}", runtime, images, **inputs).rate
                )
            for name, seconds in found.items():
                times[name] += [seconds] if turn else []
    hard = times["pseudo_label"]
    for name, seconds in times.items():
        beside = (
            [a + b for a, b in zip(hard, times["teacher forward"], strict=True)]
            if "live" in name
            else hard
        )
        ratio = statistics.median(one / other for one, other in zip(seconds, beside, strict=True))
        told = " (to hard labels and a teacher's forward pass)" if "live" in name else ""
        print(f"{name:30} {1 / statistics.median(seconds):8,.0f} images/s  {ratio:5.2f}{told}")
    print(
        f"{asked.target} x{asked.width:g}, {asked.size} px, batch {asked.batch}, {asked.dimensions} dimensions, "
        f"{asked.anchors} anchors; medians of {asked.rounds}; {runtime.device}, {runtime.precision}, {runtime.threads} "
        f"threads, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
