"""How the stages of a file hang together: what each one names, which comes first, what varies with the matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transfer.pipeline.plan import PlannedStage
from transfer.pipeline.substitution import variables_in
from transfer.pipeline.yaml_document import Node
from transfer.stage.base import Stage


def named_inputs(node: Node, kind: type[Stage]) -> Iterator[tuple[str, tuple[Any, ...], str, str]]:
    """What each input is called, where it is named, the stage that is named there, and the artifact it must make.

    What is no name is told by the check of its type. A list of one is that one.
    """
    for option, wanted in kind.input_fields().items():
        written = node.value[option].value if option in node.value else None
        if isinstance(written, str):
            yield option, (option,), written, wanted
        for place, one in enumerate(written if isinstance(written, list) else []):
            if isinstance(one.value, str):
                yield (
                    option if len(written) == 1 else f"{option}.{place}",
                    (option, place),
                    one.value,
                    wanted,
                )


def topological_order(
    inputs: Mapping[str, Mapping[str, str | None]],
) -> tuple[list[str], list[list[str]]]:
    """Names of stages, each after those that it reads; and the circles, each from one of its stages back to it.

    `inputs`: stage -> input -> the stage that it names, None where that is faulty.
    """
    order: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            circles.append([*path[path.index(name) :], name])
        elif name not in order:
            for other in inputs[name].values():
                if other is not None:
                    visit(other, [*path, name])
            if name not in order:
                order.append(name)

    for name in inputs:
        visit(name, [])
    return order, circles


def required_stages(
    wanted: set[str], order: list[str], inputs: Mapping[str, Mapping[str, str | None]]
) -> set[str]:
    """The stages asked for, and what they stand on; all, where none is asked for or one is not in the file."""
    if not wanted or not wanted <= set(order):
        return set(order)
    found = set(wanted)
    for name in reversed(order):
        if name in found:
            found |= {other for other in inputs[name].values() if other}
    return found


def matrix_variables(one: PlannedStage, root: Node) -> set[str]:
    """The matrix variables that a stage, or anything before it, is written with."""
    read = ["seed", "data"] if one.stage.images else ["seed"]
    written = [root.value["stages"].value[one.name]]
    written += [root.value[key] for key in read if key in root.value and key not in one.node.value]
    return set().union(
        *map(variables_in, written), *(other.member for other in one.inputs.values())
    )
