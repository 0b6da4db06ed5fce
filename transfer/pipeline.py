"""A pipeline file: read it, check all of it, and make the plan: the stages of every member with their keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transfer import artifacts, matrix
from transfer.catalog import find_stage
from transfer.document import Faults, Node, read_document, replace, substitute
from transfer.errors import BadOption, TransferError, UsageError, nearest
from transfer.images.pack import ImageSets
from transfer.images.spec import ImageSpec
from transfer.stage import Stage
from transfer.store import Store, key_of

COMMON = {
    "uses": "which method: see `transfer list stages`",
    "data": "another image set for this stage than the pipeline's",
    "seed": "another seed for this stage than the pipeline's",
}
SMOKE_IMAGES = 256
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Header(BaseModel):
    """What stands at the head of a pipeline file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(None, description="what the pipeline is called; the file's name if absent")
    seed: int = Field(0, ge=0, lt=2**32, description="every stage that draws anything draws from this")
    data: ImageSpec | None = Field(None, description="the image set of all stages that name none of their own")


@dataclass(eq=False)
class Planned:
    """A stage of a plan: what it is, what it stands on, and the key of what it makes."""

    name: str
    uses: str
    stage: Stage
    seed: int = 0
    member: str = ""
    inputs: dict[str, Planned] = field(default_factory=dict)
    images: dict[str, Planned] = field(default_factory=dict)
    note: str = ""  # what a person must know of it, such as a stand-in for a set that is not there
    node: Node | None = None

    @property
    def label(self) -> str:
        return f"{self.name}[{self.member}]" if self.member else self.name

    @property
    def before(self) -> dict[str, Planned]:
        """Everything that it reads, by the name it is read under."""
        return {**self.inputs, **{f"{role} images": pack for role, pack in self.images.items()}}

    @property
    def identity(self) -> dict[str, Any]:
        identity = {
            "stage": self.uses,
            "version": self.stage.version,
            "options": self.stage.identity(),
            "inputs": {name: one.key for name, one in self.before.items()},
        }
        return identity | ({"seed": self.seed} if self.stage.seeded else {})

    @property
    def key(self) -> str:
        if not hasattr(self, "_key"):
            self._key = key_of(self.identity)
        return self._key


@dataclass
class Plan:
    """The stages of all members, each after all that it reads; a stage that members share stands here once."""

    name: str
    file: Path
    stages: list[Planned]
    names: dict[str, list[Planned]]  # stage name -> one a member
    smoke: bool = False

    def __iter__(self) -> Iterator[Planned]:
        return iter(self.stages)

    def find(self, name: str) -> list[Planned]:
        """The stages called `name`, or `name[member]`, or with that key; UsageError names the nearest."""
        found = self.names.get(name) or [one for one in self.stages if name in (one.label, one.key)]
        if not found:
            raise UsageError(f"{self.file}: no stage '{name}'{nearest(name, self.names)}")
        return found


def load_plan(path: Path, store: Store, *, sets: Sequence[str] = (), smoke: bool = False) -> Plan:
    """Read and check the file at `path`; UsageError lists every fault in it with its place."""
    faults = Faults()
    root = read_document(path, faults)
    if not isinstance(root.value, dict):
        raise UsageError(f"{root.mark}: a pipeline file is a mapping with `stages`")
    for assignment in sets:
        root = replace(root, assignment, faults)
    faults.raise_if_any()
    return _Reader(path, store, smoke, faults).plan(root)


