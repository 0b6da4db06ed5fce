"""Files of a set that are not taken, counted by reason, for the plan, the log and `show`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from transfer.datasets.readers.picture_suffixes import unread_reason
from transfer.errors import UsageError
from transfer.utils.formatting import counted, fault_list, plural

BROKEN_LINK = "broken link"
NO_RIGHTS = "file without rights"
MISSING = "missing file"
UNREADABLE = "unreadable file"
INVALID_NAME = "invalid name"
SKIP_REMEDY = "Repair or remove them, or set `on_bad_image: skip` for this set."
LISTED_REMEDY = "Add them, or remove them from the list, or set `on_bad_image: skip` for this set."
NO_SUFFIX = "file without a suffix"
TEXT_FILE = "text file"
# Files beside pictures that describe them: counted in a word, since no picture is lost.
TEXT_SUFFIXES = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".ini"),
        *(".md", ".rst", ".log", ".html", ".htm", ".cfg", ".aae", ".xmp", ".url"),
    )
)
EXPECTED = (
    TEXT_FILE,
    *("hidden file", "hidden folder", "system file", "system folder"),
    *("unselected class folder", "unselected image"),
)
SUFFIX = re.compile(r"\.[\w+-]{1,10}")
SHOWN_REASONS = 8
SHOWN_CLASSES = 5
SHOWN_LENGTH = 60  # characters of a name

Entry = tuple[str, str]  # the name of a file, and the reason why it is not taken


def suffix_reason(name: str) -> str:
    """Return the reason of a file whose suffix is not that of a supported image format."""
    base = name.rpartition("/")[2].rstrip(" .")
    stem, dot, suffix = base.rpartition(".")
    suffix = dot + suffix.lower()
    if not stem or not SUFFIX.fullmatch(suffix):
        return NO_SUFFIX
    return TEXT_FILE if suffix in TEXT_SUFFIXES else suffix


@dataclass
class LeftOut:
    """The files of a split that are not taken.

    `counts` maps each reason to a number of files. `examples` names a file of each fault.
    `lost_classes` are the classes of which no image is taken.
    """

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    lost_classes: list[str] = field(default_factory=list)

    @staticmethod
    def of(entries: Iterable[Entry]) -> LeftOut:
        """Return the counts of some files."""
        left_out = LeftOut()
        for name, reason in entries:
            left_out.add(reason, name)
        return left_out

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count files.

        Args:
            reason: a suffix, or a noun in the singular.
            example: the name of a file.
            count: number of files.
        """
        self.counts[reason] = self.counts.get(reason, 0) + count
        if example and not _is_suffix(reason) and reason not in EXPECTED:
            self.examples.setdefault(reason, shown_name(example))

    def update(self, other: LeftOut) -> None:
        """Add the counts of another part of the split."""
        for reason, count in other.counts.items():
            self.add(reason, count=count)
        self.examples = {**other.examples, **self.examples}

    @property
    def reasons(self) -> str:
        """The counts in a line: `20 .heic, 4 .tif (not read), 1 broken link (gone.jpg)`."""
        hints = [unread_reason(f"x{reason}") for reason in self.counts if _is_suffix(reason)]
        install = next((f"; {hint}" for hint in sorted(hints) if "pip install" in hint), "")
        return ", ".join(self._parts(f" (not read{install})"))

    @property
    def contents(self) -> str:
        """The counts in a line, as what a folder holds: `20 .heic, 4 .tif, 1 broken link`."""
        return ", ".join(self._parts(""))

    def _parts(self, not_read: str) -> list[str]:
        ordered = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        suffixes = [counted(count, reason) for reason, count in ordered if _is_suffix(reason)]
        faults = [
            counted(count, reason) + self._example(reason)
            for reason, count in ordered
            if not _is_suffix(reason) and reason not in EXPECTED
        ]
        others = [counted(count, reason) for reason, count in ordered if reason in EXPECTED]
        kinds = _shortened(suffixes, SHOWN_REASONS, "more kind")
        kinds = [f"{', '.join(kinds)}{not_read}"] if kinds else []
        return [*kinds, *_shortened(faults, SHOWN_REASONS, "more reason"), *others]

    def _example(self, reason: str) -> str:
        return f" ({self.examples[reason]})" if self.examples.get(reason) else ""

    @property
    def text(self) -> str:
        """A note for the user; empty where all is taken."""
        parts = [f"left out: {self.reasons}"] if self.counts else []
        if self.lost_classes:
            names = ", ".join(_shortened(self.lost_classes, SHOWN_CLASSES, "more", ""))
            noun = "class" if len(self.lost_classes) == 1 else "classes"
            parts.append(f"no images of the {noun} {names}")
        return "; ".join(parts)


def lost_classes(entries: Mapping[str, Iterable[Entry]], kept: Iterable[str]) -> list[str]:
    """Return the classes of which nothing is taken, each with what its folder holds.

    Args:
        entries: class -> its files that are not taken.
        kept: the classes of the images that are taken.
    """
    lost = sorted(entries.keys() - set(kept))
    return [
        f"{shown_name(name)} ({LeftOut.of(entries[name]).contents or 'empty'})" for name in lost
    ]


def refuse_faults(subject: object, noun: str, faults: list[str], problem: str) -> None:
    """Raise UsageError with the remedies where there are faults.

    Args:
        subject: the set or its file.
        noun: what is counted, as in "file".
        faults: a line for each file.
        problem: what is wrong with them.
    """
    if faults:
        count = plural(len(faults), noun)
        raise UsageError(f"{subject}: {count} {problem}:{fault_list(faults)}\n{SKIP_REMEDY}")


def shown_name(name: str) -> str:
    """Return a name that fits into a line."""
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= SHOWN_LENGTH else f"...{name[3 - SHOWN_LENGTH :]}"


def _is_suffix(reason: str) -> bool:
    return reason.startswith(".") or reason == NO_SUFFIX


def _shortened(texts: list[str], limit: int, noun: str, plural_noun: str = "s") -> list[str]:
    more = len(texts) - limit
    if more <= 0:
        return texts
    return [*texts[:limit], plural(more, noun, f"{noun}{plural_noun}")]
