"""`compare --plot`: numbers on both axes and the baseline, in a terminal and in a picture."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.comparison import test_compare
from tests.comparison.test_compare import ONE, PRETEXTS
from tests.conftest import Said
from transfer.comparison.time_axis import TimeAxis
from transfer.report.drawing import Drawing, Text, _font

Make = Callable[..., Path]
Invoke = Callable[..., Said]


def plot_lines(said: Said) -> list[str]:
    text = said.out.split("over the training time of the evaluated network")[1]
    return text.splitlines()


@pytest.mark.parametrize("seconds", [0.004, 0.35, 3.0, 30.0, 100.0, 5000.0, 90_000.0, 5e6])
def test_the_terminal_plot_has_numbers_on_both_axes_and_the_baseline(
    seconds: float, made: Make, compare: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_compare, "SECONDS", seconds)
    file = made(PRETEXTS, seeds="[0]")
    lines = plot_lines(compare(file, "--plot"))
    assert max(map(len, lines)) <= 80
    marked = [line for line in lines if re.match(r" *\d+\.\d % \|", line)]
    figures = [float(line.split("%")[0]) for line in marked]
    assert len(figures) == 8
    assert figures == sorted(figures, reverse=True)
    assert 0 <= figures[-1] < figures[0] <= 100
    ticks = lines[next(i for i, line in enumerate(lines) if "+---" in line) + 1]
    assert len(re.findall(r"[\d.]+ (?:s|min|h)\b", ticks)) >= 2
    baselines = [line for line in lines if "(baseline)" in line]
    assert [line.split()[0] for line in baselines] == ["-", "="]
    for line in baselines:
        sign = line.split()[0]
        assert any(row.count(sign) > 40 for row in lines if "|" in row)


def test_all_rows_at_the_end_of_the_scale_keep_the_axis_within_it(
    made: Make, compare: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_compare, "right", lambda one: 200)
    file = made(PRETEXTS)
    text = "\n".join(plot_lines(compare(file, "--plot")))
    assert "100.0 % |" in text
    assert max(float(value) for value in re.findall(r"(\d+\.\d) % \|", text)) == 100


@pytest.mark.parametrize("seconds", [[0.35, 0.4], [3.0], [31.0, 33.0], [1.0, 1e6], [1e9]])
def test_a_time_axis_covers_the_times_and_names_two_of_them(seconds: list[float]) -> None:
    axis = TimeAxis.over(seconds)
    assert all(0 <= axis.share(time) <= 1 for time in seconds)
    if max(seconds) < 1e6:
        assert len(axis.ticks()) >= 2
    assert all(-1e-6 <= share <= 1 + 1e-6 for share, _ in axis.ticks())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
@pytest.mark.parametrize("text", [PRETEXTS, ONE])
def test_a_picture_is_written(
    suffix: str, text: str, made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(text, seeds="[0, 1]")
    said = compare(file, "--plot", f"x.{suffix}")
    assert f"x.{suffix} written" in said.text
    picture = tmp_path / f"x.{suffix}"
    if suffix.lower() == "png":
        with Image.open(picture) as image:
            assert image.width >= 1280
            assert len(image.getcolors(1 << 20) or ()) > 10
    elif suffix == "pdf":
        assert picture.read_bytes().startswith(b"%PDF")
    else:
        texts = [node.text or "" for node in ElementTree.parse(picture).iter() if node.text]
        numbers = [text for text in texts if re.fullmatch(r"\d+(\.\d+)?", text)]
        assert len(numbers) >= 4
        assert any(re.search(r"\d (s|min)$", text) for text in texts)
        if text is PRETEXTS:
            assert any(re.match(r"\d+ random$", text) for text in texts)
            assert any("±" in text for text in texts)


def test_a_picture_goes_with_every_form_and_the_terminal_plot_with_text_only(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(ONE)
    said = compare(file, "--csv", "--plot=x.svg")
    assert said.out.startswith("protocol,")
    assert "written" not in said.out
    assert (tmp_path / "x.svg").exists()
    assert (
        "drop the other format, or name a picture" in compare(file, "--csv", "--plot", check=2).err
    )


@pytest.mark.parametrize("words", [("--plot", "FILE"), ("FILE", "--plot"), ("--plot=-", "FILE")])
def test_a_pipeline_file_after_plot_is_no_picture(
    words: tuple[str, ...], made: Make, compare: Invoke
) -> None:
    file = made(ONE)
    said = compare(*(str(file) if word == "FILE" else word for word in words))
    assert "over the training time" in said.out


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("x.jpg", "x.jpg: a picture is one of .png, .svg, .pdf; choose such a name"),
        ("no/x.png", "no/x.png: the folder no does not exist; make it first"),
        ("folder.png", "folder.png: is a folder; name a file for the picture"),
    ],
)
def test_a_picture_that_cannot_be_is_refused_before_anything_is_read(
    name: str, problem: str, compare: Invoke, pipeline: Make, tmp_path: Path
) -> None:
    (tmp_path / "folder.png").mkdir()
    said = compare(pipeline(ONE), "--plot", name, check=2)
    assert said.err == f"transfer: {problem}\n"


def test_names_in_a_picture_are_text_and_nothing_else(tmp_path: Path) -> None:
    drawing = Drawing(200, 100, "<script>")
    drawing.shapes.append(Text(10, 20, "日 & <b>", "#000"))
    for name in ("x.svg", "x.png"):
        drawing.save(tmp_path / name)
    texts = [node.text for node in ElementTree.parse(tmp_path / "x.svg").iter()]
    assert texts[1:] == ["<script>", None, "日 & <b>"]


def test_a_picture_without_fonts_of_the_system(
    made: Make, compare: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transfer.report.drawing.FONTS", ())
    _font.cache_clear()
    compare(made(PRETEXTS, seeds="[0, 1]"), "--plot", "x.png")
    _font.cache_clear()
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_a_figure_below_zero_is_inside_the_plots(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(
        PRETEXTS, main="ami", figures={"ami": -2.5}, intervals={"ami": [-6.0, 1.0]}, outcomes=None
    )
    lines = plot_lines(compare(file, "--plot"))
    figures = [float(line.split("%")[0]) for line in lines if re.match(r" *-?\d+\.\d % \|", line)]
    assert figures[-1] < -2.5 < figures[0] < 1
    compare(file, "--plot", "x.svg")
    texts = [node.text or "" for node in ElementTree.parse(tmp_path / "x.svg").iter()]
    assert "ami, %" in texts
    assert min(float(text) for text in texts if re.fullmatch(r"-?\d+(\.\d+)?", text)) < -2.5


def test_rows_without_training_time_are_in_the_picture(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    untrained = ONE.replace("rotation", "random").replace(", epochs: 1, batch_size: 32", "")
    compare(made(untrained), "--plot", "x.svg")
    texts = [node.text or "" for node in ElementTree.parse(tmp_path / "x.svg").iter()]
    assert any("random" in text for text in texts)
    assert "training time of the network" not in texts


@pytest.mark.slow
def test_a_picture_of_many_rows_shows_sixty(made: Make, compare: Invoke, tmp_path: Path) -> None:
    text = PRETEXTS.replace("k: [3, 5]", f"k: {list(range(2, 34))}")
    compare(made(text, seeds="[0]"), "--plot", "x.svg")
    texts = [node.text or "" for node in ElementTree.parse(tmp_path / "x.svg").iter()]
    assert sum(bool(re.match(r"\d+ \w+ · ", text)) for text in texts) == 60
    assert any(re.match(r"and \d+ more in the table", text) for text in texts)
