"""`transfer compare` on made-up scores in a real store, published as a run publishes them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from stages.evaluate.knn import Knn
from tests.conftest import Said, Tiny
from transfer.api import Pipeline
from transfer.artifacts import Scores, write_json
from transfer.numerics.confidence_intervals import bootstrap_mean
from transfer.stage.base import PlannedStage
from transfer.storage.history import DONE, RecordedRun
from transfer.storage.manifest import Manifest, describe_files

PRETEXTS = """\
name: compared
seed: ${seed}
data: {card: drawings, limit: 64}
matrix: {method: [rotation, random, supervised], k: [3, 5], seed: SEEDS}
stages:
  rotation:
    uses: pretext/rotation
    backbone: &deep {name: resnet18, width: 0.25, stem: small}
    epochs: 1
    batch_size: 32
  random: {uses: pretext/random, backbone: *deep}
  supervised: {uses: pretext/supervised, backbone: *deep, epochs: 1, batch_size: 32}
  features: {uses: extract/network, model: "${method}"}
  clusters: {uses: cluster, features: features, k: "${k}"}
  labels: {uses: assign, features: features, clusters: clusters}
  target: {uses: target/pseudo_label, labels: labels, backbone: conv4, epochs: 1, batch_size: 32}
  probe: {uses: evaluate/knn, model: "${method}", k: 5}
  knn: {uses: evaluate/knn, model: target, k: 5}
  untaught: {uses: pretext/random, backbone: conv4}
  knn_untaught: {uses: evaluate/knn, model: untaught, k: 5}
"""
LABELED = """\
  labeled: {uses: pretext/supervised, backbone: conv4, epochs: 1, batch_size: 32}
  knn_labeled: {uses: evaluate/knn, model: labeled, k: 5}
"""
ONE = """\
name: one
data: {card: drawings, limit: 64}
stages:
  pretext: {uses: pretext/rotation, backbone: conv4, epochs: 1, batch_size: 32}
  score: {uses: evaluate/knn, model: pretext, k: 5}
