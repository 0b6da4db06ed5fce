"""A pipeline file: read it, check all of it, and make the plan: the stages of every member with their keys."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from transfer import artifacts, matrix
from transfer.catalog import find_stage
from transfer.document import FAULTY, Faults, Node, read_document
from transfer.errors import BadOption, UsageError, nearest
from transfer.given import with_files
from transfer.images.sets import ImageSets
from transfer.manifest import KEY_LENGTH
from transfer.plan import COMMON, Header, Plan, Planned
from transfer.planned_images import PlannedImages
from transfer.stage import Stage
from transfer.store import Store
from transfer.variables import replace, substitute
from transfer.wiring import in_order, named_inputs, needed_for, variables_of
from transfer.wording import culprit, say_all

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")  # a stage may be named by what it makes, too
STILL_EXPECTED = {"seed", "expected"}  # keys that `--set` may replace: the expectations stay
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")  # no '.', which parts the words of --set


def load_plan(
    path: Path, store: Store, *, sets: Sequence[str] = (), smoke: bool = False, stages: Sequence[str] = ()
) -> Plan:
    """Read and check the file at `path`; UsageError lists every fault in it with its place.

    With `stages` the plan holds these and all that they stand on. The images of the others are not looked at, so that
    a set without labels does for the first stages of a file whose last ones would need them.
    """
    faults = Faults()
    root = read_document(path, faults)
    if not isinstance(root.value, dict):
        raise UsageError(f"{root.mark}: a pipeline file is a mapping with `stages`")
    for assignment in sets:
        root = replace(root, assignment, faults)
    if not isinstance(root.value, dict):
        faults.raise_if_any()
        raise UsageError(f"{root.mark}: a pipeline file is a mapping with `stages`")
    replaced = {re.split(r"[.=]", assignment, maxsplit=1)[0].strip() for assignment in sets}
    reader = _Reader(path, store, smoke, faults, stages)
    reader.expects = not smoke and replaced <= STILL_EXPECTED
    return reader.plan(root)


class _Reader:
    """Goes on after a fault with all that does not depend on it, so that every fault is told at once."""

    def __init__(self, path: Path, store: Store, smoke: bool, faults: Faults, stages: Sequence[str]):
        self.path, self.smoke, self.faults = path, smoke, faults
        self.wanted = {name.partition("[")[0] for name in stages}
        self.beside = path.resolve().parent
        self.memory = store.memory
        self.images = PlannedImages(ImageSets(self.memory, self.beside), smoke, faults)
        self.by_key: dict[str, Planned] = {}
        self.names: dict[str, list[Planned]] = {}
        self.expects = True  # the file's expectations are of what is planned

    def plan(self, root: Node) -> Plan:
        known = [*Header.model_fields, "matrix", "stages"]
        for key, mark in root.keys.items():
            if key not in known:
                self.faults.add(mark, key, f"unknown key{nearest(key, known)}")
        stages = root.value.get("stages", Node(None, root.mark))
        if stages.value is not FAULTY and (not isinstance(stages.value, dict) or not stages.value):
            self.faults.add(root.mark_at(("stages",)), "stages", "must be a mapping of at least one stage")
        for name, mark in stages.keys.items():
            if not STAGE_NAME.fullmatch(name):
                self.faults.add(mark, f"stages.{name}", "a stage's name has letters, digits, '_' and '-' only")
        for wanted in sorted(self.wanted) if isinstance(stages.value, dict) else ():
            if wanted not in stages.value and STAGE_NAME.fullmatch(wanted) and not KEY.fullmatch(wanted):
                raise UsageError(f"{self.path}: no stage '{wanted}'{nearest(wanted, stages.value)}")
        name = root.value.get("name")
        if name is not None and isinstance(name.value, str) and not NAME.fullmatch(name.value):
            self.faults.add(root.keys["name"], "name", "letters, digits, '_', '-' and '.' only")
        head = None
        for member in matrix.expand(root.value.get("matrix"), self.faults):
            values = {key: node for key, node in root.value.items() if key != "matrix"}
            top = substitute(Node(values, root.mark, root.keys), member, self.faults)
            head = self._header(top)
            if isinstance(stages.value, dict):
                self._member(root, top, head, member)
        self.images.tell_unread()
        self.faults.raise_if_any()
        return Plan(head.name or self.path.stem, self.path, list(self.by_key.values()), self.names, self.smoke)

    def _header(self, top: Node) -> Header:
        """Each field on its own, so that a faulty one hides no other; its value is FAULTY then."""
        found: dict[str, Any] = {}
        for key in Header.model_fields.keys() & top.value.keys():
            checked = self._validate(Header, {key: top.value[key].plain()}, top, "")
            found[key] = _settled(getattr(checked, key), top.value[key]) if checked else FAULTY
        return Header.model_construct(**found)

    def _member(self, root: Node, top: Node, header: Header, member: dict[str, Any]) -> None:
        """Check the stages of a member, and take them into the plan where nothing is wrong."""
        written = top.value["stages"]
        nodes = {name: Node(one.value, written.keys[name], one.keys) for name, one in written.value.items()}
        kinds = {name: kind for name, node in nodes.items() if (kind := self._kind(name, node)) is not None}
        inputs = {name: self._inputs(name, node, kinds, nodes) for name, node in nodes.items() if name in kinds}
        expected = self._expected(top, header, kinds)
        sound: dict[str, Planned] = {}
        order, circles = in_order(inputs)
        for circle in circles:
            told = f"stands on itself: {' -> '.join(circle)}"
            self.faults.add(nodes[circle[0]].mark, f"stages.{circle[0]}", told)
        needed = needed_for(self.wanted, order, inputs)
        for name in order:
            one = self._stage(name, nodes[name], kinds[name], header)
            if name not in needed:
                continue
            if one.stage is not FAULTY:
                where = f"stages.{name}"
                found = with_files(one.stage, nodes[name], where, self.beside, self.memory, self.faults, self.smoke)
                one.stage, note = found
                one.note = "; ".join(filter(None, [one.note, note]))
            ready = all(other in sound for other in inputs[name].values())
            before = {option: sound[other] for option, other in inputs[name].items()} if ready else None
            images = self.images.of(name, kinds[name], nodes[name], one.data, before, top)
            if one.stage is not FAULTY and before is not None and images is not None:
                one.inputs, one.images = before, images
                one.expected = expected.get(name) if self.expects else None
                one.member = {key: member[key] for key in member if key in variables_of(one, root)}
                sound[name] = one
                self._check(one)
        if not self.faults and not self.images.unread:
            self._add(list(sound.values()))

    def _expected(self, top: Node, header: Header, kinds: dict[str, Any]) -> dict[str, list[float]]:
        """Stage -> the range of its main figure; each fault at its place."""
        if header.expected is FAULTY:
            return {}
        written = top.value["stages"].value
        for name, (low, high) in header.expected.items():
            mark, where = top.mark_at(("expected", name)), f"expected.{name}"
            if name not in written:
                self.faults.add(mark, where, f"no stage '{name}'{nearest(name, written)}")
            elif name in kinds and not issubclass(kinds[name].produces, artifacts.Scores):
                made = kinds[name].produces.__name__
                self.faults.add(mark, where, f"the stage makes {made}; name one that makes Scores")
            elif low > high:
                self.faults.add(mark, where, f"{low:g} is above {high:g}; write [low, high]")
        return header.expected

    def _validate(self, model: type[BaseModel], values: Any, node: Node, where: str) -> Any:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            for path, told in say_all(error, model, values).items():
                option = ".".join(map(str, path))
                self.faults.add(node.mark_at(path), ".".join(filter(None, [where, option])), told)
        except Exception as error:  # a stranger's code may raise anything
            option = culprit(model, values)
            place = node.mark_at((option,)), ".".join(filter(None, [where, option]))
            self.faults.add(*place, f"cannot be checked ({type(error).__name__}: {error})")
        return None

    def _kind(self, name: str, node: Node) -> type[Stage] | None:
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
                self.faults.add(mark, f"{where}.uses", "must say which method (see `transfer list stages`)")
            return None
        try:
            return find_stage(uses, self.beside)
        except UsageError as error:
            self.faults.add(mark, f"{where}.uses", str(error))
            return None

    def _inputs(
        self, name: str, node: Node, kinds: dict[str, type[Stage]], written: dict[str, Node]
    ) -> dict[str, str | None]:
        """Option, or its place in an option's list, -> the stage that it names; None where it cannot be that one."""
        found: dict[str, str | None] = {}
        for option, path, wanted, wanted_kind in named_inputs(node, kinds[name]):
            found[option] = wanted if wanted in kinds else None
            mark, where = node.mark_at(path), ".".join(map(str, ("stages", name, *path)))
            if wanted not in written:
                self.faults.add(mark, where, f"no stage '{wanted}'{nearest(wanted, written)}")
            elif wanted in kinds and not issubclass(kinds[wanted].produces, artifacts.KINDS[wanted_kind]):
                makes = {other: issubclass(kinds[other].produces, artifacts.KINDS[wanted_kind]) for other in kinds}
                fitting = [other for other, fits in makes.items() if fits and other != name]
                hint = f"; {wanted_kind} come from: {', '.join(fitting)}" if fitting else ""
                uses, made = written[wanted].value["uses"].value, kinds[wanted].produces.__name__
                self.faults.add(mark, where, f"needs {wanted_kind}, but '{wanted}' ({uses}) makes {made}{hint}")
                found[option] = None
        return found

    def _stage(self, name: str, node: Node, kind: type[Stage], header: Header) -> Planned:
        """The stage with its options, seed and data, each FAULTY where it is."""
        where, uses = f"stages.{name}", node.value["uses"].value
        found: dict[str, Any] = {"seed": header.seed, "data": header.data}
        for key in found.keys() & node.value.keys():
            if key == "data" and not kind.images:
                self.faults.add(node.keys["data"], f"{where}.data", f"{uses} reads no images")
                continue
            checked = self._validate(Header, {key: node.value[key].plain()}, node, where)
            found[key] = _settled(getattr(checked, key), node.value[key]) if checked else FAULTY
        options = {key: one.plain() for key, one in node.value.items() if key not in COMMON}
        stage = self._validate(kind, options, node, where) or FAULTY
        if FAULTY in (stage, found["seed"]):
            return Planned(name, uses, FAULTY, data=found["data"])
        label = uses if ".py:" not in uses else Path(uses).name.replace(".py:", ".")
        made = stage.smoked() if self.smoke else stage
        return Planned(name, label, made, node=node, note="; ".join(stage.idle(options)), **found)

    def _check(self, one: Planned) -> None:
        try:
            one.stage.check(one)
        except BadOption as error:
            path = tuple(error.option.split("."))
            self.faults.add(one.node.mark_at(path), f"stages.{one.name}.{error.option}", str(error))
        except ValueError as error:
            self.faults.add(one.node.mark, f"stages.{one.name}", str(error))
        except Exception as error:  # a stranger's code may raise anything
            what = f"the check of {one.uses} fails: {type(error).__name__}: {error}"
            self.faults.add(one.node.mark, f"stages.{one.name}", what)

    def _add(self, order: list[Planned]) -> None:
        """Take the member's stages into the plan; those that an earlier member has too are that member's."""
        for one in order:
            for role, pack in one.images.items():
                if any(other.name == pack.name and key != pack.key for key, other in self.by_key.items()):
                    pack.name += f"@{pack.key[:6]}"  # the same set packed in another way, or another of that name
                one.images[role] = self.by_key.setdefault(pack.key, pack)
            one.inputs = {name: self.by_key[other.key] for name, other in one.inputs.items()}
            shared = self.by_key.setdefault(one.key, one)
            shared.members.append(one.member)
            if shared.name == one.name:  # what they do not agree in has made no difference
                shared.member = {key: value for key, value in shared.member.items() if one.member.get(key) == value}
            group = self.names.setdefault(one.name, [])
            if shared not in group:
                group.append(shared)


def _settled(value: Any, node: Node) -> Any:
    """An image set whose path came with `--set` has it from the working directory, not from the file's folder."""
    for place in ("folder", "hdf5"):
        path = getattr(value, place, None)
        written = node.value.get(place, node) if isinstance(node.value, dict) else node
        if path is not None and not written.mark.line:
            return value.model_copy(update={place: os.path.abspath(os.path.expanduser(path))})
    return value
