"""Figures of a protocol as the user sees them: percents with one decimal."""

from __future__ import annotations

from collections.abc import Mapping


def percent(value: float) -> str:
    """Return a figure in percent as text: `92.1 %`."""
    return f"{value:.1f} %"


def percents(figures: Mapping[str, float]) -> dict[str, str]:
    """Return each figure, in percent, as text."""
    return {name: percent(value) for name, value in figures.items()}


def chosen_layer(layer: str) -> str:
    """Return the name under which the figure of the selected layer is printed."""
    return f"chosen layer ({layer})"