"""
TESTED = 200  # images of the made-up test split
SECONDS = 30.0  # of every stage
TRAINED = 64


def right(one: PlannedStage) -> int:
    """The correct test images of a made-up score, by method, k and seed."""
    method, seed = one.member.get("method", ""), one.member.get("seed", 0)
    base = {"rotation": 150, "random": 100, "supervised": 170}.get(method, 80)
    return base + one.member.get("k", 0) + [0, 4, 9][seed] + (len(method) * (seed + 1)) % 7


def outcomes(one: PlannedStage) -> np.ndarray:
    """The outcomes of a made-up score: other images are correct for each."""
    order = np.random.RandomState(int(one.key[:8], 16) % 2**32).permutation(TESTED)
    return 100.0 * (order < right(one))


def finish(
    pipeline: Pipeline, skip: Callable[[PlannedStage], bool] = lambda one: False, **card: Any
) -> None:
    """Publish an artifact of every stage; scores are real ones of made-up outcomes."""
    made: dict[str, Manifest] = {}
    for one in pipeline.plan:
        if skip(one):
            continue
        building = pipeline.store.begin(one.key)
        if one.stage.produces is Scores:
            values = outcomes(one)
            protocol = {"evaluate/knn": "knn/weighted-v1"}.get(one.uses, "linear/pooled-v1")
            facts = {
                "protocol": protocol,
                "main": "accuracy",
                "figures": {"accuracy": float(values.mean())},
                "settings": {},
                "selected": {},
                "counts": {"test": TESTED},
                "outcomes": {"accuracy": values},
            }
            Scores.write(building, **{**facts, **card})
        else:
            (building / "made").write_text(one.label)
        inputs = {
            name: made[other.key] for name, other in one.dependencies.items() if other.key in made
        }
        made[one.key] = Manifest(
            stage=one.uses,
            key=one.key,
            produces=one.stage.produces.__name__,
            identity=one.identity,
            inputs={
                name: {"key": m.key, "digest": m.digest, "stage": m.stage}
                for name, m in inputs.items()
            },
            files=describe_files(building),
            figures={"images": TRAINED} if one.uses == "images" else {},
            environment={},
            seconds=SECONDS,
            source="",
        )
        pipeline.store.publish(building, made[one.key])


Write = Make = Callable[..., Path]
Invoke = Callable[..., Said]


def search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern} is not in {text}"
    return match


def rows_of(said: Said) -> list[dict[str, Any]]:
    return [row for section in json.loads(said.out)["sections"] for row in section["rows"]]


def row_of(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    found = [
        row
        for row in rows
        if all({**row, **row["variables"]}.get(name) == wanted[name] for name in wanted)
    ]
    assert len(found) == 1, (wanted, [row["stages"] for row in found])
    return found[0]


# Rows


@pytest.mark.slow
def test_a_row_is_the_mean_over_seeds_and_its_differences_pair_them(
    made: Make, compare: Invoke
) -> None:
    file = made(PRETEXTS)
    rows = rows_of(compare(file, "--json"))
    plan = Pipeline.load(file, store="none").plan

    def figures(name: str, **member: Any) -> np.ndarray:
        found = [one for one in plan.names[name] if member.items() <= one.member.items()]
        assert [one.member["seed"] for one in found] == [0, 1, 2]
        return np.array([outcomes(one).mean() for one in found])

    row = row_of(rows, pretext="rotation", target="conv4", k=5)
    ours = figures("knn", method="rotation", k=5)
    assert (row["n"], row["seeds"], row["values"]) == (3, ["0", "1", "2"], ours.tolist())
    assert (row["mean"], row["deviation"]) == pytest.approx((ours.mean(), ours.std(ddof=1)))
    assert row["network"] == "resnet18 ×0.25"
    assert row["stages"] == [f"knn[method=rotation,k=5,seed={seed}]" for seed in (0, 1, 2)]
    references = {
        "random": ("knn_untaught", {}),
        "supervised": ("knn", {"method": "supervised", "k": 5}),
    }
    for column, (name, member) in references.items():
        theirs = figures(name, **member)
        interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
        assert row[column]["difference"] == pytest.approx((ours - theirs).mean())
        assert (row[column]["low"], row[column]["high"]) == pytest.approx(
            (interval.low, interval.high), rel=1e-3
        )
        assert row[column]["over"] == "seeds"
    assert row["supervised"]["to"] == "knn[method=supervised,k=5]"


def test_what_a_row_is_compared_with_has_its_network(made: Make, compare: Invoke) -> None:
    rows = rows_of(compare(made(PRETEXTS), "--json"))
    deep = row_of(rows, pretext="rotation", target="itself")
    assert (deep["random"]["to"], deep["supervised"]["to"]) == (
        "probe[method=random]",
        "probe[method=supervised]",
    )
    assert (
        row_of(rows, pretext="random", target="itself", network="resnet18 ×0.25")["random"] is None
    )
    assert row_of(rows, pretext="supervised", target="itself")["supervised"] is None
    untaught = row_of(rows, pretext="random", network="conv4")
    assert (untaught["random"], untaught["supervised"]) == (None, None)
    # Random features, clustered and taught, are a row of their own that is compared too.
    assert row_of(rows, pretext="random", target="conv4", k=3)["random"]["to"] == "knn_untaught"


@pytest.mark.slow
def test_a_target_is_held_to_labels_of_its_own_where_there_are_any_and_a_note_says_where_not(
    made: Make, compare: Invoke
) -> None:
    said = json.loads(compare(made(PRETEXTS), "--json").out)
    assert said["sections"][0]["notes"] == [
        "'supervised' is conv4 as the student of a supervised teacher: no network of its kind was "
        "trained on the labels"
    ]
    said = json.loads(compare(made(PRETEXTS + LABELED), "--json").out)
    assert said["sections"][0]["notes"] == []
    row = row_of(said["sections"][0]["rows"], pretext="rotation", target="conv4", k=3)
    assert row["supervised"]["to"] == "knn_labeled"


@pytest.mark.slow
@pytest.mark.parametrize("left", [[0, 2], [2]])
def test_a_difference_is_over_the_seeds_that_both_rows_have(
    left: list[int], made: Make, compare: Invoke
) -> None:
    gone = [f"knn[method=rotation,k=3,seed={seed}]" for seed in {0, 1, 2} - {*left}]
    file = made(PRETEXTS, skip=lambda one: one.label in gone)
    section = json.loads(compare(file, "--json").out)["sections"][0]
    found = row_of(section["rows"], pretext="rotation", target="conv4", k=3)["random"]
    plan = Pipeline.load(file, store="none").plan
    ours, theirs = (
        np.array([outcomes(plan.find(name.format(seed))[0]).mean() for seed in left])
        for name in ("knn[method=rotation,k=3,seed={}]", "knn_untaught[seed={}]")
    )
    assert found["difference"] == pytest.approx((ours - theirs).mean())
    assert (found["seeds"], found["over"]) == (len(left), "")
    assert (found["low"], found["high"]) == (None, None)
    assert found["values"] == pytest.approx((ours - theirs).tolist())
    note = "where two rows have different seeds, a difference is over those they share"
    assert note in section["notes"]
    whole = made(PRETEXTS.replace("limit: 64", "limit: 48"), "whole.yaml")
    assert note not in json.loads(compare(whole, "--json").out)["sections"][0]["notes"]


def test_one_seed_has_the_interval_over_images_and_pairs_them_when_asked(
    made: Make, compare: Invoke
) -> None:
    file = made(PRETEXTS, seeds="[1]")
    plan = Pipeline.load(file, store="none").plan
    ours, theirs = (
        outcomes(plan.find(name)[0]) for name in ("knn[method=rotation,k=3,seed=1]", "knn_untaught")
    )
    row = row_of(rows_of(compare(file, "--json")), pretext="rotation", target="conv4", k=3)
    span = bootstrap_mean(ours)
    assert (row["n"], row["deviation"], row["low"], row["high"]) == (1, None, span.low, span.high)
    assert (row["random"]["low"], row["random"]["over"]) == (None, "")
    assert row["random"]["difference"] == pytest.approx(ours.mean() - theirs.mean())
    paired = row_of(
        rows_of(compare(file, "--json", "--paired")), pretext="rotation", target="conv4", k=3
    )["random"]
    span = bootstrap_mean(ours - theirs)
    assert (paired["difference"], paired["low"], paired["high"]) == pytest.approx(
        (span.mean, span.low, span.high)
    )
    assert paired["over"] == "test images"
    text = compare(file).out
    assert re.search(
        rf"rotation .* {ours.mean():.1f} % \[{row['low']:.1f}, {row['high']:.1f}\]  1 ", text
    )


def test_without_outcomes_of_single_images_there_is_no_interval_and_a_note(
    made: Make, compare: Invoke
) -> None:
    file = made(PRETEXTS, seeds="[0]", outcomes=None)
    row = row_of(rows_of(compare(file, "--json", "--paired")), pretext="rotation", target="itself")
    assert (row["low"], row["high"], row["random"]["low"]) == (None, None, None)
    assert "keeps no outcomes of single images" in " ".join(compare(file, "--paired").out.split())


def test_rows_are_sorted_and_carry_time_and_images(made: Make, compare: Invoke) -> None:
    rows = rows_of(compare(made(PRETEXTS), "--json"))
    assert len(rows) == 3 + 3 * 2 + 1
    assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
    # pretext, features, clusters, labels, target: neither the packing of images nor the evaluation.
    assert row_of(rows, pretext="rotation", target="conv4", k=3)["seconds"] == 5 * SECONDS
    assert row_of(rows, pretext="rotation", target="itself")["seconds"] == SECONDS
    # Labels are of another split than the pseudo-labels: two sets were learned from.
    assert row_of(rows, pretext="supervised", target="conv4", k=3)["images"] == 2 * TRAINED
    assert row_of(rows, pretext="rotation", target="conv4", k=3)["images"] == TRAINED
    assert row_of(rows, pretext="random", network="conv4")["images"] == 0
    # Of the scored network alone, which is none where nothing was trained.
    assert row_of(rows, pretext="rotation", target="conv4", k=3)["training_seconds"] == SECONDS
    assert row_of(rows, pretext="random", network="conv4")["training_seconds"] == 0


@pytest.mark.slow
def test_a_plot_has_every_row_at_its_figure(made: Make, compare: Invoke, tmp_path: Path) -> None:
    file = made(PRETEXTS)
    rows = rows_of(compare(file, "--json"))
    whole = compare(file, "--plot").out
    told = whole.split("accuracy over the training time of the evaluated network")[1].splitlines()
    lines = [line for line in told if "|" in line]
    trained = [row for row in rows if row["training_seconds"]]
    assert float(lines[0].split("%")[0]) == pytest.approx(rows[0]["mean"], abs=0.06)
    assert float(lines[-1].split("%")[0]) == pytest.approx(rows[-1]["mean"], abs=0.06)
    assert lines[0].split("|")[1].strip() in (
        "a",
        "*",
    )  # the best at the top, perhaps beside another
    legend = [line.split() for line in told if re.match(r"  [a-z=-]  ", line)]
    assert [entry[0] for entry in legend] == [*"abcdefghijklm"[: len(trained)], "-", "="]
    assert [float(entry[1]) for entry in legend] == pytest.approx(
        [row["mean"] for row in trained]
        + [row["mean"] for row in rows if not row["training_seconds"]],
        abs=0.06,
    )
    assert "drop the other format" in compare(file, "--plot", "--csv", check=2).err


TEACHERS = """\
name: teachers
data: {card: drawings, limit: 64}
stages:
  rotation: {uses: pretext/rotation, backbone: conv4, epochs: 1, batch_size: 32}
  jigsaw: {uses: pretext/random, backbone: conv4}
  one: {uses: extract/network, model: rotation}
  two: {uses: extract/network, model: jigsaw}
  target: {uses: target/regression, features: [one, two], backbone: conv4, epochs: 1,
    batch_size: 32}
  again: {uses: extract/network, model: target}
  second: {uses: target/regression, features: again, backbone: conv4, epochs: 1, batch_size: 32}
  knn: {uses: evaluate/knn, model: target, k: 5}
  knn_second: {uses: evaluate/knn, model: second, k: 5}
