"""Read the stages of a pipeline file one by one: their class, options, seed and image set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from transfer.errors import UsageError
from transfer.pipeline.document_nodes import FAULTY, Faults, Node
from transfer.pipeline.draft_stage import DraftStage
from transfer.pipeline.plan import COMMON_OPTIONS, PipelineHeader
from transfer.pipeline.validation import RejectedValues, validate_as_written
from transfer.pipeline.validation_messages import faulty_option
from transfer.stage.base import Stage
from transfer.stage.registry import find_stage

ModelT = TypeVar("ModelT", bound=BaseModel)


class StageReader:
    """Turns nodes of a document into stages; every fault is reported at its place."""

    def __init__(self, base_dir: Path, smoke: bool, faults: Faults):
        self.base_dir, self.smoke, self.faults = base_dir, smoke, faults

    def header(self, top: Node) -> PipelineHeader:
        """Read the head of the file. Each key is checked alone, so that no fault hides another."""
        values: dict[str, Any] = {}
        for key in PipelineHeader.model_fields.keys() & top.value.keys():
            values[key] = self._header_value(key, top, "")
        return PipelineHeader.model_construct(**values)

    def kind(self, name: str, node: Node) -> type[Stage] | None:
        """Return the class that `uses` names; None after a fault."""
        where = f"stages.{name}"
        if node.value is FAULTY:
            return None
        if not isinstance(node.value, dict):
            self.faults.add(node.mark, where, "must be a mapping with `uses`")
            return None
        uses = node.value.get("uses", Node(None, node.mark)).value
        mark = node.mark_at(("uses",))
        if not isinstance(uses, str):
            if uses is not FAULTY:
                problem = "must name a method (see `transfer list stages`)"
                self.faults.add(mark, f"{where}.uses", problem)
            return None
        try:
            return find_stage(uses, self.base_dir)
        except UsageError as error:
            self.faults.add(mark, f"{where}.uses", str(error))
            return None

    def read(self, name: str, node: Node, kind: type[Stage], header: PipelineHeader) -> DraftStage:
        """Read a stage with its options, seed and image set.

        Args:
            name: its name.
            node: its node in the document.
            kind: its class.
            header: the head of the file.
        """
        where, uses = f"stages.{name}", node.value["uses"].value
        seed, data = header.seed, header.data
        if "seed" in node.value:
            seed = self._header_value("seed", node, where)
        if "data" in node.value and not kind.images:
            self.faults.add(node.keys["data"], f"{where}.data", f"{uses} reads no images")
        elif "data" in node.value:
            data = self._header_value("data", node, where)
        options = {
            key: value.plain() for key, value in node.value.items() if key not in COMMON_OPTIONS
        }
        stage = self._validate(kind, options, node, where)
        label = uses if ".py:" not in uses else Path(uses).name.replace(".py:", ".")
        draft = DraftStage(
            name,
            label,
            kind,
            node,
            stage,
            None if seed is FAULTY else seed,
            None if data is FAULTY else data,
            data_faulty=data is FAULTY,
        )
        if stage is not None:
            draft.note = "; ".join(stage.option_notes(options))
            draft.stage = stage.for_smoke_run() if self.smoke else stage
            draft.smoke_limits = stage.changes_to(draft.stage)
        return draft

    def _header_value(self, key: str, node: Node, where: str) -> Any:
        """Check a value that the head of the file may have too; FAULTY after a fault."""
        checked = self._validate(PipelineHeader, {key: node.value[key].plain()}, node, where)
        if checked is None:
            return FAULTY
        value = getattr(checked, key)
        return _from_working_directory(value, node.value[key]) if key == "data" else value

    def _validate(
        self, model: type[ModelT], values: dict[str, Any], node: Node, where: str
    ) -> ModelT | None:
        try:
            return validate_as_written(model, values, node)
        except RejectedValues as rejected:
            for path, message in rejected.messages.items():
                option = ".".join(map(str, path))
                self.faults.add(
                    node.mark_at(path), ".".join(filter(None, [where, option])), message
                )
        except Exception as error:  # a plug-in's code may raise anything
            option = faulty_option(model, values)
            mark, place = node.mark_at((option,)), ".".join(filter(None, [where, option]))
            self.faults.add(mark, place, f"cannot be checked ({type(error).__name__}: {error})")
        return None


def _from_working_directory(spec: Any, node: Node) -> Any:
    """Return an image set; a path that came with `--set` starts at the working directory."""
    for layout in ("folder", "hdf5", "tar", "path"):
        path = getattr(spec, layout, None)
        value = node.value.get(layout, node) if isinstance(node.value, dict) else node
        if path is not None and not value.mark.line:
            return spec.model_copy(update={layout: os.path.abspath(os.path.expanduser(path))})
    return spec
