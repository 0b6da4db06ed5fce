"""Read a pipeline file, check all of it, and plan the stages of every member of its matrix."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transfer.artifacts import KINDS
from transfer.datasets.image_sets import ImageSets
from transfer.errors import InvalidOption, TransferError, UsageError, did_you_mean
from transfer.pipeline import matrix
from transfer.pipeline.dependencies import (
    matrix_variables,
    named_inputs,
    required_stages,
    topological_order,
)
from transfer.pipeline.document_checks import check_keys, check_selected_names, expected_ranges
from transfer.pipeline.document_nodes import Faults, Node, key_spans
from transfer.pipeline.draft_stage import DraftStage
from transfer.pipeline.file_inputs import FileInputs
from transfer.pipeline.image_planning import ImagePlanner
from transfer.pipeline.plan import PipelineHeader, Plan
from transfer.pipeline.stage_reader import StageReader
from transfer.pipeline.substitution import apply_set, substitute
from transfer.pipeline.yaml_document import read_document
from transfer.stage.base import PlannedStage, Stage
from transfer.storage.store import Store
from transfer.utils.files import hash_file
from transfer.utils.stamp_cache import StampCache

KEEPS_EXPECTATIONS = {"seed", "expected"}  # keys that --set may replace with scores as expected


def load_plan(
    path: Path,
    store: Store,
    *,
    sets: Sequence[str] = (),
    smoke: bool = False,
    stages: Sequence[str] = (),
) -> Plan:
    """Read and check the file at `path`; UsageError lists every fault with its place.

    Args:
        path: the pipeline file.
        store: where surveys of image sets are cached.
        sets: replacements, as for `--set`.
        smoke: make every stage small, and replace image sets that are missing.
        stages: plan only these and their dependencies. Other stages may be faulty and their images
            missing, so a set without labels is enough for the first stages of a file.
    """
    faults = Faults()
    root = read_document(path, faults)
    digest = hash_file(path)[0] if path.is_file() else ""
    for assignment in sets if isinstance(root.value, dict) else ():
        root = apply_set(root, assignment, faults)
    if not isinstance(root.value, dict):
        faults.raise_if_any()
        raise UsageError(f"{root.mark}: a pipeline file must be a mapping with `stages`")
    loader = _Loader(path, store, smoke, faults, stages)
    replaced = {re.split(r"[.=]", assignment, maxsplit=1)[0].strip() for assignment in sets}
    loader.expects = not smoke and replaced <= KEEPS_EXPECTATIONS
    return dataclasses.replace(loader.load(root), sets=list(sets), digest=digest)


class _Loader:
    """Continues after a fault with all that does not depend on it, to report every fault."""

    def __init__(
        self, path: Path, store: Store, smoke: bool, faults: Faults, stages: Sequence[str]
    ):
        self.path, self.smoke, self.faults = path, smoke, faults
        # Packed images, such as `photos/train`, are not in the file.
        names = {name.partition("[")[0] for name in stages}
        self.selected = {name for name in names if "/" not in name}
        base_dir, surveys = path.resolve().parent, store.survey_cache
        self.reader = StageReader(base_dir, smoke, faults)
        self.files = FileInputs(base_dir, StampCache(surveys / "files"), faults, smoke)
        self.images = ImagePlanner(ImageSets(surveys, base_dir), smoke, faults)
        self.by_key: dict[str, PlannedStage[Any]] = {}
        self.names: dict[str, list[PlannedStage[Any]]] = {}
        self.required: set[str] = set()  # names of the stages to plan, of all members
        self.expects = True  # the file's expected scores hold for what is planned

    def load(self, root: Node) -> Plan:
        """Check the document and plan the stages of every member of its matrix."""
        stages = root.value.get("stages", Node(None, root.mark))
        check_keys(root, stages, self.faults)
        check_selected_names(self.selected, stages, self.path)
        header = PipelineHeader()
        for member in matrix.expand(root.value.get("matrix"), self.faults):
            values = {key: node for key, node in root.value.items() if key != "matrix"}
            top = substitute(Node(values, root.mark, root.keys), member, self.faults)
            header = self.reader.header(top)
            if isinstance(stages.value, dict):
                self._plan_member(root, top, header, member)
        self.images.report_unreadable()
        self._relevant_faults(root).raise_if_any()
        name = header.name or self.path.stem
        return Plan(name, self.path, list(self.by_key.values()), self.names, self.smoke)

    def _plan_member(
        self, root: Node, top: Node, header: PipelineHeader, member: dict[str, Any]
    ) -> None:
        """Check the stages of a member, and add them to the plan where none has a fault."""
        stages = top.value["stages"]
        nodes = {
            name: Node(node.value, stages.keys[name], node.keys)
            for name, node in stages.value.items()
        }
        kinds: dict[str, type[Stage]] = {}
        for name, node in nodes.items():
            if (kind := self.reader.kind(name, node)) is not None:
                kinds[name] = kind
        inputs = {name: self._inputs(name, nodes, kinds) for name in kinds}
        expected = expected_ranges(top, header, kinds, self.faults)
        order, cycles = topological_order(inputs)
        for cycle in cycles:
            problem = f"dependency cycle: {' -> '.join(cycle)}"
            self.faults.add(nodes[cycle[0]].mark, f"stages.{cycle[0]}", problem)
        required = required_stages(self.selected, order, inputs)
        self.required |= required if self.selected <= required else nodes.keys()
        planned: dict[str, PlannedStage[Stage]] = {}
        for name in order:
            draft = self.reader.read(name, nodes[name], kinds[name], header)
            if name not in required:
                continue
            stage = self._plan_stage(draft, inputs[name], planned, root, top, member)
            if stage is not None:
                stage.expected = expected.get(name) if self.expects else None
                planned[name] = stage
                self._validate_plan(stage, draft)
        if not required <= planned.keys() and not self._relevant_faults(root):
            self.required |= nodes.keys()  # the reason lies in a stage that could not be read
        if not self._relevant_faults(root) and not self.images.unreadable:
            self._add(list(planned.values()))

    def _relevant_faults(self, root: Node) -> Faults:
        """Return the faults that do not lie in stages that are not planned."""
        if not self.selected or not self.required:
            return self.faults
        spans = key_spans(root, "stages")
        return self.faults.without(
            {name: span for name, span in spans.items() if name not in self.required}
        )

    def _plan_stage(
        self,
        draft: DraftStage,
        names: dict[str, str | None],
        planned: dict[str, PlannedStage[Stage]],
        root: Node,
        top: Node,
        member: dict[str, Any],
    ) -> PlannedStage[Stage] | None:
        """Join a stage with its inputs and images; None where any of them is faulty."""
        if draft.stage is not None:
            draft.stage, note = self.files.resolve(draft.stage, draft.node, draft.where)
            draft.note = "; ".join(filter(None, [draft.note, note]))
        inputs = {option: planned[name] for option, name in names.items() if name in planned}
        ready = len(inputs) == len(names)
        images = self.images.plan_images(draft, inputs if ready else None, top)
        if draft.stage is None or draft.seed is None or images is None or not ready:
            return None
        variables = matrix_variables(draft, inputs, root)
        return PlannedStage(
            draft.name,
            draft.uses,
            draft.stage,
            seed=draft.seed,
            member={name: value for name, value in member.items() if name in variables},
            inputs=inputs,
            images=images,
            note=draft.note,
            smoke_limits=draft.smoke_limits,
            marks=draft.marks(),
        )

    def _inputs(
        self, name: str, nodes: dict[str, Node], kinds: dict[str, type[Stage]]
    ) -> dict[str, str | None]:
        """Map each input to the stage that it names; None where that is faulty or unsuitable."""
        inputs: dict[str, str | None] = {}
        for option, path, source, artifact in named_inputs(nodes[name], kinds[name]):
            mark, where = nodes[name].mark_at(path), ".".join(map(str, ("stages", name, *path)))
            inputs[option] = source if source in kinds else None
            if source not in nodes:
                self.faults.add(mark, where, f"no stage '{source}'{did_you_mean(source, nodes)}")
            elif source in kinds and not issubclass(kinds[source].produces, KINDS[artifact]):
                suitable = [
                    other
                    for other, kind in kinds.items()
                    if issubclass(kind.produces, KINDS[artifact]) and other != name
                ]
                hint = f"; these stages make {artifact}: {', '.join(suitable)}" if suitable else ""
                uses, made = nodes[source].value["uses"].value, kinds[source].produces.__name__
                problem = f"needs {artifact}, but '{source}' ({uses}) makes {made}{hint}"
                self.faults.add(mark, where, problem)
                inputs[option] = None
        return inputs

    def _validate_plan(self, planned: PlannedStage[Stage], draft: DraftStage) -> None:
        try:
            planned.stage.validate_plan(planned)
        except InvalidOption as error:
            mark = draft.node.mark_at(tuple(error.option.split(".")))
            self.faults.add(mark, f"{draft.where}.{error.option}", str(error))
        except (ValueError, TransferError) as error:
            self.faults.add(draft.node.mark, draft.where, str(error))
        except Exception as error:  # a plug-in's code may raise anything
            problem = f"the check of {planned.uses} fails: {type(error).__name__}: {error}"
            self.faults.add(draft.node.mark, draft.where, problem)

    def _add(self, order: list[PlannedStage[Stage]]) -> None:
        """Add a member's stages to the plan; those that an earlier member has are shared."""
        for planned in order:
            for role, pack in planned.images.items():
                if any(
                    other.name == pack.name and key != pack.key
                    for key, other in self.by_key.items()
                ):
                    # The same set packed in another way, or another set of that name.
                    pack.name += f"@{pack.key[:6]}"
                planned.images[role] = self.by_key.setdefault(pack.key, pack)
            planned.inputs = {
                name: self.by_key[other.key] for name, other in planned.inputs.items()
            }
            shared = self.by_key.setdefault(planned.key, planned)
            shared.members.append(planned.member)
            if shared.name == planned.name:  # variables that differ do not change the result
                shared.member = {
                    name: value
                    for name, value in shared.member.items()
                    if planned.member.get(name) == value
                }
            group = self.names.setdefault(planned.name, [])
            if shared not in group:
                group.append(shared)
