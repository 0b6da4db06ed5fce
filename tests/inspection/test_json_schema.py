"""The JSON Schema of pipeline files accepts what the reader accepts, and names what is wrong."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from tests.conftest import TINY
from transfer.inspection.json_schema import pipeline_schema
from transfer.pipeline.document_nodes import Faults
from transfer.pipeline.loader import load_plan
from transfer.pipeline.yaml_document import parse
from transfer.stage.registry import find_stage, stage_names
from transfer.storage.store import Store
from transfer.utils.paths import shipped_folder


@pytest.mark.parametrize(
    "path", sorted(shipped_folder("pipelines").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_file_is_valid_by_the_schema_and_by_the_reader(
    path: Path, tmp_path: Path
) -> None:
    value = parse(path.read_text(encoding="utf-8"), str(path), Faults()).plain()
    jsonschema.Draft202012Validator(pipeline_schema()).validate(value)
    assert list(load_plan(path, Store(tmp_path), smoke=True))  # its image sets need not be there


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = pipeline_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def errors(validator: jsonschema.Draft202012Validator, text: str) -> list[str]:
    """Each error with its path in the file."""
    value = parse(text, "file.yaml", Faults()).plain()
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}"
        for error in validator.iter_errors(value)
    ]


@pytest.mark.parametrize("uses", stage_names())
def test_an_unknown_option_of_each_stage_is_named_and_nothing_else(
    validator: jsonschema.Draft202012Validator, uses: str
) -> None:
    required = [
        name for name, field in find_stage(uses, Path()).model_fields.items() if field.is_required()
    ]
    options = "".join(f", {name}: '${{v}}'" for name in required)
    assert errors(validator, f"stages: {{x: {{uses: {uses}{options}}}}}") == []
    assert errors(validator, f"stages: {{x: {{uses: {uses}{options}, no_such: 3}}}}") == [
        "stages.x: Additional properties are not allowed ('no_such' was unexpected)"
    ]


@pytest.mark.parametrize(
    ("stage", "error"),
    [
        ("uses: cluster, features: b, k: 1", "stages.x.k: 1 is less than the minimum of 2"),
        ("uses: cluster, features: b, k: many", "stages.x.k: 'many' is not of type 'integer'"),
        ("uses: cluster", "stages.x: 'features' is a required property"),
        ("uses: clusters", "stages.x.uses: 'clusters' is not one of ["),
        ("k: 3", "stages.x: 'uses' is a required property"),
        ("uses: 3", "stages.x.uses: 3 is not of type 'string'"),
        ("uses: pretext/random, backbone: vgg17", "stages.x.backbone: 'vgg17' is not one of ["),
        (
            "uses: pretext/random, backbone: {name: vgg17}",
            "stages.x.backbone.name: 'vgg17' is not one of [",
        ),
        (
            "uses: pretext/random, backbone: {name: conv4, widht: 1}",
            "stages.x.backbone: Additional properties are not allowed ('widht' was unexpected)",
        ),
        (
            "uses: pretext/random, backbone: {width: 1}",
            "stages.x.backbone: 'name' is a required property",
        ),
        (
            "uses: pretext/random, data: {card: a, limt: 1}",
            "stages.x.data: Additional properties are not allowed ('limt' was unexpected)",
        ),
        (
            "uses: cluster, features: b, data: drawings",
            "stages.x: Additional properties are not allowed ('data' was unexpected)",
        ),
        (
            "uses: prepare, features: b, steps: [l2, pcaa]",
            "stages.x.steps.1: 'pcaa' is not one of [",
        ),
    ],
)
def test_an_error_names_the_option_that_is_wrong(
    validator: jsonschema.Draft202012Validator, stage: str, error: str
) -> None:
    (said,) = errors(validator, f"stages: {{x: {{{stage}}}}}")
    assert said.startswith(error)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (TINY, True),
        ("stages: {a: {uses: cluster, features: b, k: '${k}'}}", True),
        (
            "seed: ${s}\n"
            "stages: {a: {uses: pretext/random, backbone: {name: conv4, width: '${w}'}}}",
            True,
        ),
        ("stages: {a: {uses: pretext/random, data: {card: x, size: '${s}'}}}", True),
        ("stages: {a: {uses: prepare, features: b, steps: ['${s}', pca]}}", True),
        (
            "stages: {a: {uses: 'pretext/${m}', other: 3}, b: {uses: mine.py:Mine, other: 3}}",
            True,
        ),
        (
            "stages: {a: {uses: pretext/pretrained, backbone: 'timm:resnet18', weights: w.pth}}",
            True,
        ),
        ("stages: {a: {uses: pretext/pretrained, backbone: {name: 'timm:resnet18'}}}", True),
        ("stages: {a: {uses: pretext/pretrained, backbone: conv4, weights: {path: w.pth}}}", False),
        ("stages: {a: {uses: pretext/pretrained, weights: w.pth}}", False),
        ("stages: {a: {uses: cluster, features: b, kk: 3}}", False),
        ("stages: {a: {uses: cluster, features: b, k: 1}}", False),
        ("stages: {a: {uses: cluster, k: 10}}", False),
        ("stages: {a: {uses: clusters, features: b}}", False),
        ("stages: {a: {uses: prepare, features: b, steps: [pcaa]}}", False),
        ("stages: {a: {uses: pretext/random, backbone: conv5}}", False),
        ("stages: {a: {uses: pretext/random, backbone: {name: conv4, widht: 3}}}", False),
        ("stages: {a: {uses: cluster, features: b, data: drawings}}", False),
        ("data: {crad: x}\nstages: {a: {uses: pretext/random}}", False),
        ("sead: 3\nstages: {a: {uses: pretext/random}}", False),
        ("expected: {a: [1, 2.5]}\nstages: {a: {uses: evaluate/knn, model: b}}", True),
        ("expected: {a: [1]}\nstages: {a: {uses: evaluate/knn, model: b}}", False),
        ("expected: {a: [1, 200]}\nstages: {a: {uses: evaluate/knn, model: b}}", False),
        ("stages: {}", False),
        ("name: x", False),
    ],
)
def test_the_schema_takes_and_refuses_what_the_reader_does(
    validator: jsonschema.Draft202012Validator, text: str, valid: bool
) -> None:
    assert validator.is_valid(parse(text, "file.yaml", Faults()).plain()) is valid
