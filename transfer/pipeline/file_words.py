"""The words of a pipeline file that a shell completes: its stages, and the paths of its values.

Only the document is read, and the classes of its stages: no image set, and not the whole plan.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transfer.errors import TransferError
from transfer.pipeline import matrix
from transfer.pipeline.dependencies import named_inputs
from transfer.pipeline.plan import PipelineHeader, common_options
from transfer.pipeline.substitution import substitute, variables_in
from transfer.pipeline.yaml_document import Faults, Node, read_document
from transfer.stage.base import Stage
from transfer.stage.registry import find_stage
from transfer.utils.formatting import inline_yaml, member_label

MOST_MEMBERS = 100  # of all stages, that are offered before one is chosen with `[`


def stage_words(file: Path, incomplete: str) -> list[str]:
    """Return the names of the stages of a file, and their members as `clusters[k=200]`."""
    root = read_document(file, Faults())
    stages = root.value["stages"].value
    chosen, bracket, _ = incomplete.partition("[")
    members = matrix.expand(root.value.get("matrix"), Faults())
    words = [] if bracket else list(stages)
    labels = []
    for name in [chosen] if bracket else [name for name in stages if name.startswith(incomplete)]:
        labels += _member_labels(root, name, members)
    return words + (labels if bracket or len(labels) <= MOST_MEMBERS else [])


def set_words(file: Path, incomplete: str) -> list[str]:
    """Return the paths of a file that begin like `incomplete`, up to the next step: `stages.`.

    A path of a value ends with `=`; after it come the values of an option that has a few. The
    options that a stage has and the file does not are offered too. Where only one step is possible,
    the steps after it are returned.
    """
    root = read_document(file, Faults())
    whole, equals, _ = incomplete.partition("=")
    if equals:
        return [f"{whole}={value}" for value in _choices(file, root, whole.split("."))]
    start, _, _ = incomplete.rpartition(".")
    steps = list(dict.fromkeys(_steps(file, root, start.split(".") if start else [])))
    words = [word for word in steps if word.startswith(incomplete)]
    while len(words) == 1 and words[0].endswith("."):
        words = list(dict.fromkeys(_steps(file, root, words[0].rstrip(".").split("."))))
    return words


def _steps(file: Path, root: Node, path: list[str]) -> Iterator[str]:
    """Yield each continuation of a path by a step."""
    node = root
    for step in path:
        node = node.value[step]
    prefix = "".join(f"{step}." for step in path)
    for key, value in node.value.items() if isinstance(node.value, dict) else ():
        if isinstance(value.value, dict):
            yield f"{prefix}{key}."
        if not isinstance(value.value, dict) or (path or [key])[0] == "data" or len(path) > 1:
            yield f"{prefix}{key}="
    for key in _absent(file, path, node):
        yield f"{prefix}{key}="


def _absent(file: Path, path: list[str], node: Node) -> list[str]:
    """The keys that a mapping of the file may have besides those that it has."""
    if not path:
        known: list[str] = list(PipelineHeader.model_fields)
    elif len(path) == 2 and path[0] == "stages":
        kind = _kind(file, node)
        known = [*(kind.model_fields if kind else ()), *common_options(kind)]
    else:
        known = []
    return [key for key in known if key not in node.value]


def _choices(file: Path, root: Node, path: list[str]) -> list[str]:
    """The values that an option of a stage can have, where they are a few."""
    if len(path) != 3 or path[0] != "stages":
        return []
    kind = _kind(file, root.value["stages"].value[path[1]])
    annotation = kind.model_fields[path[2]].annotation if kind else None
    if annotation is bool:
        return ["true", "false"]
    literals = [annotation, *typing.get_args(annotation)]
    return [
        inline_yaml(value)
        for literal in literals
        if typing.get_origin(literal) is typing.Literal
        for value in typing.get_args(literal)
    ]


def _member_labels(root: Node, name: str, members: list[dict[str, Any]]) -> list[str]:
    """The labels of a stage's members, each with the variables that the stage depends on."""
    labels = []
    for member in members:
        top = substitute(root, member, Faults())
        variables = _variables(root, top, name, set())
        label = member_label({key: value for key, value in member.items() if key in variables})
        if label:
            labels.append(f"{name}[{label}]")
    return list(dict.fromkeys(labels))


def _variables(root: Node, top: Node, name: str, visited: set[str]) -> set[str]:
    """The matrix variables that a stage or one upstream of it depends on."""
    visited.add(name)
    stages, own = top.value["stages"].value, root.value["stages"].value[name]
    kind = _kind(Path(root.mark.file), stages[name])
    shared = ["seed", "data"] if kind and kind.images else ["seed"]
    nodes = [root.value[key] for key in shared if key in root.value and key not in own.value]
    variables = set().union(*map(variables_in, [own, *nodes]))
    for _, _, source, _ in named_inputs(stages[name], kind) if kind else ():
        if source in stages and source not in visited:
            variables |= _variables(root, top, source, visited)
    return variables


def _kind(file: Path, node: Node) -> type[Stage] | None:
    """The class of a stage; None where it cannot be read."""
    try:
        return find_stage(node.value["uses"].value, file.resolve().parent)
    except (TransferError, KeyError, TypeError, AttributeError):
        return None
