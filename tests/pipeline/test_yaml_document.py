"""Pipeline files as text: YAML 1.2, a place for every fault, and hostile files."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import TINY
from transfer.errors import UsageError
from transfer.pipeline.document_nodes import Faults
from transfer.pipeline.loader import load_plan
from transfer.pipeline.substitution import apply_set, substitute
from transfer.pipeline.yaml_document import MAX_DEPTH, parse, read_document
from transfer.storage.store import Store


def plain(text: str) -> Any:
    """The value of a text without faults."""
    faults = Faults()
    value = parse(text, "file.yaml", faults).plain()
    faults.raise_if_any()
    return value


def fault(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        plain(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("+1", 1),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("12:30:45", "12:30:45"),
        ("2001-01-01", "2001-01-01"),
        ("=", "="),
        ("-.NaN", "-.NaN"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("[1, [a, {b: c}]]", [1, ["a", {"b": "c"}]]),
        ("\U0001f600 é", "\U0001f600 é"),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = plain(f"k: {text}")["k"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "the file is empty"),
        ("# nothing but a comment\n", "1:1", "the file is empty"),
        ("a: 1\nb: [1", "2:6", "not YAML: expected ',' or ']'"),
        ("a:\n\tb: 1\n", "2:1", r"not YAML: found character '\t' that cannot start any token"),
        ("a: *b\n", "1:4", "not YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", "2:1", "not YAML: but found another document"),
        ("a: x\nb: y\0z\n", "2:5", "not YAML: special characters are not allowed"),
        ("a: 1\nb: 2\na: 3\n", "3:1", "a: key repeated (first on line 1)"),
        ("s: {k: 1, k: 2}\n", "1:11", "k: key repeated (first on line 1)"),
        (
            "a: !!python/object/apply:os.system [echo hi]\n",
            "1:4",
            "python/object/apply:os.system' is not allowed",
        ),
        (
            "a: 1\nb:\n  - !!python/name:os.system ''\n",
            "3:5",
            "python/name:os.system' is not allowed",
        ),
        ("a: !mine {b: 1}\n", "1:4", "tag '!mine' is not allowed"),
        ("a: !!binary aGk=\n", "1:4", "is not allowed"),
        ("!!python/name:os.system x: 1\n", "1:1", "a key must be a word"),
        ("? [1, 2]\n: 3\n", "1:3", "a key must be a word"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", "3:3", "YAML 1.2 has no merge keys"),
        ("a: &a {b: *a}\n", "1:4", "nested too deeply (or an alias that holds itself)"),
        ("a: " + "[" * 60 + "]" * 60, f"1:{4 + MAX_DEPTH}", "nested too deeply"),
        ("a: " + "[" * 1000 + "]" * 1000, f"1:{4 + MAX_DEPTH - 1}", "nested too deeply"),
        ("a: .inf\n", "1:4", "'.inf' is not a finite number"),
        ("a: 1e999\n", "1:4", "'1e999' is not a finite number"),
        ("a: 99999999999999999999\n", "1:4", "is too large a number"),
        ("a: !!int abc\n", "1:4", "'abc' cannot be read"),
        ("a: !!bool maybe\n", "1:4", "'maybe' cannot be read as bool"),
        ('a: "\\ud800"\n', "1:4", "holds a character that is not allowed in text"),
    ],
)
def test_every_fault_of_the_text_has_its_place(text: str, place: str, words: str) -> None:
    said = fault(text)
    assert said.startswith(f"file.yaml:{place}: ")
    assert words in said.splitlines()[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: 1\nbc: \xff\xfe\n", ":2:5: not a text file in UTF-8 (invalid start byte at byte 9)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", ":1:1: not a text file in UTF-8"),
        ("name: x".encode("utf-16"), ":1:1: not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_the_place_of_the_byte(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=re.escape(f"{path}{words}")):
        read_document(path, Faults())


def test_a_byte_order_mark_and_foreign_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\r\nseed: 3\r\n")
    assert read_document(path, Faults()).plain() == {"name": "x", "seed": 3}


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(UsageError, match=f"{re.escape(str(path))}: cannot be read"):
            read_document(path, Faults())


def test_anchors_and_aliases_are_written_out() -> None:
    assert plain("a: &x {k: [1]}\nb: *x\nc: &y 3\nd: *y\n") == {
        "a": {"k": [1]},
        "b": {"k": [1]},
        "c": 3,
        "d": 3,
    }


@pytest.mark.slow
def test_aliases_of_aliases_do_not_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    started = time.process_time()
    assert "more than 100,000 values, with aliases written out" in fault("\n".join(lines))
    assert time.process_time() - started < 10


def test_faults_are_told_in_the_order_of_the_file_and_counted() -> None:
    lines = fault("a: 1\nb: !x 1\na: !y 2\nc: !z 3\n").splitlines()
    assert [line.split(": ")[0] for line in lines[:-1]] == [
        "file.yaml:2:4",
        "file.yaml:3:1",
        "file.yaml:4:4",
    ]
    assert lines[-1] == "3 faults; nothing was started"


DOCUMENT = "name: x\nmatrix: {k: [1, 2]}\nstages:\n  clusters: {k: 10, backbone: vgg16}\n"


@pytest.mark.parametrize(
    ("assignment", "path", "value"),
    [
        ("stages.clusters.k=100", ("stages", "clusters", "k"), 100),
        ("stages.clusters.k=1e-3", ("stages", "clusters", "k"), 0.001),
        ("stages.clusters.k=no", ("stages", "clusters", "k"), "no"),
        ("stages.clusters.k=", ("stages", "clusters", "k"), None),
        ("stages.clusters.k=a=b", ("stages", "clusters", "k"), "a=b"),
        ("data=/x/photos #1", ("data",), "/x/photos #1"),
        ("data=/x/photos: 2020", ("data",), "/x/photos: 2020"),
        ("data=/x/a, [b], {c} 'd' & é 写真", ("data",), "/x/a, [b], {c} 'd' & é 写真"),
        ("data=/x/photos ", ("data",), "/x/photos "),
        ("data=# nothing", ("data",), "# nothing"),
        ("data=- a", ("data",), "- a"),
        ("data=*a", ("data",), "*a"),
        ("data=!!str 5", ("data",), "!!str 5"),
        ("data=C:\\x\\new", ("data",), "C:\\x\\new"),
        ("data='90s photos", ("data",), "'90s photos"),
        ("data='2024'", ("data",), "2024"),
        ('data="/x #1"', ("data",), "/x #1"),
        ("data=' '", ("data",), " "),
        ("data=2001-01-01", ("data",), "2001-01-01"),
        ("data=1e999", ("data",), "1e999"),
        ("data=99999999999999999999", ("data",), "99999999999999999999"),
        ("stages.clusters.k= 7 ", ("stages", "clusters", "k"), 7),
        ("stages.clusters.k=true", ("stages", "clusters", "k"), True),
        ("stages.clusters.k=null", ("stages", "clusters", "k"), None),
        ("stages.clusters.new=[1, {a: b}]", ("stages", "clusters", "new"), [1, {"a": "b"}]),
        ("data={card: drawings, limit: 3}", ("data",), {"card": "drawings", "limit": 3}),
        ("matrix.k.1=7", ("matrix", "k"), [1, 7]),
        (" stages.clusters.k =3", ("stages", "clusters", "k"), 3),
    ],
)
def test_set_replaces_one_value_and_says_so_where_it_is_faulty(
    assignment: str, path: tuple[str, ...], value: Any
) -> None:
    faults = Faults()
    changed = apply_set(parse(DOCUMENT, "file.yaml", faults), assignment, faults)
    faults.raise_if_any()
    found, expected = changed.plain(), plain(DOCUMENT)
    for step in path[:-1]:
        found, expected = found[step], expected[step]
    assert found == {**expected, path[-1]: value}
    if path[-1] != "k" or path[0] != "matrix":
        assert str(changed.mark_at(path)) == f"--set {assignment}"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("stages.clusters.k", "write it as --set PATH=VALUE, as in --set stages.clusters.k=100"),
        ("=5", "write it as --set PATH=VALUE"),
        ("stages..k=5", "write it as --set PATH=VALUE"),
        ("stages.cluster.k=5", "the file has no 'cluster' there; did you mean 'clusters'?"),
        (
            "stages.clusters.backbone.width=1",
            "'vgg16' has no 'width'; replace it as a whole, --set stages.clusters.",
        ),
        ("matrix.k.2=5", "no entry '2'; the list has 2 entries, counted from 0"),
        ("matrix.k.x=5", "no entry 'x'; the list has 2 entries, counted from 0"),
        ("data={card: x", "not YAML: expected ',' or '}'"),
        ("data={card: x, card: y}", "card: key repeated"),
        ("data={card: !!python/name:os.system x}", "is not allowed"),
        ("data={card: x} # c", "'# c' would be a comment"),
        ("data=[a, b] #c]", "'#c]' would be a comment"),
        ("data={folder: /x #1}", "'#' begins a comment there: put that text in quotes"),
        ("data='a': 'b'", "not one value; for the text itself, with quotes: data='"),
        ("data=\udce9", "holds a character that is not allowed in text"),
        ("expected.linear=[1, 2]", "to add it: --set expected='{linear: ...}'"),
    ],
)
def test_a_faulty_set_names_itself_and_no_line(assignment: str, words: str) -> None:
    def read() -> None:
        faults = Faults()
        apply_set(parse(DOCUMENT, "file.yaml", faults), assignment, faults)
        faults.raise_if_any()

    with pytest.raises(UsageError) as caught:
        read()
    assert str(caught.value).startswith(f"--set {assignment}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${k}", 5),
        ("${rate}", 0.001),
        ("${flag}", True),
        ("${none}", None),
        ("a_${k}_${word}", "a_5_rotation"),
        ("${flag}-${none}", "true-null"),
        ("$k", "$k"),
        ("${", "${"),
        ("$${k}", "${k}"),
        ("x$${k}${k}", "x${k}5"),
        ("$$${k}", "$${k}"),
        ("[x, '${k}', {a: '${word}'}]", ["x", 5, {"a": "rotation"}]),
    ],
)
def test_variables_keep_their_type_where_they_stand_alone(text: str, value: Any) -> None:
    variables = {"k": 5, "rate": 1e-3, "flag": True, "none": None, "word": "rotation"}
    faults = Faults()
    found = substitute(parse(f"k: {text}", "file.yaml", faults), variables, faults).plain()["k"]
    assert not faults
    assert found == value
    assert type(found) is type(value)


def test_an_unknown_variable_is_told_with_the_nearest() -> None:
    faults = Faults()
    substitute(parse("a:\n  b: x${metod}\n", "file.yaml", faults), {"method": 1}, faults)
    with pytest.raises(
        UsageError, match=r"file.yaml:2:6: no matrix variable 'metod'; did you mean 'method'\?"
    ):
        faults.raise_if_any()


SCRAPS = st.sampled_from(
    [
        *"\t\n:,-[]{}#&*!|>'\"%@`?$ ",
        "a",
        "k: ",
        "- ",
        "\n  ",
        "stages",
        "uses",
        "cluster",
        "data",
        "matrix",
        "name",
        "seed",
        "${",
        "${k}",
        "!!int ",
        "!!python/object:x ",
        "<<",
        "&a",
        "*a",
        "1e999",
        ".nan",
        "0x",
        "---",
        "...",
        "%YAML 1.1\n",
        "pretext/random",
        "backbone",
        "conv4",
        "drawings",
        "features",
        "x.py:Y",
        ".py:",
        "\\ud800",
        "\0",
        "null",
        "2001-01-01",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(SCRAPS, max_size=25).map("".join))


@pytest.mark.slow
@given(text=TEXTS, assignment=TEXTS)
@example(text="a: !!int ''", assignment="a=!!int ''")
@example(text="stages: {a: {uses: pretext/random, backbone: 5}}", assignment="seed=.inf")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_read_or_refused_with_a_usage_error(text: str, assignment: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for written, sets in ((text, []), (f"stages:\n  a: {text}\n", []), (TINY, [assignment])):
            path = Path(folder, "file.yaml")
            path.write_text(written, encoding="utf-8", newline="")
            said = ""
            try:
                load_plan(path, Store(Path(folder, "store")), sets=sets)
            except UsageError as error:
                said = str(error)
            assert said == "" or said.startswith((str(path), "--set "))