"""


def test_where_no_time_is_known_a_plot_says_so(made: Make, compare: Invoke) -> None:
    assert (
        "nothing to plot"
        in compare(
            made(ONE.replace("rotation", "random").replace(", epochs: 1, batch_size: 32", "")),
            "--plot",
        ).out
    )


def test_several_teachers_are_no_chain(made: Make, compare: Invoke) -> None:
    rows = rows_of(compare(made(TEACHERS), "--json"))
    assert sorted(row["pretext"] for row in rows) == [
        "rotation + random",
        "rotation + random → target/regression",
    ]


def test_a_variable_that_says_what_another_column_says_is_no_column(
    made: Make, compare: Invoke
) -> None:
    said = compare(made(PRETEXTS)).out
    title = next(line for line in said.splitlines() if line.strip().startswith("pretext"))
    assert title.split()[:5] == ["pretext", "network", "target", "k", "accuracy"]


def test_rows_that_look_alike_are_told_apart_by_their_options(made: Make, compare: Invoke) -> None:
    other = ONE.replace("name: one", "name: two").replace("epochs: 1", "epochs: 2")
    said = json.loads(compare(made(ONE, "one.yaml"), made(other, "two.yaml"), "--json").out)
    (section,) = said["sections"]
    assert [row["variables"] for row in section["rows"]] in (
        [{"rotation.epochs": 1}, {"rotation.epochs": 2}],
        [{"rotation.epochs": 2}, {"rotation.epochs": 1}],
    )


def test_networks_of_one_name_are_told_apart_by_their_options(made: Make, compare: Invoke) -> None:
    other = ONE.replace("name: one", "name: two").replace(
        "backbone: conv4", "backbone: {name: vgg11, stem: small}"
    )
    third = other.replace("stem: small", "stem: small, batch_norm: true").replace(
        "name: two", "name: three"
    )
    files = [made(text, f"{n}.yaml") for n, text in enumerate((ONE, other, third))]
    networks = {row["network"] for row in rows_of(compare(*files, "--json"))}
    assert networks == {"conv4", "vgg11, batch_norm False", "vgg11, batch_norm True"}


def test_stages_seeds_count_without_a_variable_and_a_shared_run_counts_once(
    made: Make, compare: Invoke
) -> None:
    files = [
        made(ONE, "one.yaml"),
        made(ONE.replace("name: one", "name: two\nseed: 7"), "two.yaml"),
        made(ONE, "again.yaml"),
    ]
    (row,) = rows_of(compare(*files, "--json"))
    assert (row["n"], sorted(row["seeds"])) == (2, ["0", "7"])


HAND_MADE = """\
data: {card: drawings, limit: 64}
stages:
  hog: {uses: extract/hog}
  clusters: {uses: cluster, features: hog, k: 3}
  labels: {uses: assign, features: hog, clusters: clusters}
  target: {uses: target/pseudo_label, labels: labels, backbone: conv4, epochs: 1, batch_size: 32}
  score: {uses: evaluate/knn, model: target, k: 5}
  agreement: {uses: evaluate/clusters, labels: labels}
  drawn: {uses: pretext/random, backbone: conv4}
  features: {uses: extract/network, model: drawn}
  own_clusters: {uses: cluster, features: features, k: 3}
  own_labels: {uses: assign, features: features, clusters: own_clusters}
  own_agreement: {uses: evaluate/clusters, labels: own_labels}
  learned: {uses: pretext/rotation, backbone: conv4, epochs: 1, batch_size: 32}
  more: {uses: extract/network, model: learned}
  more_clusters: {uses: cluster, features: more, k: 3}
  more_labels: {uses: assign, features: more, clusters: more_clusters}
  more_agreement: {uses: evaluate/clusters, labels: more_labels}
