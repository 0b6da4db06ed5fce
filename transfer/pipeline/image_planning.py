"""Plan the images that the stages of a pipeline read: which split of which set, packed how."""

from __future__ import annotations

from pathlib import Path

from transfer.datasets.image_sets import ImageSets
from transfer.datasets.spec import ImageSpec
from transfer.datasets.split_roles import overlap, spec_for, split_fault
from transfer.errors import TransferError
from transfer.pipeline.document_nodes import Faults, Mark, Node
from transfer.pipeline.draft_stage import DraftStage
from transfer.stage.base import PACK, PlannedPack, PlannedStage, Stage
from transfer.stage.image_input import ImageInput
from transfer.stage.options import inputs_named
from transfer.stage.upstream import source_pack

SMOKE_IMAGES = 256

Inputs = dict[str, PlannedStage[Stage]]


class ImagePlanner:
    """Plans the packing of the images that stages read."""

    def __init__(self, sets: ImageSets, smoke: bool, faults: Faults):
        self.sets, self.smoke, self.faults = sets, smoke, faults
        # A fault of the pipeline's `data:` -> the stages that read it.
        self.unreadable: dict[tuple[Mark, str, str], dict[str, None]] = {}
        self.complete: dict[str, None] = {}  # the stages that have all their images
        self.replaced: set[PlannedPack] = set()  # those of drawings, in place of a missing set

    def plan_images(
        self, draft: DraftStage, inputs: Inputs | None, top: Node
    ) -> dict[str, PlannedPack] | None:
        """Plan the packing of every split that a stage reads, by role; None after a fault.

        Args:
            draft: the stage.
            inputs: its planned inputs; None where one of them is faulty.
            top: the document, for the place of its `data`.
        """
        packs: dict[str, PlannedPack] = {}
        for role, image_input in draft.kind.images.items():
            if image_input.same_as and not draft.own_data():
                if inputs is None:
                    return None
                source = next(iter(inputs_named(inputs, image_input.same_as)), None)
                pack = source_pack(source) if source is not None else None
                if pack is not None:
                    packs[role] = pack
                    continue
            pack = self._plan_split(draft, image_input, top)
            if pack is None:
                return None
            packs[role] = pack
        if not self._roles_fit(draft, packs, inputs or {}):
            return None
        if packs:
            self.complete[draft.name] = None
        return packs

    def _plan_split(
        self, draft: DraftStage, image_input: ImageInput, top: Node
    ) -> PlannedPack | None:
        """Plan the packing of one split of the set that `data:` names; None after a fault."""
        if draft.data_faulty:
            return None
        if draft.data is None:
            keys = draft.node.keys if draft.own_data() else top.keys
            if "data" in keys:  # it is empty, or null
                remedy = "name a folder, or a set of `transfer list data`"
                self._report_data(draft, keys["data"], f"is empty; {remedy}")
                return None
            problem = "reads images, but `data:` is missing; add it here or for the whole file"
            self.faults.add(draft.node.mark, draft.where, problem)
            return None
        if draft.own_data() and (problem := split_fault(draft.kind, draft.data)):
            self.faults.add(
                draft.node.mark_at(("data", "split")), f"{draft.where}.data.split", problem
            )
            return None
        one_split = len(draft.kind.images) == 1
        spec = draft.data if one_split else spec_for(image_input.split, draft.data)
        mark = draft.node.keys["data"] if draft.own_data() else top.keys["data"]
        try:
            pack = self._pack(spec, image_input)
            pack.marks[""] = str(mark)
            return pack
        except (TransferError, OSError) as error:
            self._report_data(draft, mark, str(error))
            return None

    def _report_data(self, draft: DraftStage, mark: Mark, problem: str) -> None:
        """Report a fault of the images of a stage; one of the pipeline's images counts once."""
        if draft.own_data():
            self.faults.add(mark, f"{draft.where}.data", problem)
        else:
            self.unreadable.setdefault((mark, "data", problem), {})[draft.name] = None

    def _pack(self, spec: ImageSpec, image_input: ImageInput) -> PlannedPack:
        original, note, is_missing = spec, "", self.smoke and self.sets.is_missing(spec)
        if self.smoke:
            spec = spec.model_copy(update={"limit": min(spec.limit or SMOKE_IMAGES, SMOKE_IMAGES)})
        if is_missing:
            origin, size = self.sets.locate(spec)
            note = f"drawings replace {origin.location}, which is missing"
            spec = ImageSpec(card="drawings", split=None, limit=spec.limit, size=spec.size or size)
        pack = self.sets.pack(spec, image_input.split, image_input.needs_labels)
        whole = pack.model_copy(update={"spec": original})
        planned: PlannedPack = PlannedStage(
            f"{Path(original.location).name or original.location}/{pack.split}",
            PACK,
            pack,
            note="; ".join(filter(None, [note, pack.note])),
        )
        if is_missing:
            self.replaced.add(planned)
        elif self.smoke and pack.count < whole.count:
            planned.smoke_limits = f"{pack.count:,} of {whole.count:,} images"
        return planned

    def _roles_fit(self, draft: DraftStage, packs: dict[str, PlannedPack], inputs: Inputs) -> bool:
        """Report splits that overlap, and inputs that were made from other images."""
        splits = {role: pack.stage.split for role, pack in packs.items()}
        if problem := overlap(splits, draft.kind):
            self.faults.add(draft.node.mark, draft.where, problem)
            return False
        for role, image_input in draft.kind.images.items():
            for planned in inputs_named(inputs, image_input.same_as) if image_input.same_as else ():
                if problem := self._other_images(planned, packs[role]):
                    mark = draft.node.mark_at((image_input.same_as,))
                    self.faults.add(mark, f"{draft.where}.{image_input.same_as}", problem)
                    return False
        return True

    def _other_images(self, planned: PlannedStage[Stage], pack: PlannedPack) -> str:
        """What is wrong where an input was made from another set; empty where nothing is."""
        source = source_pack(planned)
        if source is None or source.stage.shares_ids(pack.stage):
            return ""
        if not self.replaced.isdisjoint((source, pack)):
            return ""  # drawings that replace a set have other ids
        return (
            f"'{planned.name}' was made from {source.stage.set_name}, but the images are those of "
            f"{pack.stage.set_name}; the same id names another image there"
        )

    def report_unreadable(self) -> None:
        """Report each unreadable set once, with all stages that read it."""
        for (mark, where, problem), readers in self.unreadable.items():
            first, *more = problem.split("\n")
            lines = [f"{first} (read by {', '.join(readers)})", *more]
            if self.complete.keys() - readers:
                lines.append(
                    "  the other stages do not read it; name the stages to run after the file"
                )
            self.faults.add(mark, where, "\n".join(lines))
