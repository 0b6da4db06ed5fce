"""The report: its HTML, its accessibility, and its rendering in a browser."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Said, Tiny, command_line

pytestmark = pytest.mark.slow

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
BROWSER = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--enable-logging=stderr",
]
VOID = {"img", "meta", "link", "br", "input", "hr"}

CHEAP = """\
# Random networks, `k` clusters, <b>nothing</b> trained & nothing learned.
name: cheap
seed: ${seed}
data: {folder: photos, size: 32}
matrix: {k: [2, 3], seed: [0, 1, 2]}
stages:
  pretext: {uses: pretext/random, backbone: {name: conv4, width: 0.5}}
  features: {uses: extract/network, model: pretext, layer: conv2, pool: 1}
  clusters: {uses: cluster, features: features, k: "${k}", iterations: 2}
  labels: {uses: assign, features: features, clusters: clusters}
"""


class Page(HTMLParser):
    """The tags and words of a page, which must be well formed."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag in names]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def written(finished: Tiny) -> Path:
    """The page of the finished tiny pipeline."""
    target = finished.file.with_name("report.html")
    done = command_line(
        "report", finished.file, "--store", finished.store, "-o", target, cwd=finished.file.parent
    )
    assert "report.html written" in done.stdout
    assert done.stderr == ""
    return target


