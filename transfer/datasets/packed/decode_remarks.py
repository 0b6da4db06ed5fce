"""Remarks on decoded pictures, which packing counts, and the notes that it makes of the counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from transfer.utils.formatting import plural
from transfer.utils.lazy_imports import np

if TYPE_CHECKING:
    from PIL.Image import Image

    from transfer.datasets.packed.deep_values import DeepValues

PAGED = "several pages"
RANGED = "in value_range"
CLIPPED = "outside of value_range"
BITS = "bits "  # of the highest value of a 16-bit picture: "bits 12"
USUAL_DEPTHS = (8, 10, 12, 14)  # of cameras and scanners that store 16-bit values


def deep_remarks(deep: DeepValues, value_range: tuple[float, float] | None) -> tuple[str, ...]:
    """Return the remarks on a picture of more than 8 bits."""
    if value_range is not None:
        return (RANGED, CLIPPED) if deep.exceeds(value_range) else (RANGED,)
    seen = deep.values if deep.alpha is None else deep.values[deep.alpha > 0]
    if deep.white != 65535 or deep.is_inverted or not seen.size:
        return ()
    return (f"{BITS}{int(seen.max()).bit_length()}",)


def upper_byte_remarks(image: Image) -> tuple[str, ...]:
    """Return the remarks on a picture of 16-bit colors, of which the upper bytes were kept."""
    colors = {"RGB": 3, "RGBA": 3, "LA": 1}.get(image.mode)
    if not colors:
        return ()
    extrema = np.array([image.getchannel(band).getextrema() for band in range(colors)])
    return (f"{BITS}{8 + int(extrema.max()).bit_length()}",)


def decode_notes(counts: Mapping[str, int], value_range: tuple[float, float] | None) -> list[str]:
    """Return notes on a set.

    Args:
        counts: remark -> number of images.
        value_range: of the set.
    """
    notes = []
    if note := _depth_note(counts):
        notes.append(note)
    if value_range is not None:
        text = f"`value_range: [{value_range[0]:g}, {value_range[1]:g}]`"
        if not counts.get(RANGED):
            notes.append(f"{text} has no effect: no image has more than 8 bits")
        elif clipped := counts.get(CLIPPED):
            of = f"{clipped:,} of {plural(counts[RANGED], 'image')} of more than 8 bits"
            notes.append(f"{of} have values outside of {text}; these became black or white")
    if paged := counts.get(PAGED):
        notes.append(f"{plural(paged, 'TIFF')} with several pages: only the first was packed")
    return notes


def _depth_note(counts: Mapping[str, int]) -> str:
    """Return a note where at least half of the 16-bit pictures use 14 bits or fewer."""
    depths = {
        int(remark.removeprefix(BITS)): count
        for remark, count in counts.items()
        if remark.startswith(BITS)
    }
    total = sum(depths.values())
    dark = {bits: count for bits, count in depths.items() if bits <= USUAL_DEPTHS[-1]}
    if not dark or 2 * sum(dark.values()) < total:
        return ""
    highest = (1 << next(depth for depth in USUAL_DEPTHS if depth >= max(dark))) - 1
    return (
        f"16-bit images use only the values 0..{highest} in {sum(dark.values()):,} of {total:,}, "
        f"which makes them dark; `value_range: [0, {highest}]` in `data:` makes {highest} white"
    )
