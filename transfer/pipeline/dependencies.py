"""How the stages of a file depend on one another, and on the variables of the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transfer.pipeline.document_nodes import Node
from transfer.pipeline.draft_stage import DraftStage
from transfer.pipeline.substitution import variables_in
from transfer.stage.base import PlannedStage, Stage

Inputs = Mapping[str, Mapping[str, str | None]]  # stage -> input -> stage, None where it is faulty


def named_inputs(node: Node, kind: type[Stage]) -> Iterator[tuple[str, tuple[Any, ...], str, str]]:
    """Yield each input with its path, the stage that it names and the artifact it must make.

    A value of another type is left to the check of types. A list of one name counts as that name.
    """
    for option, artifact in kind.input_fields().items():
        value = node.value[option].value if option in node.value else None
        if isinstance(value, str):
            yield option, (option,), value, artifact
        entries = value if isinstance(value, list) else []
        for index, entry in enumerate(entries):
            if isinstance(entry.value, str):
                name = option if len(entries) == 1 else f"{option}.{index}"
                yield name, (option, index), entry.value, artifact


def topological_order(inputs: Inputs) -> tuple[list[str], list[list[str]]]:
    """Sort stages so that each follows its inputs; return the order and the dependency cycles."""
    order: list[str] = []
    cycles: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            cycles.append([*path[path.index(name) :], name])
        elif name not in order:
            for dependency in inputs[name].values():
                if dependency is not None:
                    visit(dependency, [*path, name])
            if name not in order:
                order.append(name)

    for name in inputs:
        visit(name, [])
    return order, cycles


def required_stages(selected: set[str], order: list[str], inputs: Inputs) -> set[str]:
    """Return the selected stages and their dependencies.

    All stages where none is selected, or one that the file does not have.

    Args:
        selected: names of stages.
        order: all stages in topological order.
        inputs: the stages that each one names.
    """
    if not selected or not selected <= set(order):
        return set(order)
    required = set(selected)
    for name in reversed(order):
        if name in required:
            required |= {dependency for dependency in inputs[name].values() if dependency}
    return required


def matrix_variables(
    draft: DraftStage, inputs: Mapping[str, PlannedStage[Stage]], root: Node
) -> set[str]:
    """Return the matrix variables that a stage, or one upstream of it, depends on.

    Args:
        draft: the stage.
        inputs: its planned inputs.
        root: the document before variables were replaced.
    """
    shared = ["seed", "data"] if draft.kind.images else ["seed"]
    nodes = [root.value["stages"].value[draft.name]]
    nodes += [root.value[key] for key in shared if key in root.value and not draft.option(key)]
    upstream = (planned.member for planned in inputs.values())
    return set().union(*map(variables_in, nodes), *upstream)