@pytest.fixture(scope="module")
def cheap(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """A finished matrix of six members over classes whose names must be escaped in HTML."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("cheap")
    random = np.random.RandomState(0)
    for number, name in enumerate(["<script>alert(1)<", 'a "quoted" & odd one']):
        name = name.replace("/", "")
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.randint(0, 128, (40, 48, 3)) + 100 * number
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / name / f"<i>{i}.png")
    made = Tiny(folder / "cheap.yaml", folder / "store")
    made.file.write_text(CHEAP, encoding="utf-8")
    command_line(
        "run", made.file, "--store", made.store, "--threads", 1, "--device", "cpu", cwd=folder
    )
    return made


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in {text}"
    return match


def artifacts(store: Path, stage: str) -> list[Path]:
    return sorted(path.parent for path in (store / stage).glob("*/manifest.json"))


def test_nothing_is_loaded_from_anywhere(written: Path) -> None:
    page, text = read(written), written.read_text(encoding="utf-8")
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "data", "poster", "action", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), (
                f"<{tag} {name}={attributes[name][:60]}>"
            )
        assert attributes.get("href", "#").startswith(("#", "data:,")), (
            f"<{tag} href={attributes['href'][:60]}>"
        )
        assert "src" not in attributes or tag == "img"
    assert not re.search(r"@import|url\(|https?://", text)


def test_links_lead_somewhere_and_ids_are_unique(written: Path) -> None:
    page = read(written)
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    wanted = {one["href"][1:] for one in page.all("a") if one["href"].startswith("#")}
    wanted |= {one["aria-labelledby"] for _, one in page.tags if "aria-labelledby" in one}
    assert wanted - set(page.ids) == set()


def test_it_can_be_read_without_eyes(written: Path) -> None:
    page = read(written)
    assert all(one["alt"].strip() for one in page.all("img"))
    assert all({"width", "height"} <= set(one) for one in page.all("img"))
    assert all(one.get("scope") in ("col", "row") for one in page.all("th"))
    for one in page.all("svg"):
        assert one.get("aria-hidden") == "true" or (one.get("role") and one.get("aria-label"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


def test_every_section_of_a_finished_pipeline_is_there(written: Path) -> None:
    page = read(written)
    wanted = {
        "comparison",
        "pipeline",
        "training",
        "preview",
        "clusters",
        "sizes",
        "neighbors",
        "filters",
        "layers",
    }
    assert wanted | {"provenance"} <= set(page.ids)
    assert "missing" not in page.ids
    assert "damaged" not in page.ids
    assert len(page.all("img")) > 10
    assert {"image", "tiles"} <= set(page.words)  # what Jigsaw++ sees


def test_numbers_are_those_of_the_store_with_where_they_come_from(
    written: Path, finished: Tiny
) -> None:
    page = read(written)
    for stage in ("linear", "knn"):
        (folder,) = artifacts(finished.store, f"evaluate/{stage}")
        card = json.loads((folder / "scores.json").read_text())
        manifest = json.loads((folder / "manifest.json").read_text())
        assert f"{card['figures'][card['main']]:.1f} %" in page.text
        assert all(f"{value:.1f} %" in page.text for value in card["figures"].values())
        assert card["protocol"] in page.text
        for told in (
            manifest["key"],
            manifest["environment"]["device"],
            manifest["environment"]["versions"]["torch"],
        ):
            assert told in page.text
        assert f"made-{manifest['key']}" in page.ids
        assert {"href": f"#made-{manifest['key']}"}.items() <= {
            name: value
            for one in page.all("a")
            for name, value in one.items()
            if one["href"].endswith(manifest["key"])
        }.items()
        assert (
            shlex.join(
                ["transfer", "run", str(finished.file), stage, "--store", str(finished.store)]
            )
            in page.text
        )


def test_chance_is_drawn_beside_accuracy(written: Path) -> None:
    text = read(written).text
    assert "chance (5.0 %)" in text  # of 20 permutations
    plots = [
        one["aria-label"] for one in read(written).all("svg") if "plot" in one.get("class", "")
    ]
    assert any(
        plot.startswith("accuracy of target") and "chance 20.0 %" in plot for plot in plots
    )  # of five clusters


def test_nothing_done_is_an_error_that_says_what_to_run(
    invoke: Callable[..., Said], finished: Tiny, tmp_path: Path
) -> None:
    target = tmp_path / "none.html"
    said = invoke("report", finished.file, "--store", tmp_path / "empty", "-o", target, check=1)
    assert "nothing to report" in said.err
    assert f"transfer run {finished.file} --store {tmp_path / 'empty'}" in said.err
    assert not target.exists()


def test_what_is_missing_is_named_with_its_command(
    invoke: Callable[..., Said], tiny: Tiny, tmp_path: Path
) -> None:
    shutil.rmtree(tiny.store / "evaluate")
    shutil.rmtree(tiny.store / "target")
    invoke("report", tiny.file, "--store", tiny.store, "-o", tmp_path / "part.html")
    page = read(tmp_path / "part.html")
    assert "Missing: 3 of 8 stages" in page.text
    assert f"transfer run {tiny.file} --store {tiny.store}" in page.text
    assert {"clusters", "filters", "preview"} <= set(page.ids)
    assert "layers" not in page.ids
    assert "no finished score to compare" in page.text


def test_what_is_out_of_date_is_not_shown(
    invoke: Callable[..., Said], tiny: Tiny, tmp_path: Path
) -> None:
    """With another number of clusters, what depends on them is no result of this pipeline."""
    words = ("--set", "stages.clusters.k=4", "-o", tmp_path / "other.html")
    invoke("report", tiny.file, "--store", tiny.store, *words)
    page = read(tmp_path / "other.html")
    assert "k 5 → 4" in page.text
    assert not {"clusters", "layers", "sizes"} & set(page.ids)
    assert "training" in page.ids


def test_damage_is_told_and_left_out(
    invoke: Callable[..., Said], tiny: Tiny, tmp_path: Path
) -> None:
    (folder,) = artifacts(tiny.store, "assign")
    data = bytearray((folder / "labels.h5").read_bytes())
    data[len(data) // 2] ^= 255
    (folder / "labels.h5").write_bytes(data)
    said = invoke("report", tiny.file, "--store", tiny.store, "-o", tmp_path / "torn.html", check=4)
    assert "damaged, and left out: labels: " in said.err
    page = read(tmp_path / "torn.html")
    assert "labels.h5 is not what was written" in page.text
    assert "clusters" not in page.ids
    assert "filters" in page.ids


def test_names_of_users_are_text_and_nothing_else(
    invoke: Callable[..., Said], cheap: Tiny, tmp_path: Path
) -> None:
    invoke("report", cheap.file, "--store", cheap.store, "-o", tmp_path / "cheap.html")
    page = read(tmp_path / "cheap.html")
    assert "<script>alert(1)<" in page.text
    assert 'a "quoted" & odd one' in page.text
    assert "<b>nothing</b> trained & nothing learned" in page.text
    assert len(page.all("script")) == 1
    assert not page.all("i", "b") or all("alert" not in str(one) for one in page.all("i", "b"))
    assert any("<script>alert(1)<" in one["alt"] for one in page.all("img"))


def test_of_a_matrix_some_members_are_shown_and_the_others_can_be(
    invoke: Callable[..., Said], cheap: Tiny, tmp_path: Path
) -> None:
    invoke("report", cheap.file, "--store", cheap.store, "-o", tmp_path / "cheap.html")
    page = read(tmp_path / "cheap.html")
    shown = [word for word in page.words if re.fullmatch(r"labels\[.*\]", word)]
    assert len(set(shown)) >= 4
    assert "labels ×6" in page.text
    assert "2 more members of the matrix not shown" in page.text
    command = search(
        r"not shown\. To see one: transfer (report .*?member\.html --store \S+)", page.text
    )
    invoke(*shlex.split(command[1]))  # nothing has to run for it
    assert "Missing:" not in read(tmp_path / "member.html").text
    assert "comparison" not in page.ids  # nothing of it evaluates anything
    assert ", compared by their features;" in page.text


def test_the_page_is_the_same_each_time(
    invoke: Callable[..., Said], written: Path, finished: Tiny
) -> None:
    again = written.with_name("again.html")
    invoke("report", finished.file, "--store", finished.store, "-o", again)
    assert again.read_bytes() == written.read_bytes()


def test_published_curves_stand_only_beside_the_same_protocol_network_and_images() -> None:
    from types import SimpleNamespace as Some

    from transfer.datasets.packed.pack_stage import Pack
    from transfer.datasets.spec import ImageSpec
    from transfer.report.published_results import IMAGENET, PUBLISHED_OPTIONS, published_results

    def score(
        card: str = "imagenet", train: int = 1_281_167, name: str = "alexnet", **options: object
    ) -> Any:
        images = {
            role: Some(
                stage=Pack.model_construct(
                    spec=ImageSpec.model_validate({"card": card}),
                    facts=Some(count=count),
                    classes=[],
                )
            )
            for role, count in {"train": train, "test": 50_000}.items()
        }
        network = Some(**{"name": name, **PUBLISHED_OPTIONS, **options})
        return Some(
            images=images, inputs={"model": Some(stage=Some(backbone_spec=lambda: network))}
        )

    assert published_results(score(), "linear/zhang2016-v2") == IMAGENET
    assert published_results(score(), "linear/zhang2016-v2 (epochs 7)") == {}
    assert published_results(score(), "linear/deepcluster-v1") == {}
    assert published_results(score(train=128_116), "linear/zhang2016-v2") == {}
    assert published_results(score(card="imagenet100"), "linear/zhang2016-v2") == {}
    assert published_results(score(name="vgg16"), "linear/zhang2016-v2") == {}
    assert published_results(score(width=0.5), "linear/zhang2016-v2") == {}
    assert published_results(score(batch_norm=True), "linear/zhang2016-v2") == {}
    assert published_results(score(stem="small"), "linear/zhang2016-v2") == {}
    assert published_results(score(conv1_stride=2), "linear/zhang2016-v2") == {}
    assert published_results(score(name="alexnet_bvlc"), "linear/zhang2016-v2") == IMAGENET
    assert published_results(score(), "linear/zhang2016-v2 (size 256)") == {}


def test_the_pipelines_picture_has_no_box_on_another_and_no_line_backwards(
    cheap: Tiny, finished: Tiny
) -> None:
    from transfer.api import Pipeline
    from transfer.report.collect import ReportData
    from transfer.report.pipeline_graph import pipeline_svg

    for made in (cheap, finished):
        report = ReportData.read(Pipeline.load(made.file, store=made.store))
        svg = str(pipeline_svg(report))
        rects = [
            tuple(map(float, one))
            for one in re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg)
        ]
        assert len(rects) == len({one.planned.name for one in report.methods})
        for number, (x, y, width, height) in enumerate(rects):
            for a, b, c, d in rects[number + 1 :]:
                assert x + width <= a or a + c <= x or y + height <= b or b + d <= y
        for start, end in re.findall(r'<path d="M(\d+) .*? (\d+) \d+"/>', svg):
            assert int(start) < int(end)
        total, deep = map(float, search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        assert all(x >= 0 and y >= 0 and x + w <= total and y + h <= deep for x, y, w, h in rects)


def test_round_numbers_reach_over_all_values() -> None:
    from transfer.report.svg_axes import round_ticks

    for low, high in ((0, 1), (0.25, 0.31), (-3, 17), (5, 5), (0, 0), (1e-7, 3e-7), (12, 40_000)):
        ticks = round_ticks(low, high, 5)
        assert ticks[0] <= low
        assert ticks[-1] >= high
        assert 2 <= len(ticks) <= 9
        assert ticks == sorted(set(ticks))


def browse(page: Path, width: int, folder: Path, probe: str) -> tuple[dict[str, float], str]:
    """Return the JavaScript object `probe` at this width, and the browser's console output.

    The page is in a frame, because a window is at least 500 px wide.
    """
    assert CHROMIUM is not None
    script = (
        "<script>addEventListener('load', () => "
        f"parent.postMessage(JSON.stringify({probe}), '*'))</script></body>"
    )
    copy, around = folder / f"page-{width}.html", folder / f"around-{width}.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    around.write_text(
        "<!DOCTYPE html><title></title>"
        "<script>onmessage = message => document.title = message.data</script>"
        f'<iframe src="{copy.name}" style="width: {width}px; height: 900px; border: 0"></iframe>',
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            CHROMIUM,
            *BROWSER,
            f"--user-data-dir={folder / f'profile-{width}'}",
            "--window-size=1600,1000",
            "--virtual-time-budget=5000",
            "--dump-dom",
            around.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = Page(search(r"(?s)<title>.*?</title>", done.stdout)[0]).text
    return json.loads(said), "\n".join(
        line for line in done.stderr.splitlines() if "CONSOLE" in line
    )


PROBE = """{inner: innerWidth, page: document.documentElement.scrollWidth,
 loaded: performance.getEntriesByType('resource')
   .filter(one => !one.name.startsWith('data:')).length,
 broken: [...document.images].filter(one => !one.complete || !one.naturalWidth).length,
 wide: [...document.querySelectorAll('body *')]
   .filter(one => !one.closest('.scroll') && !one.closest('svg'))
   .filter(one => one.getBoundingClientRect().right > innerWidth + 1).length,
 images: document.images.length}"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("which", ["written", "cheap"])
def test_in_a_browser_nothing_is_wrong_and_nothing_hangs_over(
    which: str, width: int, written: Path, cheap: Tiny, tmp_path: Path, invoke: Callable[..., Said]
) -> None:
    page = written
    if which == "cheap":
        page = tmp_path / "cheap.html"
        invoke("report", cheap.file, "--store", cheap.store, "-o", page)
    found, console = browse(page, width, tmp_path, PROBE)
    assert console == ""
    assert found["inner"] == width
    assert found["page"] <= width
    assert found["wide"] == 0
    assert found["images"] > 0
    assert found["broken"] == 0
    assert found["loaded"] == 0


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_a_browser_a_link_opens_what_it_leads_to(written: Path, tmp_path: Path) -> None:
    probe = """(() => { const link = document.querySelector('.best a');
      const box = document.getElementById(link.hash.slice(1)).closest('details');
      const before = box.open; location.hash = link.hash;
      dispatchEvent(new Event('hashchange')); return {before: +before, after: +box.open}; })()"""
    found, console = browse(written, 390, tmp_path, probe)
    assert console == ""
    assert found == {"before": 0, "after": 1}


def test_what_labels_make_of_a_network_is_drawn_over_epochs_and_over_their_number(
    tmp_path: Path,
) -> None:
    from transfer.artifacts import Scores
    from transfer.report.label_curves import score_plots

    ways = {
        "finetuned, 10 %": 40.0,
        "finetuned, 100 %": 70.0,
        "random weights, 10 %": 20.0,
        "random weights, 100 %": 60,
    }
    Scores.write(
        tmp_path,
        protocol="finetune/v1",
        settings={},
        selected={},
        main="finetuned, 100 %",
        figures=ways,
        counts={"test": 100, "train, 10 %": 50, "train, 100 %": 500},
        intervals={"finetuned, 10 %": [35.0, 45.0]},
        arrays={
            f"curve.{name}": np.array([[1.0, value - 1], [3.0, value + 1]])
            for name, value in ways.items()
        },
    )
    epochs, labels = map(str, score_plots(Scores(tmp_path), "finetune"))
    assert "finetuned, 10 % 2.0 % to 40.0 %" in epochs  # the mean over the draws
    assert "random weights, 100 % 2.0 % to 60.0 %" in epochs
    assert ">0<" in epochs  # before the first epoch
    assert ">2<" not in epochs
    assert (
        'aria-label="test accuracy of finetune by labels: finetuned 40.0 % to 70.0 %; '
        'random weights 20.0 % to 60.0 %"' in labels
    )
    assert ">50<" in labels
    assert ">500<" in labels


def test_only_so_much_of_large_features_is_read(tmp_path: Path) -> None:
    from transfer.artifacts import Features
    from transfer.report.nearest_neighbors import _rankings
    from transfer.storage.hdf5_tables import write_table

    rows = np.random.RandomState(0).randn(300, 8).astype(np.float32)
    write_table(tmp_path / "features.h5", {"features": rows})
    ranked = _rankings(Features(tmp_path), [3, 40], limit=100)
    unit = rows[:100] / np.linalg.norm(rows[:100], axis=1, keepdims=True)
    for query, found in zip([3, 40], ranked, strict=True):
        assert (
            found.tolist()
            == np.argsort(-(unit @ unit[query]), kind="stable")[: len(found)].tolist()
        )


def test_a_page_needs_a_folder(invoke: Callable[..., Said], finished: Tiny, tmp_path: Path) -> None:
    said = invoke(
        "report",
        finished.file,
        "--store",
        finished.store,
        "-o",
        tmp_path / "no" / "x.html",
        check=2,
    )
    assert f"the folder {tmp_path / 'no'} does not exist" in said.err


def test_which_clusters_are_shown() -> None:
    from transfer.report.cluster_montages import _groups

    sizes = np.array([40, 30, 20, 16, 15, 14, 13, 12, 2, 12, 12, 12])
    counts = np.zeros((12, 3), np.int64)
    counts[:, 0] = sizes // 2
    counts[:, 1] = sizes - counts[:, 0]
    counts[5] = (14, 0, 0)  # pure
    counts[8] = (2, 0, 0)  # pure by chance
    counts[1] = (10, 10, 10)  # most confused
    shown = dict(_groups(sizes, counts))
    assert list(shown) == ["The purest", "The largest", "The most confused", "At random"]
    assert shown["The purest"][0] == 5
    assert 8 not in shown["The purest"]
    assert shown["The largest"] == [0, 1, 2, 3]
    assert shown["The most confused"][0] == 1
    others = {label for title, labels in shown.items() if title != "At random" for label in labels}
    assert not others & set(shown["At random"])
    assert shown == dict(_groups(sizes, counts))  # drawn, and the same each time
    assert dict(_groups(sizes, None))["The smallest"][0] == 8
    assert dict(_groups(sizes[:5], counts[:5])) == {
        "All clusters, the purest first": [4, 0, 2, 3, 1]
    }
