"""What a pipeline file expects its scores to be, over seeds and processors, beside what a run came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from transfer.artifacts import Scores
from transfer.errors import Damaged
from transfer.manifest import Manifest
from transfer.plan import Planned
from transfer.states import find
from transfer.store import Store


@dataclass(frozen=True)
class Expectation:
    """The range that the main figure of a stage is expected in, and the figure, both in percent."""

    name: str  # of the stage, whatever its member
    label: str
    low: float
    high: float
    value: float | None = None  # None where the stage is not made

    @property
    def span(self) -> str:
        return f"{self.low:g} to {self.high:g} %"

    @property
    def inside(self) -> bool | None:
        """Whether the figure, as a person reads it, lies in the range; None where there is none."""
        return None if self.value is None else self.low <= round(self.value, 1) <= self.high

    @property
    def verdict(self) -> str:
        """Such as `expected 91 to 98 %: this run is inside`."""
        if self.inside is None:
            return f"expected {self.span}"
        return f"expected {self.span}: this run is {'inside' if self.inside else 'outside'}"


def expectation(store: Store, one: Planned) -> Expectation | None:
    """What is expected of a stage, and what it came to; None where its file expects nothing."""
    if one.expected is None:
        return None
    manifest = find(store, one)
    value = None if manifest is None else _main(store, one, manifest)
    return Expectation(one.name, one.label, *one.expected, value)


def sentences(store: Store, stages: Iterable[Planned]) -> list[str]:
    """A line for each stage that is made and of which something is expected; members share one."""
    groups: dict[tuple[str, str], list[Expectation]] = {}
    for one in stages:
        found = expectation(store, one)
        if found is not None and found.value is not None:
            groups.setdefault((found.name, found.span), []).append(found)
    return [_sentence(group) for group in groups.values()]


def _sentence(group: list[Expectation]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{first.verdict} ({first.label}: {first.value:.1f} %)"
    inside = sum(bool(each.inside) for each in group)
    verb = "is" if inside == 1 else "are"
    return f"expected {first.span}: {inside} of {len(group)} runs {verb} inside ({first.name})"


def _main(store: Store, one: Planned, manifest: Manifest) -> float | None:
    """The main figure of finished scores; None where they are damaged, which others say."""
    try:
        folder = store.folder(one.uses, one.key)
        own = {name: facts for name, facts in manifest.files.items() if name == "scores.json"}
        store.check(folder, replace(manifest, files=own))
        card = Scores(folder).card
        return float(card["figures"][card["main"]])
    except (Damaged, KeyError, TypeError, ValueError):
        return None
