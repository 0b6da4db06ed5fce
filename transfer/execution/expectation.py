"""The range in which a pipeline file expects a score, and whether the score of a run is inside.

`expected: {linear: [91, 98]}` gives the range over seeds and processors, in percent. It is not part
of a key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from transfer.artifacts import Scores
from transfer.errors import CorruptArtifact
from transfer.execution.status import find_manifest
from transfer.stage.base import PlannedStage
from transfer.storage.manifest import Manifest
from transfer.storage.store import Store


@dataclass(frozen=True)
class Expectation:
    """The expected range of a stage's main figure, and the figure, both in percent."""

    name: str  # of the stage, whatever its member
    label: str
    low: float
    high: float
    value: float | None = None  # None where the stage is not made

    @property
    def span(self) -> str:
        """The range as text: `91 to 98 %`."""
        return f"{self.low:g} to {self.high:g} %"

    @property
    def inside(self) -> bool | None:
        """Whether the figure, rounded as it is shown, is in the range; None without a figure."""
        return None if self.value is None else self.low <= round(self.value, 1) <= self.high

    @property
    def verdict(self) -> str:
        """A phrase such as `expected 91 to 98 %: this run is inside`."""
        if self.inside is None:
            return f"expected {self.span}"
        return f"expected {self.span}: this run is {'inside' if self.inside else 'outside'}"


def expectation(store: Store, planned: PlannedStage[Any]) -> Expectation | None:
    """Return the expected range and the figure of a stage; None where its file expects nothing."""
    if planned.expected is None:
        return None
    manifest = find_manifest(store, planned)
    value = None if manifest is None else _main_figure(store, planned, manifest)
    low, high = planned.expected
    return Expectation(planned.name, planned.label, low, high, value)


def verdicts(store: Store, stages: Iterable[PlannedStage[Any]]) -> list[str]:
    """Return a line for each finished stage with a range; members of a matrix share one."""
    groups: dict[tuple[str, str], list[Expectation]] = {}
    for planned in stages:
        expected = expectation(store, planned)
        if expected is not None and expected.value is not None:
            groups.setdefault((expected.name, expected.span), []).append(expected)
    return [_verdict(group) for group in groups.values()]


def _verdict(group: list[Expectation]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{first.verdict} ({first.label}: {first.value:.1f} %)"
    inside = sum(bool(expected.inside) for expected in group)
    verb = "is" if inside == 1 else "are"
    return f"expected {first.span}: {inside} of {len(group)} runs {verb} inside ({first.name})"


def _main_figure(store: Store, planned: PlannedStage[Any], manifest: Manifest) -> float | None:
    """Return the main figure of finished scores; None where they are damaged."""
    try:
        folder = store.folder(planned.uses, planned.key)
        own = {name: facts for name, facts in manifest.files.items() if name == "scores.json"}
        store.check(folder, replace(manifest, files=own))
        card = Scores(folder).card
        return float(card.figures[card.main])
    except (CorruptArtifact, KeyError, TypeError, ValueError):
        return None
