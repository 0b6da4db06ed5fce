"""A file's tensors beside those of a network: what agrees, what is missing, what is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from transfer.models.weights.dialects import Names, rank
from transfer.models.weights.stored_tensor import StoredTensor

# Tensors of batch norms that older files lack, and that nothing here reads.
COUNTER = "num_batches_tracked"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Expected:
    """The tensors of a network: their shapes, and their names in each dialect."""

    shapes: dict[str, Shape]
    dialects: dict[str, Names]
    floating: frozenset[str]  # tensors of floating-point numbers

    @property
    def count(self) -> int:
        """The number of tensors, without counters of batches."""
        return sum(not is_counter(name) for name in self.shapes)


@dataclass(frozen=True)
class Part:
    """A dict of tensors in a file, under names to match."""

    entry: str
    tensors: dict[str, StoredTensor]  # name to match -> tensor
    originals: Names  # name to match -> name in the file
    prefix: str = ""  # that was removed at the user's wish

    def without(self, patterns: Iterable[str]) -> Part:
        """Return the part without the names that patterns match."""
        patterns = list(patterns)
        kept = {
            name: tensor
            for name, tensor in self.tensors.items()
            if not is_ignored(name, patterns) and not is_ignored(self.originals[name], patterns)
        }
        return replace(self, tensors=kept)


@dataclass(frozen=True)
class Match:
    """A part of a file compared with a network under one prefix and one dialect."""

    part: Part
    prefix: str
    dialect: str
    names: Names  # our name -> the name to match, without prefix
    tensors: Mapping[str, Any]  # name without prefix -> tensor
    misshapen: list[str]  # our names
    missing: list[str]  # names to match
    unexpected: list[str]
    heads: list[str]  # unexpected, and of no use for features
    converted: bool = False  # timm's own function has changed the names
    elsewhere: list[str] = field(default_factory=list[str])  # names outside of the prefix
    ignored: list[str] = field(default_factory=list[str])  # at the user's wish

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network is there."""
        return not (self.missing or self.misshapen)

    @property
    def fits(self) -> bool:
        """Whether the file has what the network has, and nothing else that may matter."""
        return self.complete and not self.unexpected

    @property
    def hits(self) -> int:
        """The number of names that agree, without counters of batches."""
        return sum(name in self.tensors for name in self.names.values() if not is_counter(name))

    @property
    def place(self) -> str:
        """The entry and prefix, as in `state_dict.encoder_q`."""
        return ".".join(filter(None, [self.part.entry, self.part.prefix, self.prefix]))

    @property
    def original_prefix(self) -> str:
        """The prefix as the file has it, with the words of wrappers."""
        for name in self.tensors:
            original = self.part.originals.get(self.prefix + name, "")
            if original.endswith(name):
                return original.removesuffix(name)
        return self.prefix

    def inside(self) -> dict[str, StoredTensor]:
        """Return the tensors of the file under the prefix, without it."""
        return {
            name.removeprefix(self.prefix): tensor
            for name, tensor in self.part.tensors.items()
            if name.startswith(self.prefix)
        }

    def order(self) -> tuple[Any, ...]:
        """Return what sorts matches from the best to the worst."""
        inside = bool(self.place) if self.fits else False
        return not self.fits, not self.complete, -self.hits, rank(self.place), inside


def is_counter(name: str) -> bool:
    """Whether a tensor counts the batches of a batch norm."""
    return name.rpartition(".")[2] == COUNTER


def agrees(expected: Expected, name: str, tensor: Any) -> bool:
    """Whether a tensor has the shape and the kind of numbers of the network's tensor `name`."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    floating = dtype.startswith(("float", "bfloat"))
    return tuple(tensor.shape) == expected.shapes[name] and (
        floating or name not in expected.floating
    )


def common_shapes(expected: Expected, tensors: Iterable[Any]) -> int:
    """Return how many tensors of a network have a tensor of their shape, each its own."""
    needed = Counter(shape for name, shape in expected.shapes.items() if not is_counter(name))
    return (Counter(tuple(tensor.shape) for tensor in tensors) & needed).total()


def known_order(names: Names) -> list[str]:
    """Return the names to look for, without counters, which older files lack."""
    return [name for name in names.values() if not is_counter(name)]


def is_ignored(name: str, patterns: list[str]) -> bool:
    """Whether a name matches one of the patterns of `ignore`."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
