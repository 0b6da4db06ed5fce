"""Finds the tensor of a file for each tensor of a network."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transfer.errors import InvalidOption, did_you_mean
from transfer.models.timm_backbone import Timm
from transfer.models.weights.dialects import Names, dialects, rank
from transfer.models.weights.files import WeightFile, read_tensors
from transfer.models.weights.match import Expected, Match, Part, common_shapes
from transfer.models.weights.mismatch import mismatch_text, place_options
from transfer.models.weights.notes import left_out_notes, match_notes, order_notes
from transfer.models.weights.parts import file_parts
from transfer.models.weights.search import (
    best_match,
    compare,
    in_order,
    matches,
    without_ignored,
)
from transfer.models.weights.stored_tensor import StoredTensor

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network


@dataclass(frozen=True)
class WeightOptions:
    """Which tensors of a file are taken, and how they find their places.

    Args:
        entry: the part of the file that has them; None: what fits is looked for.
        prefix: what their names begin with; it is removed, and other names are left out.
        rename: patterns as of `re.sub` and their replacements, applied in this order.
        match: by name, or by their order in file and network.
        ignore: names to leave out, with wildcards.
    """

    entry: str | None = None
    prefix: str = ""
    rename: tuple[tuple[str, str], ...] = ()
    match: Literal["name", "order"] = "name"
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """Our name -> tensor of the file, of all tensors but counters of batches."""

    tensors: dict[str, StoredTensor]
    notes: list[str]
    conversion: Match | None = None  # timm's function makes the tensors of this one

    def read(self, network: Network, path: Path) -> dict[str, Tensor]:
        """Read the values; ValueError where they are damaged or not finite.

        Args:
            network: the network that they are for.
            path: the file.
        """
        match = self.conversion
        if match is None:
            return read_tensors(self.tensors, path)
        assert isinstance(network.spec, Timm)
        renamed = network.spec.renamed(read_tensors(match.inside(), path), network)
        return {ours: renamed[name] for ours, name in match.names.items() if name in renamed}


def assign(network: Network, file: WeightFile, options: WeightOptions) -> Assignment:
    """Find the tensors of a network in a file.

    Args:
        network: the network; its weights may be on the meta device.
        file: the names and shapes in the file.
        options: which tensors are taken.

    Raises:
        InvalidOption: an option does not fit the file.
        ValueError: the file does not fit the network.
    """
    state = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    floating = frozenset(name for name, value in state.items() if value.is_floating_point())
    expected = Expected(shapes, dialects(network.spec, shapes), floating)
    parts = file_parts(file, options.entry, options.prefix, options.rename, set(shapes))
    others = left_out_notes(file.left_out)
    try:
        if options.match == "order":
            assignment = _by_order(expected, parts, options)
        else:
            assignment = _by_name(expected, parts, network, options)
    except InvalidOption:
        raise
    except ValueError as error:
        raise ValueError("\n  ".join([str(error), *others])) from error
    return Assignment(assignment.tensors, [*assignment.notes, *others], assignment.conversion)


def _by_name(
    expected: Expected, parts: list[Part], network: Network, options: WeightOptions
) -> Assignment:
    prefixes = not options.prefix
    compared = [match for part in parts for match in matches(expected, part, prefixes)]
    best, others = best_match([without_ignored(match, options.ignore) for match in compared])
    if not best.fits and isinstance(network.spec, Timm):
        candidates = _conversions(expected, compared, network, network.spec)
        candidates = [without_ignored(match, options.ignore) for match in candidates]
        best, others = best_match([best, *candidates])
    _check_ignored(options.ignore, best)
    if not best.fits:
        raise ValueError(mismatch_text(expected, best, network.spec.name))
    rivals = [match for match in others if rank(match.place) == rank(best.place)]
    if rivals and best.place:
        choices = "; ".join(place_options(match) for match in [best, *rivals])
        raise ValueError(f"holds several networks that fit: choose with {choices}")
    originals = {name: best.part.tensors.get(best.prefix + name) for name in best.tensors}
    tensors = {
        ours: stored
        for ours, theirs in best.names.items()
        if (stored := originals.get(theirs)) is not None
    }
    notes = match_notes(best, others, len(parts), network.spec, options.entry or "")
    return Assignment(tensors, notes, best if best.converted else None)


def _by_order(expected: Expected, parts: list[Part], options: WeightOptions) -> Assignment:
    """Take tensors in their order; InvalidOption states the first that differs."""
    fitting: list[tuple[Part, Names]] = []
    problems: list[tuple[Part, str]] = []
    for part in sorted(parts, key=lambda part: rank(part.entry)):
        left = part.without(options.ignore)
        names, difference = in_order(expected, left)
        if names:
            fitting.append((left, names))
        else:
            problems.append((left, difference))
    if not fitting:
        # An optimizer has tensors of the network's shapes too, but few in each of its dicts.
        part, difference = min(
            problems,
            key=lambda problem: (
                -common_shapes(expected, problem[0].tensors.values()),
                rank(problem[0].entry),
                -len(problem[0].tensors),
            ),
        )
        place = f"{part.entry}: " if part.entry else ""
        raise InvalidOption(
            "match",
            f"cannot be matched by order: {place}{difference}; leave out what the network lacks "
            "with `ignore`, `prefix` or `entry`",
        )
    (best, names), *others = fitting
    rivals = [part for part, _ in others if rank(part.entry) == rank(best.entry)]
    named = options.entry or ""
    if rivals and all(part.entry != named for part in [best, *rivals]):
        choices = "; ".join(f"`entry: {part.entry}`" for part in [best, *rivals])
        raise ValueError(f"holds several networks that fit: choose with {choices}")
    for part, names_of_part in fitting:
        if part.entry == named and rank(part.entry) == rank(best.entry):
            best, names = part, names_of_part
    tensors = {ours: best.tensors[theirs] for ours, theirs in names.items()}
    rest = [part.entry for part, _ in fitting if part is not best]
    return Assignment(tensors, order_notes(best, names, rest))


def _conversions(
    expected: Expected, compared: list[Match], network: Network, spec: Timm
) -> list[Match]:
    """Compare the tensors as timm's own function converts them, of CLIP or DINOv2 for example.

    The function gets tensors without values, and those with values where it needs them.
    """
    candidates: list[Match] = []
    faults: list[ValueError] = []
    for match in {(id(match.part), match.prefix): match for match in compared}.values():
        inside = match.inside()
        for tensors in (
            lambda inside=inside: {name: item.outline() for name, item in inside.items()},
            lambda inside=inside: {name: item.read() for name, item in inside.items()},
        ):
            try:
                renamed: dict[str, Any] = spec.renamed(tensors(), network)
            except ValueError as error:
                faults.append(error)
                break
            if renamed.keys() == inside.keys():
                continue
            candidates.append(compare(expected, match.part, match.prefix, "timm", renamed))
            break
    if faults and not any(match.fits for match in [*compared, *candidates]):
        raise faults[0]
    return candidates


def _check_ignored(patterns: tuple[str, ...], match: Match) -> None:
    """Raise InvalidOption for a pattern that matches no name."""
    originals = match.part.originals
    names = [*originals, *originals.values(), *match.tensors, *match.ignored]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = did_you_mean(pattern, set(names))
            raise InvalidOption("ignore", f"has no name that `ignore: {pattern}` matches{hint}")
