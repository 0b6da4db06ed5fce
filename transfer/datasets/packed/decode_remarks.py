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
# Bits of the highest value of a 16-bit picture, as "bits 12" -> what too few of them do to it, and
# what value_range does. A format whose colors take no value_range is named in FIXED.
BITS, INVERTED, FIXED = "bits ", "inverted bits ", "fixed bits "
EFFECTS = {
    BITS: ("dark", "`value_range: [0, {0}]` in `data:` makes {0} white"),
    INVERTED: ("light", "`value_range: [0, {0}]` in `data:` makes {0} black"),
    FIXED: (
        "dark",
        "`value_range: [0, {0}]` makes {0} white in PNG and TIFF: export them",
    ),
}
DARK_SHARE = 10  # a note is made where one picture of so many is dark
USUAL_DEPTHS = (8, 10, 12, 14)  # of cameras and scanners that store 16-bit values


def deep_remarks(deep: DeepValues, value_range: tuple[float, float] | None) -> tuple[str, ...]:
    """Return the remarks on a picture of more than 8 bits."""
    if value_range is not None:
        return (RANGED, CLIPPED) if deep.exceeds(value_range) else (RANGED,)
    seen = deep.values if deep.alpha is None else deep.values[deep.alpha > 0]
    if deep.white != 65535 or not seen.size:
        return ()
    return (f"{INVERTED if deep.is_inverted else BITS}{int(seen.max()).bit_length()}",)


def upper_byte_remarks(image: Image, takes_range: bool) -> tuple[str, ...]:
    """Return the remarks on a picture of 16-bit colors, of which the upper bytes were kept.

    `takes_range`: its format allows a `value_range`.
    """
    colors = {"RGB": 3, "RGBA": 3, "LA": 1}.get(image.mode)
    if not colors:
        return ()
    extrema = np.array([image.getchannel(band).getextrema() for band in range(colors)])
    highest = int(extrema.max())
    if takes_range:
        return (f"{BITS}{8 + highest.bit_length()}",)
    return (f"{FIXED}{max(0, 257 * highest - 128).bit_length()}",)  # of a PNM, it was rounded


def decode_notes(counts: Mapping[str, int], value_range: tuple[float, float] | None) -> list[str]:
    """Return notes on a set.

    Args:
        counts: remark -> number of images.
        value_range: of the set.
    """
    notes = [note for kind in EFFECTS if (note := _depth_note(counts, kind))]
    if value_range is not None:
        text = f"`value_range: [{value_range[0]:g}, {value_range[1]:g}]`"
        if not counts.get(RANGED):
            notes.append(f"{text} has no effect: no image has more than 8 bits")
        elif clipped := counts.get(CLIPPED):
            of = f"{clipped:,} of {plural(counts[RANGED], 'image')} of more than 8 bits"
            verb = "has" if clipped == 1 else "have"
            notes.append(f"{of} {verb} values outside of {text}; these became black or white")
    if paged := counts.get(PAGED):
        notes.append(f"{plural(paged, 'TIFF')} with several pages: only the first was packed")
    return notes


def _depth_note(counts: Mapping[str, int], kind: str) -> str:
    """Return a note where enough of the 16-bit pictures of a kind use 14 bits or fewer."""
    depths = {
        int(remark.removeprefix(kind)): count
        for remark, count in counts.items()
        if remark.startswith(kind)
    }
    total = sum(depths.values())
    dark = {bits: count for bits, count in depths.items() if bits <= USUAL_DEPTHS[-1]}
    count = sum(dark.values())
    if not dark or DARK_SHARE * count < total:
        return ""
    highest = (1 << next(depth for depth in USUAL_DEPTHS if depth >= max(dark))) - 1
    effect, remedy = EFFECTS[kind]
    if count < total:
        remedy = f"make them a set of their own, in which {remedy}"
    return (
        f"16-bit images use only the values 0..{highest} in {count:,} of {total:,}, "
        f"which makes them {effect}; {remedy.format(highest)}"
    )
