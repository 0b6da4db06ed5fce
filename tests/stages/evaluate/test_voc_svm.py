"""The protocol `voc_svm` on a miniature set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.evaluate._linear_svm import LinearSVMs, sample_rows, unit_length
from stages.evaluate.voc_svm import VocSvm
from tests.stages.handmade import make_work, pinned, run_stage
from tests.stages.voc_handmade import model, pack, packed, scenes
from transfer.artifacts import Images, Scores
from transfer.errors import TransferError
from transfer.models.build import build_network

GOLDEN = {
    "conv1": 94.96,
    "conv2": 86.85,
    "conv3": 80.09,
    "conv4": 80.58,
    "mAP (11 points)": 94.44,
    "2 shot": 81.94,
}
QUICK = {"shots": [2], "samples": 2, "shot_costs": [0.1, 10.0]}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Images]:
    return packed(
        tmp_path_factory.mktemp("sets"), scenes("trainval", 48, 0.1), scenes("test", 40, 0.1)
    )


def run(
    folder: Path, sets: dict[str, Images], passes_colors: bool = False, **options: Any
) -> Scores:
    stage, ordered = (
        VocSvm(model="model", **{**QUICK, **options}),
        {role: one.by_id() for role, one in sets.items()},
    )
    return run_stage(
        stage, folder / "made", ordered, model=model(folder / "model", passes_colors=passes_colors)
    )


def test_figures_are_pinned_and_say_what_was_selected(sets: dict, tmp_path: Path) -> None:
    made = run(tmp_path, sets)
    assert {name: made.figures[name] for name in GOLDEN} == pinned(GOLDEN, elsewhere=1.0)
    card = made.card
    assert card["main"] == "mAP"
    assert made.figures["mAP"] == made.figures[card["selected"]["layer"]]
    assert card["selected"]["on"] == "3 folds of the training split"
    assert set(card["selected"]["costs"]["conv2"]) == {"red", "green", "blue"}
    assert card["selected"]["2 shot"] == {"cost": 10.0, "on": "the test split, as published"}
    assert card["protocol"] == "voc_svm/vissl-v1 (shots [2], shot_costs [0.1, 10.0], samples 2)"
    low, high = card["intervals"]["mAP"]
    assert low < made.figures["mAP"] < high
    assert card["counts"] == {"train": 48, "test": 40, "classes": 3}


def test_the_published_name_needs_published_settings() -> None:
    from stages.evaluate._protocol_name import protocol_name

    assert protocol_name("voc_svm/vissl-v1", VocSvm(model="anything")) == "voc_svm/vissl-v1"


def test_the_order_of_images_changes_nothing(sets: dict, tmp_path: Path) -> None:
    turned = {}
    for role, split, count in (("train", "trainval", 48), ("test", "test", 40)):
        shown, order = scenes(split, count, 0.1), np.random.RandomState(1).permutation(count)
        turned[role] = pack(tmp_path / role, [shown[row] for row in order], split)
    here, there = run(tmp_path / "a", sets), run(tmp_path / "b", turned)
    assert here.figures == there.figures
    assert here.card["intervals"] == there.card["intervals"]
    assert here.card["selected"] == there.card["selected"]


def test_a_network_that_is_told_the_answer_scores_100(tmp_path: Path) -> None:
    answers = []
    for split, count in (("trainval", 40), ("test", 30)):
        shown = scenes(split, count)
        for one in shown:
            one.pixels[:] = 20
            for label, _, _ in one.objects:
                one.pixels[..., label] = 230
        answers.append(shown)
    made = run(
        tmp_path,
        packed(tmp_path, *answers),
        passes_colors=True,
        layers=["conv1"],
        costs=[10.0],
        shots=[4],
    )
    assert made.figures["conv1"] == made.figures["mAP"] == made.figures["mAP (11 points)"] == 100
    assert made.figures["4 shot"] == 100
    assert made.figures["4 shot deviation"] == 0
    assert made.card["intervals"]["mAP"] == [100, 100]


def test_a_draw_of_a_few_has_so_many_of_each_and_no_difficult_ones() -> None:
    target = np.array([1, 0, -1, 1, -1, 1, -1, -1, 0, 1])
    rows = [sample_rows(target, 2, 3, seed) for seed in range(30)]
    assert all(
        (target[one] == 1).sum() == 2 and (target[one] == -1).sum() == 3 and len(one) == 5
        for one in rows
    )
    assert len({tuple(one) for one in rows}) > 10
    assert sample_rows(target, 9, 9, 0).tolist() == [0, 2, 3, 4, 5, 6, 7, 9]


def test_the_cost_is_that_of_the_better_folds() -> None:
    random = np.random.RandomState(0)
    shows = np.arange(60) % 3 == 0
    features = unit_length(random.normal(size=(60, 30)) + 0.6 * shows[:, None])
    machines = LinearSVMs(2000)
    marks = {cost: machines.best_cost([cost], features, shows)[1] for cost in (1e-6, 10.0)}
    assert machines.best_cost([1e-6, 10.0], features, shows) == max(
        marks.items(), key=lambda one: one[1]
    )
    assert machines.best_cost(
        [0.3, 0.1], features[:4], shows[:4] * 0 + np.array([1, 0, 0, 0], bool)
    ) == (0.3, 0.0)
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-4)


def test_a_k_that_a_class_has_not_enough_images_for_is_left_out_with_a_note(
    sets: dict, tmp_path: Path
) -> None:
    work = make_work(tmp_path, sets, {"model": model(tmp_path / "m")})
    VocSvm(model="model", layers=["conv2"], shots=[1, 500], samples=1, shot_costs=[1.0]).run(work)
    figures = Scores(work.folder).figures
    assert "1 shot" in figures
    assert "500 shot" not in figures
    assert any(note.startswith("no low-shot with 500: a class has") for note in work.notes)


def test_a_class_that_only_the_test_split_shows_scores_as_chance(
    sets: dict, tmp_path: Path
) -> None:
    shown = scenes("trainval", 48)
    for one in shown:
        one.objects = [thing for thing in one.objects if thing[0] != 1]
    test = scenes("test", 40)
    work = make_work(tmp_path, packed(tmp_path, shown, test), {"model": model(tmp_path / "m")})
    VocSvm(model="model", layers=["conv2"], shots=[]).run(work)
    assert "only the test split shows: green" in work.notes
    assert set(Scores(work.folder).card["selected"]["costs"]["conv2"]) == {"red", "blue"}


@pytest.mark.parametrize("spoil", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_are_an_error(
    spoil: float, sets: dict, tmp_path: Path
) -> None:
    import torch

    from transfer.artifacts import Model
    from transfer.models import backbone
    from transfer.transforms.normalize import Normalization

    network = build_network(backbone("conv4"), 0)
    with torch.no_grad():
        next(network.parameters()).fill_(spoil)
    Model.write(tmp_path, network, size=32, normalization=Normalization(), made_by={}, history=[])
    with pytest.raises(TransferError, match="finite number"):
        VocSvm(model="model").run(make_work(tmp_path / "w", sets, {"model": Model(tmp_path)}))


def test_sets_without_annotations_are_refused(sets: dict, tmp_path: Path) -> None:
    bare = {
        **sets,
        "train": pack(tmp_path / "bare", scenes("trainval", 5), "trainval", annotate=False),
    }
    with pytest.raises(TransferError, match="split 'trainval' have no annotations"):
        run(tmp_path, bare)
