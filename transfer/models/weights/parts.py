"""The parts of a file of weights under the names that are matched with a network."""

from __future__ import annotations

import re
from collections.abc import Iterable

from transfer.errors import InvalidOption, did_you_mean
from transfer.models.weights.contents import entry_of, state_dicts
from transfer.models.weights.dialects import unwrapped
from transfer.models.weights.files import WeightFile
from transfer.models.weights.match import Part
from transfer.models.weights.stored_tensor import StoredTensor

Rename = tuple[tuple[str, str], ...]


def file_parts(
    file: WeightFile, entry: str | None, prefix: str, rename: Rename, known: Iterable[str]
) -> list[Part]:
    """Return the dicts of tensors in a file, as the options select and rename them.

    Args:
        file: the names and shapes in the file.
        entry: the entry to take; None: all.
        prefix: what the names begin with; it is removed, and other names are left out.
        rename: patterns and replacements.
        known: the names of the network, whose words are no wrappers.

    Raises:
        InvalidOption: an option matches nothing.
        ValueError: there are no tensors.
    """
    all_entries = [name for name, _ in state_dicts(file.content)]
    content = entry_of(file.content, entry or "")
    if content is None:
        names = [name for name in all_entries if name]
        raise InvalidOption("entry", f"has no entry '{entry}'{did_you_mean(entry or '', names)}")
    by_entry = {".".join(filter(None, [entry, name])): part for name, part in state_dicts(content)}
    if not by_entry:
        names = [*file.left_out.calls, *file.left_out.classes]
        objects = f", but objects of {', '.join(names[:3])}" if names else ""
        raise ValueError(
            f"holds no tensors by name{objects}: weights are a state dict, as "
            "`torch.save(model.state_dict(), FILE)` writes"
        )
    if prefix:
        by_entry = _with_prefix(by_entry, prefix)
    changed: set[str] = set()
    parts = [_renamed(name, tensors, prefix, rename, changed) for name, tensors in by_entry.items()]
    for pattern, _ in rename:
        if pattern not in changed:
            raise InvalidOption("rename", f"has no name that `rename: {pattern}` matches")
    return [_unwrapped(part, known) for part in parts]


def _with_prefix(
    by_entry: dict[str, dict[str, StoredTensor]], prefix: str
) -> dict[str, dict[str, StoredTensor]]:
    selected = {
        entry: {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix) and name != prefix
        }
        for entry, tensors in by_entry.items()
    }
    selected = {entry: tensors for entry, tensors in selected.items() if tensors}
    if selected and all(name.startswith(".") for part in selected.values() for name in part):
        raise InvalidOption("prefix", f"ends before its dot: set `prefix: {prefix}.`")
    if not selected:
        prefixes = {
            name[: position + 1]
            for tensors in by_entry.values()
            for name in tensors
            for position, letter in enumerate(name)
            if letter == "."
        }
        hint = did_you_mean(prefix, prefixes)
        raise InvalidOption("prefix", f"has no name that begins with '{prefix}'{hint}")
    return selected


def _renamed(
    entry: str, tensors: dict[str, StoredTensor], prefix: str, rename: Rename, changed: set[str]
) -> Part:
    """Return a part with its names replaced; `changed` gets the patterns that matched."""
    renamed: dict[str, StoredTensor] = {}
    originals: dict[str, str] = {}
    for original, tensor in tensors.items():
        name = original
        for pattern, replacement in rename:
            try:
                name, count = re.subn(pattern, replacement, name)
            except (re.error, IndexError) as error:
                problem = f"replacement '{replacement}' of `{pattern}`: {error}"
                raise InvalidOption("rename", problem) from error
            if count:
                changed.add(pattern)
        if name in renamed:
            raise InvalidOption("rename", f"gives two tensors the name {name}")
        renamed[name], originals[name] = tensor, prefix + original
    return Part(entry, renamed, originals, prefix)


def _unwrapped(part: Part, known: Iterable[str]) -> Part:
    plain = unwrapped(part.tensors, known)
    return Part(
        part.entry,
        {plain[name]: tensor for name, tensor in part.tensors.items()},
        {plain[name]: original for name, original in part.originals.items()},
        part.prefix,
    )