"""


def test_hand_made_features_and_clusters_have_rows_too(made: Make, compare: Invoke) -> None:
    rows = rows_of(compare(made(HAND_MADE), "--json"))
    assert (
        row_of(rows, stages=["score"])["pretext"],
        row_of(rows, stages=["score"])["network"],
    ) == (
        "extract/hog",
        "–",
    )
    assert row_of(rows, stages=["score"])["target"] == "conv4"
    # Clusters have no target; their reference is the clusters of random features.
    clusters = row_of(rows, stages=["more_agreement"])
    assert (clusters["pretext"], clusters["network"], clusters["target"]) == (
        "rotation",
        "conv4",
        "–",
    )
    assert clusters["random"]["to"] == "own_agreement"
    assert row_of(rows, stages=["agreement"])["random"] is None


def test_real_scores_are_those_that_show_shows(finished: Tiny, invoke: Invoke) -> None:
    said = json.loads(invoke("compare", finished.file, "--store", finished.store, "--json").out)
    cards = [
        json.loads(path.read_text()) for path in finished.store.glob("evaluate/*/*/scores.json")
    ]
    assert {section["protocol"] for section in said["sections"]} == {
        card["protocol"] for card in cards
    }
    for section in said["sections"]:
        card = next(card for card in cards if card["protocol"] == section["protocol"])
        (row,) = section["rows"]
        assert row["mean"] == card["figures"][card["main"]]
        assert [row["low"], row["high"]] == card["intervals"][card["main"]]
        assert (row["pretext"], row["network"], row["target"]) == (
            "jigsawpp",
            "conv4 ×0.5",
            "conv4 ×0.5",
        )
        assert row["images"] == 64


# What cannot stand in one table


def test_two_protocols_of_a_file_are_two_tables(made: Make, compare: Invoke) -> None:
    more = "  other: {uses: evaluate/knn, model: pretext, k: 7}\n"
    third = (
        "  third: {uses: evaluate/knn, model: pretext, k: 5, data: {card: drawings, size: 48}}\n"
    )
    file = made(ONE + more + third)
    sections = json.loads(compare(file, "--json").out)["sections"]
    assert [len(section["rows"]) for section in sections] == [1, 1, 1]
    assert [section["setting"]["options"]["k"] for section in sections] == [5, 7, 5]
    assert len({section["setting"]["images"]["test"] for section in sections}) == 2
    said = compare(file).out
    assert len(re.findall(r"^knn/weighted-v1", said, re.MULTILINE)) == 3
    assert " k 7" in said


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("k: 5}", "k: 7}"), r"  k: 5 \| 7"),
        (
            ("k: 5}", "k: 5, data: {card: drawings, size: 48}}"),
            r"  test images: drawings/test \(\w+\) \| drawings",
        ),
        (
            ("evaluate/knn, model: pretext, k: 5", "evaluate/linear, model: pretext, epochs: 3"),
            r"  protocol: knn",
        ),
    ],
)
def test_of_two_files_what_was_not_measured_alike_is_refused_by_name(
    made: Make, compare: Invoke, change: tuple[str, str], differs: str
) -> None:
    files = (
        made(ONE, "one.yaml"),
        made(ONE.replace("name: one", "name: two").replace(*change), "two.yaml"),
    )
    said = compare(*files, check=2)
    assert said.out == ""
    assert f"'{files[0]}: score' and '{files[1]}: score' cannot be compared" in said.err
    assert re.search(differs, said.err)
    assert "--stage" in said.err
    assert "--protocol" in said.err


def test_a_stage_or_a_protocol_that_is_named_settles_what_is_meant(
    made: Make, compare: Invoke
) -> None:
    both = ONE + "  longer: {uses: evaluate/knn, model: pretext, k: 7}\n"
    other = (
        ONE.replace("name: one", "name: two\nseed: 3")
        + "  longer: {uses: evaluate/knn, model: pretext, k: 9}\n"
    )
    files = made(both, "one.yaml"), made(other, "two.yaml")
    assert "'longer'" not in compare(*files, check=2).err
    assert re.search(
        r"one.yaml: longer' and '.*two.yaml: longer' cannot be compared",
        compare(*files, check=2).err,
    )
    (row,) = rows_of(compare(*files, "--json", "--stage", "score"))
    assert row["n"] == 2
    linear = "  linear: {uses: evaluate/linear, model: pretext, epochs: EPOCHS}\n"
    files = (
        made(ONE + linear.replace("EPOCHS", "2"), "a.yaml"),
        made(ONE + linear.replace("EPOCHS", "3"), "b.yaml"),
    )
    compare(*files, check=2)
    for name in ("knn", "knn/weighted", "knn/weighted-v1", "evaluate/knn", "weighted"):
        (row,) = rows_of(compare(*files, "--json", "--protocol", name))
        assert row["protocol"] == "knn/weighted-v1"


def test_a_section_that_only_one_file_has_hinders_nothing(made: Make, compare: Invoke) -> None:
    both = ONE + "  longer: {uses: evaluate/knn, model: pretext, k: 7}\n"
    files = made(both, "one.yaml"), made(ONE.replace("name: one", "name: two\nseed: 3"), "two.yaml")
    assert [row["n"] for row in rows_of(compare(*files, "--json"))] == [2, 1]


def test_what_is_not_asked_for_may_still_be_what_is_compared_with(
    made: Make, compare: Invoke
) -> None:
    rows = rows_of(compare(made(PRETEXTS), "--json", "--stage", "knn"))
    assert {stage.partition("[")[0] for row in rows for stage in row["stages"]} == {"knn"}
    assert row_of(rows, pretext="rotation", k=3)["random"]["to"] == "knn_untaught"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "Missing argument 'FILE...'"),
        (("FILE", "--stage", "scores"), "no evaluation stage 'scores'; did you mean 'score'?"),
        (("FILE", "--stage", "pretext"), "no evaluation stage 'pretext'; choose from: score"),
        (
            ("FILE", "--protocol", "knn/weighted-v2"),
            "no protocol 'knn/weighted-v2'; did you mean 'knn/weighted-v1'?",
        ),
        (("FILE", "bare.yaml"), "bare.yaml: no evaluation stage"),
        (("FILE", "none.yaml"), "none.yaml: cannot be read"),
    ],
)
def test_faulty_words_end_with_2(
    made: Make, pipeline: Write, compare: Invoke, words: tuple[str, ...], hint: str
) -> None:
    pipeline("".join(ONE.splitlines(keepends=True)[:-1]), "bare.yaml")
    file = made(ONE)
    assert hint in compare(*(file if word == "FILE" else word for word in words), check=2).err


# Missing and damaged scores


def test_what_is_missing_is_named_with_the_command_that_makes_it(
    made: Make, compare: Invoke
) -> None:
    gone = "knn[method=rotation,k=3,seed=2]"
    file = made(PRETEXTS, skip=lambda one: one.label == gone)
    said = compare(file)
    assert f"missing: {gone}: not made yet" in said.out
    command = shlex.split(search(r"to make it: (.*)", said.out)[1])
    assert command[:4] == ["transfer", "run", str(file), gone]
    assert command[4] == "--store"
    found = json.loads(compare(file, "--json").out)
    assert [one["stage"] for one in found["missing"]] == [gone]
    row = row_of(found["sections"][0]["rows"], pretext="rotation", target="conv4", k=3)
    assert (row["n"], row["seeds"]) == (2, ["0", "1"])
    many = made(
        PRETEXTS.replace("name: compared", "name: more").replace("limit: 64", "limit: 48"),
        "more.yaml",
        skip=lambda one: one.name == "knn",
    )
    said = compare(many).out
    assert "and 12 more: not made yet" in " ".join(said.split())
    assert f"transfer run {many} knn --store" in said


def test_what_has_changed_since_it_was_made_is_said(
    made: Make, compare: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = made(PRETEXTS)
    pipeline = Pipeline.load(file, store=tmp_path / "store")
    artifacts = {one.label: (one.uses, one.key) for one in pipeline.plan}
    pipeline.store.history.begin(
        RecordedRun(str(file), pipeline.plan.name, artifacts=artifacts, outcome=DONE)
    )
    before = Knn.version
    monkeypatch.setattr(Knn, "version", 41)
    said = compare(file, check=1).err
    assert f"version {before} → 41" in said
    assert f"transfer run {file}" in said


def test_where_nothing_is_finished_the_command_is_the_answer(
    pipeline: Write, compare: Invoke, tmp_path: Path
) -> None:
    file = pipeline(ONE)
    said = compare(file, check=1)
    assert said.out == ""
    assert f"transfer run {file} score --store {tmp_path / 'store'}" in said.err


def test_damaged_scores_are_named_and_the_rest_is_shown(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(PRETEXTS, seeds="[0]")
    one = Pipeline.load(file, store=tmp_path / "store").plan.find("probe[method=rotation,seed=0]")[
        0
    ]
    path = tmp_path / "store" / one.uses / one.key / "scores.json"
    path.write_text(path.read_text().replace("7", "8"))
    said = compare(file, check=4)
    assert re.search(
        r"damaged: probe\[method=rotation,seed=0\]:\s+\S*\s+scores.json is not what was written",
        said.out,
    )
    assert "supervised" in said.out
    assert f"to make it: transfer run {file} 'probe[method=rotation,seed=0]'" in said.out
    assert json.loads(compare(file, "--json", check=4).out)["damaged"][0]["stage"] == one.label


def test_damaged_outcomes_are_met_where_they_are_read(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(PRETEXTS, seeds="[0]")
    for path in (tmp_path / "store").glob("evaluate/knn/*/scores.h5"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert "scores.h5 is not what was written" in compare(file, "--paired", check=4).err
    compare(file)


def test_scores_of_an_older_format_are_to_be_made_again(
    made: Make, compare: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def older(folder: Path, **card: Any) -> None:
        write_json(
            folder / "scores.json",
            {"protocol": "knn/weighted-v1", "figures": card["figures"], "counts": {}},
        )

    monkeypatch.setattr(Scores, "write", older)
    file = made(ONE)
    said = compare(file, check=1)
    assert "score: old format" in said.err
    assert f"transfer run {file} score --force --store {tmp_path / 'store'}" in said.err


def test_scores_of_what_was_made_again_since_are_to_be_made_again_too(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(PRETEXTS, seeds="[0]")
    pipeline = Pipeline.load(file, store=tmp_path / "store")
    one = pipeline.plan.find("clusters[method=rotation,k=3,seed=0]")[0]
    building, manifest = pipeline.store.begin(one.key), pipeline.store.find(one.uses, one.key)
    (building / "made").write_text("other bytes")
    pipeline.store.publish(
        building, Manifest(**{**manifest.__dict__, "files": describe_files(building)})
    )
    said = json.loads(compare(file, "--json").out)
    assert [(one["stage"], one["why"]) for one in said["missing"]] == [
        (
            "knn[method=rotation,k=3,seed=0]",
            "labels read clusters, which changed since",
        )
    ]


# Forms


def test_csv_holds_every_digit_of_every_row(made: Make, compare: Invoke) -> None:
    file = made(PRETEXTS)
    lines = list(csv.DictReader(io.StringIO(compare(file, "--csv").out)))
    rows = rows_of(compare(file, "--json"))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert float(line["mean"]) == row["mean"]
        assert (line["pretext"], line["target"], line["n"]) == (
            row["pretext"],
            row["target"],
            str(row["n"]),
        )
        assert line["k"] == str(row["variables"].get("k", ""))
        assert line["random_difference"] == (
            str(row["random"]["difference"]) if row["random"] else ""
        )


def test_a_variable_called_like_a_column_keeps_its_own(made: Make, compare: Invoke) -> None:
    text = ONE.replace("stages:", "matrix: {n: [1, 2]}\nstages:").replace(
        "epochs: 1", 'epochs: "${n}"'
    )
    lines = list(csv.DictReader(io.StringIO(compare(made(text), "--csv").out)))
    assert sorted((line["n"], line["matrix.n"]) for line in lines) == [("1", "1"), ("1", "2")]


def test_markdown_has_as_many_cells_in_every_line(made: Make, compare: Invoke) -> None:
    said = compare(made(PRETEXTS), "--markdown").out
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 10
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {11}
    assert "knn\\_untaught" not in said  # nothing is escaped that needs not be


def test_latex_is_a_plain_tabular_with_everything_escaped(made: Make, compare: Invoke) -> None:
    text = ONE.replace("  pretext:", "  pre_text:").replace("model: pretext", "model: pre_text")
    text = text.replace("stages:", "matrix: {a_b: [1, 2]}\nstages:").replace(
        "epochs: 1", 'epochs: "${a_b}"'
    )
    said = compare(made(text), "--latex").out
    body = [line for line in said.splitlines() if not line.startswith("%")]
    assert body[0] == r"\begin{tabular}{lllrrrr}"
    assert r"a\_b" in body[2]
    assert r"accuracy" in body[2]
    rows = [line for line in body if line.endswith(r"\\")]
    assert {line.count(" & ") for line in rows} == {6}
    assert not re.search(r"(?<!\\)[_%#]", "\n".join(body))
    assert body.count(r"\hline") == 3


def test_text_is_aligned_and_says_what_its_signs_mean(made: Make, compare: Invoke) -> None:
    said = compare(made(PRETEXTS)).out.splitlines()
    start = next(number for number, line in enumerate(said) if line.startswith("  pretext"))
    table = said[start : start + 11]
    assert max(map(len, said)) <= 120
    assert len({len(line) for line in table}) == 1
    assert any("mean and standard deviation over n seeds" in line for line in said)
    assert re.search(r"\d\d\.\d ± \d\.\d %  3 ", table[1])


def test_a_table_goes_into_a_file_and_the_rest_is_told(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(PRETEXTS, skip=lambda one: one.label == "knn[method=rotation,k=3,seed=2]")
    said = compare(file, "--csv", "--output", "table.csv")
    assert said.out == "table.csv written\n"
    assert "missing: knn[method=rotation,k=3,seed=2]" in said.err
    assert (tmp_path / "table.csv").read_text() == compare(file, "--csv").out
    assert (
        "the folder no/such does not exist"
        in compare(file, "-o", "no/such/folder.csv", check=2).err
    )


def test_smoke_results_are_apart_and_said_to_be(
    made: Make, compare: Invoke, tmp_path: Path
) -> None:
    file = made(ONE)
    compare(file, "--smoke", check=1)
    finish(Pipeline.load(file, smoke=True, store=tmp_path / "store"))
    assert "note: these are smoke runs" in compare(file, "--smoke").out
    assert "smoke" not in compare(file).out


def test_a_comparison_imports_nothing_heavy(made: Make, tmp_path: Path) -> None:
    file = made(PRETEXTS)
    script = (
        "import sys\nfrom transfer.cli import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(*sorted({n.split('.')[0] for n in sys.modules}), file=sys.stderr)\n"
    )
    words = ["compare", str(file), "--store", str(tmp_path / "store"), "--csv"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], text=True, capture_output=True, check=True
    )
    heavy = {
        "torch",
        "h5py",
        "numpy",
        "faiss",
        "scipy",
        "matplotlib",
        "sklearn",
        "PIL",
        "safetensors",
    }
    assert heavy & set(done.stderr.splitlines()[-1].split()) == set()
