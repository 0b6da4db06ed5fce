"""The protocol `fidelity` on a miniature set and through pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.evaluate.fidelity import Fidelity
from stages.target.pseudo_label import PseudoLabel
from tests.stages.evaluate.test_clusters import labelling
from tests.stages.evaluate.test_linear import model
from tests.stages.handmade import pack_images, run_stage
from transfer.artifacts import Model
from transfer.errors import TransferError


def test_fidelity_goes_through_the_numbers_of_the_clusters(sets: dict, tmp_path: Path) -> None:
    """The target learns colors perfectly; the two labelings number their clusters differently."""
    shades = np.arange(90) % 3
    pixels = (
        np.random.RandomState(0).randint(0, 40, (90, 32, 32, 3)) + 80 * shades[:, None, None, None]
    ).astype("u1")
    seen, unseen = (pack_images(tmp_path / name, pixels, None, name) for name in ("seen", "unseen"))
    learned = labelling(tmp_path / "l", seen, shades, [4, 7, 9])
    spec: Any = {"name": "conv4"}
    target = run_stage(
        PseudoLabel(
            labels="l", backbone=spec, epochs=12, batch_size=30, learning_rate=0.05, crop=1.0
        ),
        tmp_path / "t",
        {"images": seen},
        labels=learned,
    )
    assert isinstance(target, Model)
    theirs = labelling(tmp_path / "u", unseen, np.array([2, 1, 0])[shades], [9, 7, 4])
    made = run_stage(
        Fidelity(target="t", labels="l", unseen="u"),
        tmp_path / "w",
        {"images": unseen},
        target=target,
        labels=learned,
        unseen=theirs,
    )
    assert made.figures["fidelity"] == 100
    strange = labelling(tmp_path / "s", unseen, np.array([2, 1, 0])[shades], [5, 7, 4])
    made = run_stage(
        Fidelity(target="t", labels="l", unseen="u"),
        tmp_path / "v",
        {"images": unseen},
        target=target,
        labels=learned,
        unseen=strange,
    )
    assert made.figures["fidelity"] == pytest.approx(200 / 3)
    assert made.figures["never learned"] == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("unseen", "fault"),
    [
        ("limit: 32", "was trained on images of 'others', or of the same split"),
        ("split: train", ""),
    ],
)
def test_images_of_the_split_that_a_target_learned_from_are_not_unseen(
    unseen: str, fault: str, pipeline: Callable[..., Path], invoke: Callable[..., Any]
) -> None:
    file = pipeline(f"""\
name: seen
seed: 0
data: {{card: drawings, limit: 64}}
stages:
  deep: {{uses: pretext/random, backbone: conv4}}
  features: {{uses: extract/network, model: deep}}
  clusters: {{uses: cluster, features: features, k: 4}}
  labels: {{uses: assign, features: features, clusters: clusters}}
  target: {{uses: target/pseudo_label, labels: labels, backbone: conv4, epochs: 1}}
  other_features: {{uses: extract/network, model: deep, data: {{card: drawings, {unseen}}}}}
  others: {{uses: assign, features: other_features, clusters: clusters}}
  fidelity: {{uses: evaluate/fidelity, target: target, labels: labels, unseen: others}}
""")
    assert fault in invoke("run", file, "--dry-run", check=2 if fault else 0).err


def test_a_target_without_a_head_is_told(sets: dict, tmp_path: Path) -> None:
    pseudo = labelling(tmp_path / "l", sets["test"], sets["test"].labels, list(range(10)))
    with pytest.raises(TransferError, match="has no head"):
        run_stage(
            Fidelity(target="t", labels="l", unseen="u"),
            tmp_path / "w",
            {"images": sets["test"]},
            target=model(tmp_path / "m"),
            labels=pseudo,
            unseen=pseudo,
        )
