"""What a step of each strategy costs beside one of hard labels on the same target.

    python benchmarks/strategies.py [--target conv4 --size 32 --batch 128 --steps 30 --rounds 5]

Figures are microseconds an image of the training loop itself, queues included. Features were kept
by an earlier stage. The strategies take turns. Ratios are of times to that of hard labels in the
same round: lower is better. A live teacher is beside hard labels plus one forward pass of the
teacher.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import noise_set, random_model, stage_work, started_machine
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of, take_turns
from stages.assign import Assign
from stages.cluster import Cluster
from stages.extract.network import ExtractNetwork
from stages.prepare import Prepare
from stages.target.multi_label import MultiLabel
from stages.target.pseudo_label import PseudoLabel
from stages.target.regression import Regression
from stages.target.similarity import Similarity
from stages.target.soft_label import SoftLabel
from transfer.artifacts import Images
from transfer.stage.base import Stage
from transfer.stage.context import StageContext
from transfer.training.inference import extract_layers
from transfer.utils.runtime import Runtime

TEACHER = {"name": "resnet18", "width": 0.25, "stem": "small"}
HARD, FORWARD = "hard labels", "teacher's forward pass"
LIVE = "live regression, mlp of 512"


class Bench:
    """A set of noise, and what a random teacher makes of it for the strategies to learn."""

    def __init__(self, folder: Path, runtime: Runtime, options: argparse.Namespace):
        self.folder, self.runtime, self.options = folder, runtime, options
        self.images: Images = noise_set(folder / "images", options.images, options.size)
        self.model = random_model(folder / "model", TEACHER, options.size)
        raw = self.make(ExtractNetwork(model="m", layer="layer3", pool=2), model=self.model)
        components = options.dimensions
        self.features = self.make(Prepare(features="f", components=components), features=raw)
        self.labels, self.clusters = {}, None
        for k in (options.k // 4, options.k // 2, options.k):
            cluster = Cluster(features="p", k=k, iterations=5)
            self.clusters = self.make(cluster, features=self.features)
            assign = Assign(features="p", clusters="c")
            inputs = {"features": self.features, "clusters": self.clusters}
            self.labels[f"labels.{len(self.labels)}"] = self.make(assign, **inputs)

    def run(self, stage: Stage, **inputs: Any) -> StageContext:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        work = stage_work(folder, self.runtime, {"images": self.images}, inputs)
        stage.run(work)
        return work

    def make(self, stage: Stage, **inputs: Any) -> Any:
        """The artifact that a stage makes."""
        return stage.produces(self.run(stage, **inputs).folder)

    def train(self, stage: Stage, inputs: dict[str, Any]) -> float:
        """Microseconds an image of a training."""
        return 1e6 / self.run(stage, **inputs).figures["images/s"]

    def forward(self) -> float:
        """Microseconds an image of the teacher's forward pass."""

        def run() -> None:
            for _ in extract_layers(self.model, self.images, ["layer3"], self.runtime):
                pass

        return 1e6 * seconds_of(run) / len(self.images)

    def strategies(self) -> dict[str, tuple[Stage, dict[str, Any]]]:
        """Each strategy's stage with its inputs."""
        options = self.options
        recipe: dict[str, Any] = {
            "backbone": {"name": options.target, "width": options.width},
            "batch_size": options.batch,
            "optimizer": "adamw",
            "learning_rate": 1e-3,
            "crop": 0.5,
            "epochs": max(1, round(options.steps * options.batch / options.images)),
        }
        similar = recipe | {"features": "p", "anchors": options.anchors}
        regress = partial(Regression, features="p", **recipe)
        features = {"features": self.features}
        soft = features | {"clusters": self.clusters}
        hard = {"labels": list(self.labels.values())[-1]}
        names = list(self.labels)
        return {
            HARD: (PseudoLabel(labels="l", **recipe), hard),
            "several labels (three)": (MultiLabel(labels=names, **recipe), self.labels),
            "soft labels": (SoftLabel(features="p", clusters="c", **recipe), soft),
            "regression, linear": (regress(head="linear"), features),
            "regression, mlp of 512": (regress(hidden_dim=512), features),
            "regression, mlp of 1,024": (regress(hidden_dim=1024), features),
            "similarity, one queue": (Similarity(**similar), features),
            "similarity, SEED": (Similarity(variant="seed", **similar), features),
            "similarity, two queues": (Similarity(queues=2, **similar), features),
            "similarity, slow copy": (Similarity(queues=2, ema=0.999, **similar), features),
            LIVE: (regress(hidden_dim=512, live="m"), features | {"live": self.model}),
        }


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--target", default="conv4")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--anchors", type=int, default=4096, help="at most as many as images")
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--k", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    tiny = {"width": 0.25, "images": 64, "batch": 16, "steps": 4, "anchors": 32, "k": 8}
    options = parsed(parser, dimensions=8, rounds=1, **tiny)
    if options.anchors > options.images:
        parser.error(f"{options.anchors:,} anchors of {options.images:,} images")
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), started_machine(options.smoke), options)
        strategies = bench.strategies()
        sides = {name: partial(bench.train, *runs) for name, runs in strategies.items()}
        rounds = take_turns({FORWARD: bench.forward, **sides}, options.rounds)
        report.add(HARD, rounds.median(HARD), "µs/image")
        for name in strategies:
            if name != HARD:
                beside = (HARD, FORWARD) if name == LIVE else (HARD,)
                report.compare(name, "µs/image", rounds, name, *beside)


if __name__ == "__main__":
    main()