class _Reader:
    def __init__(self, path: Path, store: Store, smoke: bool, faults: Faults):
        self.path, self.smoke, self.faults = path, smoke, faults
        self.beside = path.resolve().parent
        self.sets = ImageSets(store.memory, self.beside)
        self.by_key: dict[str, Planned] = {}
        self.names: dict[str, list[Planned]] = {}

    def plan(self, root: Node) -> Plan:
        known = [*Header.model_fields, "matrix", "stages"]
        for key, mark in root.keys.items():
            if key not in known:
                self.faults.add(mark, key, f"unknown key{nearest(key, known)}")
        stages = root.value.get("stages")
        if stages is None or not isinstance(stages.value, dict) or not stages.value:
            self.faults.add(stages.mark if stages else root.mark, "stages", "must be a mapping of at least one stage")
        for name, mark in (stages.keys if stages else {}).items():
            if not NAME.fullmatch(name):
                self.faults.add(mark, f"stages.{name}", "a stage's name has letters, digits, '_', '-' and '.' only")
        members = matrix.expand(root.value.get("matrix"), self.faults)
        self.faults.raise_if_any()
        name = None
        for member in members:
            top = substitute(
                Node({k: n for k, n in root.value.items() if k != "matrix"}, root.mark, root.keys),
                member,
                self.faults,
            )
            name = self._member(top, matrix.label(member)) or name
        self.faults.raise_if_any()
        return Plan(name or self.path.stem, self.path, list(self.by_key.values()), self.names, self.smoke)

    def _member(self, top: Node, member: str) -> str | None:
        values = {key: node.plain() for key, node in top.value.items() if key in Header.model_fields}
        header = self._validate(Header, values, top, "")
        if header is None:
            return None
        if header.name is not None and not NAME.fullmatch(header.name):
            self.faults.add(top.value["name"].mark, "name", "letters, digits, '_', '-' and '.' only")
        members = {
            name: found
            for name, node in top.value["stages"].value.items()
            if (found := self._stage(name, node, header, member)) is not None
        }
        for name, node in top.value["stages"].value.items():
            if name in members:
                self._connect(members[name], node, members)
        order = self._order(members, set(top.value["stages"].value))
        if not self.faults:
            for one in order:
                self._images(one, header, top)
        for one in order:
            if not self.faults:
                self._check(one)
        if not self.faults:
            self._add(order)
        return header.name

    def _validate(self, model: type[BaseModel], values: Any, node: Node, where: str) -> Any:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for fault in error.errors():
                place = [str(step) for step in fault["loc"]]
                # pydantic puts the chosen variant of a union into the path; it stands nowhere in the file.
                path = tuple(step for step in fault["loc"] if not str(step).startswith("<"))
                option = ".".join(p for p in place if not p.startswith("<"))
                self.faults.add(node.mark_at(path), ".".join(filter(None, [where, option])), _say(fault, model))
            return None

    def _stage(self, name: str, node: Node, header: Header, member: str) -> Planned | None:
        where = f"stages.{name}"
        if not isinstance(node.value, dict):
            self.faults.add(node.mark, where, "must be a mapping with `uses`")
            return None
        uses = node.value.get("uses")
        if uses is None or not isinstance(uses.value, str):
            self.faults.add(
                uses.mark if uses else node.mark,
                f"{where}.uses",
                "must say which method (see `transfer list stages`)",
            )
            return None
        try:
            kind = find_stage(uses.value, self.beside)
        except UsageError as error:
            self.faults.add(uses.mark, f"{where}.uses", str(error))
            return None
        seed = header.seed
        if "seed" in node.value:
            own = self._validate(Header, {"seed": node.value["seed"].plain()}, node, where)
            seed = own.seed if own else seed
        if "data" in node.value and not kind.images:
            self.faults.add(node.keys["data"], f"{where}.data", f"{uses.value} reads no images")
        options = {key: one.plain() for key, one in node.value.items() if key not in COMMON}
        stage = self._validate(kind, options, node, where)
        if stage is None:
            return None
        label = uses.value if ".py:" not in uses.value else Path(uses.value).name.replace(".py:", ".")
        return Planned(name, label, stage.smoked() if self.smoke else stage, seed, member, node=node)

    def _connect(self, one: Planned, node: Node, members: dict[str, Planned]) -> None:
        for option, kind in one.stage.input_fields().items():
            wanted = getattr(one.stage, option)
            if wanted is None:
                continue
            mark, where = node.mark_at((option,)), f"stages.{one.name}.{option}"
            if wanted in members:
                made = members[wanted].stage.produces
                if issubclass(made, artifacts.KINDS[kind]):
                    one.inputs[option] = members[wanted]
                else:
                    fitting = [name for name, other in members.items() if other.stage.produces.__name__ == kind]
                    hint = f"; {kind} come from: {', '.join(fitting)}" if fitting else ""
                    self.faults.add(
                        mark,
                        where,
                        f"needs {kind}, but '{wanted}' ({members[wanted].uses}) makes {made.__name__}{hint}",
                    )
            elif not self.faults:
                self.faults.add(mark, where, f"no stage '{wanted}'{nearest(wanted, members)}")

    def _order(self, members: dict[str, Planned], written: set[str]) -> list[Planned]:
        order: list[Planned] = []
        state: dict[str, str] = {}

        def visit(one: Planned, path: list[str]) -> None:
            if state.get(one.name) == "done":
                return
            if one.name in path:
                circle = [*path[path.index(one.name) :], one.name]
                self.faults.add(one.node.mark, f"stages.{one.name}", f"stands on itself: {' -> '.join(circle)}")
                return
            for other in one.inputs.values():
                visit(other, [*path, one.name])
            if state.get(one.name) != "done":
                state[one.name] = "done"
                order.append(one)

        for one in members.values():
            visit(one, [])
        return order

    def _images(self, one: Planned, header: Header, top: Node) -> None:
        """Plan the packing of every split that the stage reads."""
        own = (
            self._validate(Header, {"data": one.node.value["data"].plain()}, one.node, f"stages.{one.name}")
            if "data" in one.node.value
            else None
        )
        for role, images in one.stage.images.items():
            if images.follow and not own:
                source = one.inputs[images.follow]
                while not source.images:
                    source = next(iter(source.inputs.values()))
                one.images[role] = next(iter(source.images.values()))
                continue
            spec = own.data if own else header.data
            mark = (one.node.keys if own else top.keys).get("data", one.node.mark)
            if spec is None:
                self.faults.add(
                    one.node.mark,
                    f"stages.{one.name}",
                    "reads images: name them with `data:`, here or for the whole file",
                )
                return
            if len(one.stage.images) > 1:  # a stage of several splits picks them itself
                spec = spec.model_copy(update={"split": None})
            try:
                one.images[role] = self._pack(spec, images.split, images.labelled)
            except TransferError as error:
                self.faults.add(mark, f"stages.{one.name}.data" if own else "data", str(error))
                return

    def _pack(self, spec: ImageSpec, split: str, labelled: bool) -> Planned:
        note = ""
        if self.smoke:
            spec = spec.model_copy(update={"limit": min(spec.limit or SMOKE_IMAGES, SMOKE_IMAGES)})
            try:
                self.sets.survey(spec)
            except UsageError:
                _, _, size = self.sets.locate(spec)
                note = f"drawings stand in for {spec.place}, which is not there"
                spec = ImageSpec(card="drawings", split=None, limit=spec.limit, size=spec.size or size)
        pack = self.sets.pack(spec, split, labelled)
        return Planned(f"{Path(spec.place).name or spec.place}/{pack.split}", "images", pack, note=note)

    def _check(self, one: Planned) -> None:
        try:
            one.stage.check(one)
        except BadOption as error:
            self.faults.add(one.node.mark_at((error.option,)), f"stages.{one.name}.{error.option}", str(error))
        except ValueError as error:
            self.faults.add(one.node.mark, f"stages.{one.name}", str(error))

    def _add(self, order: list[Planned]) -> None:
        """Take the member's stages into the plan; those that an earlier member has too are that member's."""
        for one in order:
            for role, pack in one.images.items():
                one.images[role] = self.by_key.setdefault(pack.key, pack)
            one.inputs = {name: self.by_key[other.key] for name, other in one.inputs.items()}
            shared = self.by_key.setdefault(one.key, one)
            if shared is not one and shared.member != one.member and shared.name == one.name:
                shared.member = ""  # it belongs to no member in particular
            group = self.names.setdefault(one.name, [])
            if shared not in group:
                group.append(shared)


def _say(fault: dict[str, Any], model: type[BaseModel]) -> str:
    """pydantic's fault in words that help."""
    if fault["type"] == "extra_forbidden":
        names = [*model.model_fields, *(COMMON if issubclass(model, Stage) else ())] if len(fault["loc"]) == 1 else []
        return f"unknown option{nearest(str(fault['loc'][-1]), names)}"
    if fault["type"] == "missing":
        return "is required" + (f": {help}" if (help := _help(model, fault["loc"])) else "")
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    found = fault.get("input")
    if fault["type"] == "value_error" or isinstance(found, dict):
        return message
    return f"{message} (found {found!r})"


def _help(model: type[BaseModel], path: tuple[Any, ...]) -> str:
    found = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return found.description or "" if found else ""
