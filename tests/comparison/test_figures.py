"""Names and values of figures as text."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.conftest import Said, Tiny
from transfer.comparison.figures import figure_name, percent, points


def test_values_have_one_decimal_and_a_sign() -> None:
    assert percent(92.149) == "92.1 %"
    assert percent(100) == "100.0 %"
    assert (points(1.26), points(-0.4), points(0)) == ("+1.3", "−0.4", "+0.0")


@pytest.mark.parametrize(
    ("figure", "layers", "name"),
    [
        ("best", ["conv4"], "chosen layer (conv4)"),
        ("best", ["conv4", "conv3", "conv4"], "chosen layer (conv3, conv4)"),
        ("best", [None], "chosen layer"),
        ("deepest", ["conv5"], "deepest layer (conv5)"),
        ("mAP", ["conv5"], "mAP"),
    ],
)
def test_a_figure_of_a_layer_names_the_layer(
    figure: str, layers: list[str | None], name: str
) -> None:
    assert figure_name(figure, layers) == name


def test_the_chosen_layer_of_a_probe_is_named_with_the_images_of_the_choice(
    finished: Tiny, invoke: Callable[..., Said]
) -> None:
    words = ("compare", finished.file, "--store", finished.store, "--protocol", "linear")
    (section,) = json.loads(invoke(*words, "--json").out)["sections"]
    layer, count = section["rows"][0]["selected"][0]["layer"], section["counts"]["selection"]
    text = invoke(*words).out
    assert f"chosen layer ({layer})" in text
    assert f"{section['rows'][0]['mean']:.1f} % [" in text
    note = f"the layer is chosen on {count} held-out images of the training split"
    assert section["notes"] == [note]
    assert note in text
