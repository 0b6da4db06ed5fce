"""Every registered stage, pretext, backbone and pipeline file, also those that are added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from tests.stages.handmade import make_work, pack_images, stop_after
from transfer.api import Pipeline
from transfer.artifacts import Images, Model, Scores
from transfer.errors import Interrupted
from transfer.inspection.listing import describe
from transfer.models import backbone_names
from transfer.stage.base import Stage
from transfer.stage.image_input import DatasetInfo
from transfer.stage.options import conditions
from transfer.stage.registry import find_stage, stage_names
from transfer.training.pretext_task import Pretext
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.paths import shipped_folder

HERE = Path(__file__).parent
STAGES = [name for name in stage_names() if not name.startswith("tests")]
PRETEXTS = [name for name in STAGES if issubclass(find_stage(name, HERE), Pretext)]
PIPELINES = sorted(shipped_folder("pipelines").glob("*.yaml"))
BACKBONES = {
    "conv4": {"name": "conv4"},
    "vgg": {"name": "vgg11", "width": 0.125, "batch_norm": True, "stem": "small"},
    "resnet": {"name": "resnet18", "width": 0.0625, "stem": "small"},
}
# What makes a task small enough for 64 images: only options that it has are taken.
SMALL = {
    "permutations": 6,
    "embedding_dim": 32,
    "hidden_dim": 64,
    "shift": 1,
    "dropout": 0.0,
    "puzzles_per_image": 4,
    "bottleneck": 64,
    "decoder_width": 32,
    "k": 8,
    "components": 16,
    "strength": 0.3,
    "views": 3,
}
# An adversarial loss is the sum of two opposing sides; the figure of one of them must fall.
LOOKED_AT = {"pretext/bigan": "discriminator"}
RECIPES = {
    "pretext/bigan": {"learning_rate": 3e-4, "momentum": 0.5, "decoder_width": 16},
    "pretext/relative_position": {"epochs": 40},
    "pretext/rotation": {"epochs": 30, "crop": 0.6},
    "pretext/simclr": {"epochs": 30, "crop": 0.6},
    "pretext/deepcluster": {"crop": 0.6},
    "pretext/exemplar": {"epochs": 30},
}


def small(name: str, backbone: str, **options: object) -> Pretext:
    kind: Any = find_stage(name, HERE)
    taken = {key: value for key, value in SMALL.items() if key in kind.model_fields}
    recipe = {"epochs": 12, "batch_size": 32, "optimizer": "adamw", "learning_rate": 3e-3}
    return kind(
        backbone=BACKBONES[backbone], **{**recipe, **taken, **RECIPES.get(name, {}), **options}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    from transfer.datasets.drawings import render

    return pack_images(
        tmp_path_factory.mktemp("set"),
        render.render("train", range(64)),
        render.labels("train")[:64],
    )


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_is_described_from_its_code(name: str) -> None:
    kind = find_stage(name, HERE)
    described = describe("stages", name)
    assert kind.__doc__, "a stage says what it does"
    assert described["makes"]
    for option in described["options"]:
        assert option["help"], option
        assert option["type"], option
    assert kind.version >= 1
    assert kind.run is not Stage.run


@pytest.mark.parametrize("name", STAGES)
def test_applies_when_names_values_of_another_option(name: str) -> None:
    kind = find_stage(name, HERE)
    for field in kind.model_fields.values():
        for other, values in conditions(field).items():
            possible = kind.model_fields[other]
            adapter: TypeAdapter[Any] = TypeAdapter(possible.annotation or object)
            for value in ([each] for each in values) if type(possible.default) is list else values:
                assert (
                    adapter.validate_python(value) == value
                )  # pydantic refuses what the other option cannot be


@pytest.mark.parametrize("name", backbone_names())
def test_every_backbone_is_described_from_its_code(name: str) -> None:
    described = describe("backbones", name)
    assert all(option["help"] for option in described["options"])
    assert len(described["layers"]) == len(set(described["layers"])) > 3


@pytest.mark.slow
@pytest.mark.parametrize("file", PIPELINES, ids=lambda path: path.stem)
def test_every_pipeline_file_runs_from_end_to_end(file: Path, tmp_path: Path) -> None:
    pipeline = Pipeline.load(file, smoke=True, store=tmp_path)
    made = pipeline.run(quiet=True, threads=1)
    assert set(made) == {planned.label for planned in pipeline.plan}
    assert not any(
        state.pending for state in Pipeline.load(file, smoke=True, store=tmp_path).statuses()
    )
    scores = [artifact for artifact in made.values() if isinstance(artifact, Scores)]
    assert scores
    for score in scores:
        ends = [end for interval in score.card.intervals.values() for end in interval]
        lowest = -10 if score.card.main == "ami" else 0  # adjusted for chance, it may be below it
        assert all(lowest <= figure <= 100 for figure in [score.figures[score.card.main], *ends])


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETEXTS)
def test_every_pretext_learns_64_images(name: str, images: Images, tmp_path: Path) -> None:
    task, work = small(name, "conv4"), make_work(tmp_path, {"images": images})
    task.run(work)
    history = Model(work.folder).history
    figure = LOOKED_AT.get(name, "loss")
    assert history[-1][figure] < 0.9 * history[0][figure]


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("name", PRETEXTS)
def test_gradients_reach_every_trained_part_and_eval_changes_no_statistics(
    name: str, backbone: str, images: Images
) -> None:
    task = small(name, backbone)
    network = task._build(DatasetInfo(images.size, len(images), len(images.classes)), seed=0)
    batch, ids = torch.from_numpy(np.array(images.pixels)).permute(0, 3, 1, 2), torch.arange(64)
    loss, _ = task.loss(network, batch, PerImageRng(0, ids))
    loss.backward()
    silent = [
        n
        for n, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().any())
    ]
    assert silent == []
    network.eval()
    before = {n: b.clone() for n, b in network.named_buffers()}
    with torch.inference_mode():
        task.loss(network, batch, PerImageRng(0, ids))
    assert all(torch.equal(before[n], b) for n, b in network.named_buffers())


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETEXTS)
def test_the_same_seed_gives_the_same_bytes_and_resumed_equals_straight(
    name: str, images: Images, tmp_path: Path
) -> None:
    results = []
    for run, pauses in (("a", None), ("b", None), ("c", 5)):
        work = make_work(tmp_path / run, {"images": images})
        if pauses is not None:
            stop_after(work, pauses)
            with pytest.raises(Interrupted):
                small(name, "conv4", epochs=4, warmup_epochs=1).run(work)
            work = make_work(tmp_path / run, {"images": images})
        small(name, "conv4", epochs=4, warmup_epochs=1).run(work)
        results.append(weights(work.folder))
    assert results[0] == results[1] == results[2]
