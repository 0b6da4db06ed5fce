"""Images that could not be packed: an error, or a note where they are to be skipped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transfer.errors import TransferError
from transfer.utils.formatting import fault_list

if TYPE_CHECKING:
    from transfer.datasets.spec import ImageSpec
    from transfer.stage.context import StageContext


def check_bad_images(
    context: StageContext, spec: ImageSpec, faults: Sequence[str], count: int
) -> None:
    """Raise TransferError for bad images, or note them if they are to be skipped.

    Args:
        context: of the stage that packs them.
        spec: the set, with `on_bad_image`.
        faults: an image and what is wrong with it, each.
        count: number of all images.
    """
    if faults and spec.on_bad_image == "refuse":
        raise TransferError(
            f"{len(faults)} of {count} images of {spec.location} cannot be used:"
            f"{fault_list(faults)}\nRepair or remove them, or set `on_bad_image: skip` for this "
            "set, then run the same command again."
        )
    if len(faults) == count:
        raise TransferError(
            f"none of the {count} images of {spec.location} can be used:{fault_list(faults)}"
        )
    if faults:
        context.note(f"{len(faults)} of {count} images were skipped:{fault_list(faults)}")
        context.figures["skipped"] = len(faults)
