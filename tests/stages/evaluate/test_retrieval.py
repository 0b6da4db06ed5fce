"""The protocol `retrieval`, against scikit-learn and on a miniature set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stages.evaluate.retrieval import Retrieval, rank_gallery
from tests.stages.evaluate.test_linear import model
from tests.stages.handmade import pack_images, run_stage
from transfer.numerics.average_precision import ranked_precisions


def test_average_precision_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    random = np.random.RandomState(0)
    queries, bank = (
        torch.nn.functional.normalize(torch.from_numpy(random.randn(n, 8)), dim=1) for n in (20, 70)
    )
    wanted, labels = (
        torch.from_numpy(random.randint(0, 4, 20)),
        torch.from_numpy(random.randint(0, 4, 70)),
    )
    hits = labels[rank_gallery(queries, bank)] == wanted[:, None]
    expected = [
        average_precision_score((labels == one).numpy(), (query @ bank.T).numpy())
        for one, query in zip(wanted, queries, strict=True)
    ]
    np.testing.assert_allclose(ranked_precisions(hits.numpy()), expected, atol=1e-12)


def test_a_retrieval_draws_what_it_found(sets: dict, tmp_path: Path) -> None:
    from PIL import Image

    made = run_stage(Retrieval(model="model"), tmp_path / "w", sets, model=model(tmp_path / "m"))
    with Image.open(made.folder / "nearest.png") as picture:
        assert picture.width > picture.height > 1000


def test_queries_of_classes_that_no_training_image_has_are_left_out(
    sets: dict, tmp_path: Path
) -> None:
    train = sets["train"]
    known = np.flatnonzero(train.labels < 5)
    few = pack_images(tmp_path / "few", np.array(train.pixels)[known], train.labels[known])
    made = run_stage(
        Retrieval(model="model"), tmp_path / "w", sets | {"train": few}, model=model(tmp_path / "m")
    )
    assert made.card["counts"]["test"] == int((sets["test"].labels < 5).sum())
