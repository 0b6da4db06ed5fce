"""`embed` decodes files as packing does: every kind, with the `value_range` of the training set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import transfer
from tests.conftest import command_line
from tests.datasets.conftest import encode, picture
from tests.datasets.packed.test_decode_kinds import png
from transfer.errors import CorruptArtifact, UsageError

PIPELINE = """\
data: {folder: set, size: 32, value_range: [0, 4095]}
stages:
  net: {uses: pretext/random, backbone: {name: conv4, width: 0.25}}
  features: {uses: extract/network, model: net}
"""
VALUES = np.linspace(0, 4095, 32 * 32).round().astype(np.uint16).reshape(32, 32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of images with a `value_range`."""
    folder = tmp_path_factory.mktemp("deep")
    (folder / "set").mkdir()
    (folder / "set/deep.png").write_bytes(png(VALUES, 0, 16))
    (folder / "deep.yaml").write_text(PIPELINE, encoding="utf-8")
    store = ("--store", folder / "store")
    command_line("run", "deep.yaml", *store, "--device", "cpu", "--threads", 1, cwd=folder)
    command_line("export", "deep.yaml", "net", folder / "model", *store, cwd=folder)
    return folder / "model"


@pytest.mark.slow
def test_a_file_is_embedded_with_the_range_of_the_training_images(
    exported: Path, tmp_path: Path
) -> None:
    model = transfer.load_model(exported)
    assert json.loads((exported / "model.json").read_text())["value_range"] == [0, 4095]
    assert "scale the values 0 to 4095 to 0 to 255" in (exported / "README.md").read_text()
    gray = np.rint(VALUES * (255 / 4095)).astype(np.uint8)
    expected = model.embed(np.stack([gray] * 3, axis=2))
    (tmp_path / "deep.png").write_bytes(png(VALUES, 0, 16))
    for image in (tmp_path / "deep.png", Image.open(tmp_path / "deep.png")):
        np.testing.assert_allclose(model.embed(image), expected, rtol=1e-5, atol=1e-6)
    eight_bits = np.asarray(picture(1, 32, 32))
    Image.fromarray(eight_bits).save(tmp_path / "plain.tif")
    np.testing.assert_array_equal(
        model.embed(tmp_path / "plain.tif"), model.embed(np.array(eight_bits))
    )


@pytest.mark.slow
def test_files_that_are_no_pictures_are_named_and_good_ones_embedded(
    exported: Path, tmp_path: Path
) -> None:
    model = transfer.load_model(exported)
    (tmp_path / "a.jpg").write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UsageError, match=r"a\.jpg: an SVG drawing: export it as"):
        model.embed(tmp_path / "a.jpg")
    info = PngImagePlugin.PngInfo()
    info.add_text("history", "step " * 300_000, zip=True)
    (tmp_path / "b.png").write_bytes(encode(picture(), "PNG", pnginfo=info))
    assert model.embed(tmp_path / "b.png").ndim == 1
    with pytest.raises(UsageError, match="more than 100: raise `max_pixels`"):
        model.embed(tmp_path / "b.png", max_pixels=100)


@pytest.mark.slow
@pytest.mark.parametrize("value_range", [[0], ["a", 1], 3, [0, 1, 2], [True, 2]])
def test_a_faulty_range_in_a_model_is_named(
    exported: Path, tmp_path: Path, value_range: object
) -> None:
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    card = json.loads((exported / "model.json").read_text()) | {"value_range": value_range}
    (tmp_path / "model.json").write_text(json.dumps(card))
    with pytest.raises(CorruptArtifact, match="`value_range` is"):
        transfer.load_model(tmp_path).embed(np.zeros((8, 8, 3), np.uint8))
