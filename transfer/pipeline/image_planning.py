"""The image sets that the stages of a pipeline read: which splits of which, packed how, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

from transfer.datasets.image_sets import ImageSets
from transfer.datasets.spec import ImageSpec
from transfer.datasets.split_roles import overlap, spec_for, split_fault
from transfer.errors import TransferError, UsageError
from transfer.pipeline.plan import PlannedStage, source_pack
from transfer.pipeline.yaml_document import FAULTY, Faults, Mark, Node
from transfer.stage.base import Stage, inputs_named

SMOKE_IMAGES = 256


class ImagePlanner:
    """Plans the packing of what stages read. `unread`: a fault of a set -> the stages that read it."""

    def __init__(self, sets: ImageSets, smoke: bool, faults: Faults):
        self.sets, self.smoke, self.faults = sets, smoke, faults
        self.unreadable: dict[tuple[Mark, str, str], dict[str, None]] = {}
        self.read: dict[str, None] = {}  # the stages that have all images that they read

    def plan_stage(
        self,
        name: str,
        kind: type[Stage],
        node: Node,
        data: ImageSpec | None,
        before: dict[str, PlannedStage] | None,
        top: Node,
    ) -> dict[str, PlannedStage] | None:
        """Plan the packing of every split that the stage reads; None where that cannot be."""
        found, own = {}, "data" in node.keys
        for role, images in kind.images.items():
            if images.follow and not own:
                if before is None:
                    return None
                source = next(iter(inputs_named(before, images.follow)), None)
                pack = None if source is None else source_pack(source)
                if pack is not None:
                    found[role] = pack
                    continue
            if data is FAULTY:
                return None
            if data is None:
                what = "reads images: name them with `data:`, here or for the whole file"
                self.faults.add(node.mark, f"stages.{name}", what)
                return None
            if own and (wrong := split_fault(kind, data)):
                self.faults.add(node.mark_at(("data", "split")), f"stages.{name}.data.split", wrong)
                return None
            spec = data if len(kind.images) == 1 else spec_for(images.split, data)
            try:
                found[role] = self._pack(spec, images.split, images.labeled)
            except (TransferError, OSError) as error:
                if own:
                    self.faults.add(node.keys["data"], f"stages.{name}.data", str(error))
                else:
                    self.unreadable.setdefault((top.keys["data"], "data", str(error)), {})[name] = (
                        None
                    )
                return None
        if wrong := overlap({role: pack.stage.split for role, pack in found.items()}, kind):
            self.faults.add(node.mark, f"stages.{name}", wrong)
            return None
        for role, option in (
            (role, images.follow) for role, images in kind.images.items() if images.follow
        ):
            for one in inputs_named(before or {}, option):
                if wrong := self._of_others(one, found[role]):
                    self.faults.add(node.mark_at((option,)), f"stages.{name}.{option}", wrong)
                    return None
        if found:
            self.read[name] = None
        return found

    def _of_others(self, one: PlannedStage, pack: PlannedStage) -> str:
        """What is wrong where an input is not of the images that it would be joined to; empty where nothing is."""
        theirs = source_pack(one)
        if (
            theirs is None
            or theirs.stage.shares_ids(pack.stage)
            or (self.smoke and (theirs.note or pack.note))
        ):
            return ""  # of a stand-in nothing can be said
        places = f"'{one.name}' is of {theirs.stage.origin.place}, the images are of {pack.stage.origin.place}"
        return f"{places}: in another set the same id is another image"

    def _pack(self, spec: ImageSpec, split: str, labeled: bool) -> PlannedStage:
        note = ""
        if self.smoke:
            spec = spec.model_copy(update={"limit": min(spec.limit or SMOKE_IMAGES, SMOKE_IMAGES)})
            try:
                self.sets.survey(spec)
            except UsageError:
                _, size = self.sets.locate(spec)
                note = f"drawings stand in for {spec.location}, which is not there"
                spec = ImageSpec(
                    card="drawings", split=None, limit=spec.limit, size=spec.size or size
                )
        pack = self.sets.pack(spec, split, labeled)
        told = "; ".join(filter(None, [note, pack.note]))
        return PlannedStage(
            f"{Path(spec.location).name or spec.location}/{pack.split}", "images", pack, note=told
        )

    def report_unreadable(self) -> None:
        """A fault for each set that cannot be read, with all stages that read it."""
        for (mark, where, what), readers in self.unreadable.items():
            first, *more = what.split("\n")
            lines = [f"{first} (read by {', '.join(readers)})", *more]
            if self.read.keys() - readers:
                lines.append(
                    "  the other stages can do without: name those that you want after the file"
                )
            self.faults.add(mark, where, "\n".join(lines))
