"""Under three seeds nothing has an interval over seeds, whatever prints or draws it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.comparison import test_compare
from tests.comparison.test_compare import PRETEXTS
from tests.conftest import Said
from transfer.api import Pipeline
from transfer.comparison.compare import compare as compare_scores
from transfer.comparison.text_table import row_titles
from transfer.report.comparison_plots import interval_plot, time_plot
from transfer.report.svg_axes import YAxis
from transfer.report.svg_plots import LinePlot, Series

Make = Callable[..., Path]
Invoke = Callable[..., Said]
CHEAP = """\
name: cheap
seed: ${seed}
data: {card: drawings, limit: 128}
matrix: {width: [0.25, 0.5], seed: SEEDS}
stages:
  network: {uses: pretext/random, backbone: {name: conv4, width: "${width}"}}
  knn: {uses: evaluate/knn, model: network, k: 5}
"""


def sections(said: Said) -> list[dict[str, Any]]:
    return json.loads(said.out)["sections"]


@pytest.mark.parametrize("form", [(), ("--markdown",), ("--latex",)])
@pytest.mark.parametrize(("seeds", "pairs"), [("[0, 1]", True), ("[0, 1, 2]", False)])
def test_tables_of_two_seeds_show_both_differences_and_no_interval(
    form: tuple[str, ...], seeds: str, pairs: bool, made: Make, compare: Invoke
) -> None:
    text = compare(made(PRETEXTS, seeds=seeds), *form).out.replace("$-$", "−")
    table = "\n".join(line for line in text.splitlines() if "rotation" in line)
    assert len(table.splitlines()) == 3
    assert re.search(r"\d ± \d|\d \$\\pm\$ \d", table)
    assert bool(re.search(r"[+−]\d+\.\d \([+−]\d+\.\d, [+−]\d+\.\d\)", table)) == pairs
    assert ("[" in table) != pairs


def test_numbers_of_two_seeds_are_their_values(made: Make, compare: Invoke) -> None:
    file = made(PRETEXTS, seeds="[0, 1]")
    (section,) = sections(compare(file, "--json"))
    for row in section["rows"]:
        assert (row["n"], row["low"], row["high"], len(row["values"])) == (2, None, None, 2)
        assert row["deviation"] == pytest.approx(
            abs(row["values"][0] - row["values"][1]) / 2**0.5, abs=1e-9
        )
    found = next(row for row in section["rows"] if row["random"])["random"]
    assert (found["low"], found["high"], found["over"], found["seeds"]) == (None, None, "", 2)
    assert found["difference"] == pytest.approx(sum(found["values"]) / 2)
    lines = list(csv.DictReader(io.StringIO(compare(file, "--csv").out)))
    assert {(line["low"], line["high"], line["random_low"]) for line in lines} == {("", "", "")}
    assert all(len(line["values"].split()) == 2 for line in lines)


def test_three_seeds_have_their_interval(made: Make, compare: Invoke) -> None:
    (section,) = sections(compare(made(PRETEXTS), "--json"))
    assert all(row["low"] < row["mean"] < row["high"] for row in section["rows"])


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "spans", "dots"), [("[0, 1]", 0, 4), ("[0, 1, 2]", 2, 0)])
def test_the_report_draws_intervals_of_three_seeds_only(
    seeds: str, spans: int, dots: int, pipeline: Make, invoke: Invoke, tmp_path: Path
) -> None:
    file = pipeline(CHEAP.replace("SEEDS", seeds))
    invoke("run", file, "--store", "store", "--threads", 1)
    invoke("report", file, "--store", "store", "-o", "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count('<line class="span"') == spans
    assert page.count('<circle class="seed"') == dots
    ticks = [float(tick) for tick in re.findall(r">(-?[\d.]+) %</text>", page)]
    assert ticks
    assert all(0 <= tick <= 100 for tick in ticks)


def test_an_interval_beyond_the_axis_is_cut_off_with_a_mark(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_compare, "right", lambda one: [200, 190, 120][one.member["seed"]])
    file = made(PRETEXTS)  # 85 +- 4.3027 * 21.79 / 3 ** 0.5
    (section,) = compare_scores([Pipeline.load(file, store=tmp_path / "store")]).sections
    assert section.rows[0].figure.interval == pytest.approx((30.86, 139.14), abs=0.01)
    plot = interval_plot(section, row_titles(section))
    assert [row.beyond for row in plot.rows] == [[("›", 100.0)]] * len(section.rows)
    assert all(row.interval and row.interval[1] == 100 for row in plot.rows)
    assert plot.ticks[-1] == ("100 %", 100.0)
    assert "an interval goes beyond the axis" in time_plot(section)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([20.0, 150.0, -50.0], 0, 100),
        ([100.0], 90, 100),
        ([0.0], 0, 10),
        ([99.7, 99.9], 99.6, 100),
        ([40.0, 60.0], 40, 60),
    ],
)
def test_an_axis_stays_within_its_bounds(values: list[float], low: float, high: float) -> None:
    axis = YAxis.over(values, (0.0, 100.0))
    assert low <= axis.low < axis.high <= high
    assert axis.ticks
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


def test_a_plot_of_percents_clips_intervals_and_one_of_losses_does_not() -> None:
    line = Series("a", [0, 1], [50.0, 95.0], [(40.0, 60.0), (80.0, 150.0)])
    percents = LinePlot("accuracy", "epoch", "accuracy, %").draw([line])
    assert percents.count('beyond" d=') == 1
    assert "an interval goes beyond the axis" in percents
    assert ">100<" in percents
    assert ">120<" not in percents
    losses = LinePlot("loss", "epoch", "loss").draw([line])
    assert "beyond" not in losses
    assert ">150<" in losses
