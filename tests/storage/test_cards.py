"""The JSON cards of artifacts, read into dataclasses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from transfer.artifacts import Images, Model, Scores, read_json, write_json
from transfer.errors import CorruptArtifact
from transfer.models import backbone
from transfer.models.build import build_network
from transfer.transforms.normalize import Normalization

IMAGES = {"size": 8, "split": "train", "classes": ["a", "b"]}
SCORES = {"protocol": "knn/weighted-v1", "figures": {"knn": 50.0}}


def model(folder: Path) -> Model:
    network = build_network(backbone("conv4"), 0)
    normalization = Normalization(lightness=True)
    Model.write(
        folder, network, size=32, normalization=normalization, made_by={"stage": "X"}, history=[]
    )
    return Model(folder)


def test_model_card_has_the_fields_of_the_file(tmp_path: Path) -> None:
    card = model(tmp_path).card
    written = json.loads((tmp_path / "model.json").read_text())
    assert card.normalization == Normalization(lightness=True)
    for name in ("backbone", "default_layer", "layers", "made_by", "size"):
        assert getattr(card, name) == written[name]
    assert card.fit == "crop"


def test_older_files_have_defaults(tmp_path: Path) -> None:
    write_json(tmp_path / "images.json", IMAGES)
    card = Images(tmp_path).card
    assert (card.size, card.form, card.fit, card.skipped) == (8, "raw", "crop", [])
    write_json(tmp_path / "scores.json", SCORES)
    scores = Scores(tmp_path).card
    assert (scores.main, scores.intervals, scores.counts) == ("", {}, {})
    assert not scores.is_complete
    write_json(tmp_path / "scores.json", SCORES | {"main": "knn"})
    assert Scores(tmp_path).card.is_complete


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("size", "32", "model.json: `size` is str, not int"),
        ("backbone", None, "model.json lacks `backbone`"),
        ("layers", [], "model.json: `layers` is list, not dict"),
        ("normalization", {"unknown": 1}, "model.json: `normalization` is invalid"),
    ],
)
def test_invalid_field_is_damage(tmp_path: Path, name: str, value: Any, message: str) -> None:
    model(tmp_path)
    card = read_json(tmp_path / "model.json")
    write_json(tmp_path / "model.json", card | {name: value})
    with pytest.raises(CorruptArtifact, match=message):
        _ = Model(tmp_path).card


@pytest.mark.parametrize("name", IMAGES)
def test_missing_field_of_images_is_damage(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "images.json", {key: IMAGES[key] for key in IMAGES if key != name})
    with pytest.raises(CorruptArtifact, match=f"lacks `{name}`"):
        _ = Images(tmp_path).card


def test_file_that_is_not_a_mapping_is_damage(tmp_path: Path) -> None:
    write_json(tmp_path / "scores.json", [1])
    with pytest.raises(CorruptArtifact, match="is not a mapping"):
        _ = Scores(tmp_path).card
