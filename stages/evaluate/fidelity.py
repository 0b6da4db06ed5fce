"""Transfer fidelity: how often the target says of an unseen image what the deep network's clusters say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.artifacts import Model, PseudoLabels, Scores
from transfer.datasets.split_roles import within
from transfer.errors import BadOption, Damaged, TransferError
from transfer.stage.base import Images as Reads
from transfer.stage.base import Stage, reads
from transfer.stage.label_joining import joined
from transfer.training.inference import outputs
from transfer.utils.lazy_imports import np, safetensors, torch

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images
    from transfer.pipeline.plan import Planned
    from transfer.stage.context import Work

PROTOCOL = "fidelity/v1"


class Fidelity(Stage):
    """The share of unseen images that the target's own head puts into the cluster that their deep features fall into.

    `unseen` is an `assign` of other images' features by the same centroids. A cluster that none of the target's own
    images fell into has no output in its head: those images count as wrong.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    seeded = False
    images = {"images": Reads("test", follow="unseen")}

    target: str = reads(Model, "the network that learned the pseudo-labels")
    labels: str = reads(PseudoLabels, "what it learned")
    unseen: str = reads(
        PseudoLabels, "pseudo-labels of images that it did not see, by the same centroids"
    )

    def check(self, planned: Planned) -> None:
        """The target learned these labels, and both labellings are by the same centroids."""
        target, labels, unseen = (planned.inputs[name] for name in ("target", "labels", "unseen"))
        taught, ours, theirs = (
            target.inputs.get("labels"),
            labels.inputs.get("clusters"),
            unseen.inputs.get("clusters"),
        )
        if taught is None or taught.key != labels.key:
            raise BadOption("target", f"'{target.name}' did not learn '{labels.name}'")
        if ours is None or theirs is None or ours.key != theirs.key:
            raise BadOption(
                "unseen", f"'{unseen.name}' are not of the centroids that '{labels.name}' are of"
            )
        asked, *learned = (
            pack.stage for pack in (planned.images["images"], *target.images.values())
        )
        same = [one.split for one in learned if one.origin.place == asked.origin.place]
        if any(within(asked.split, split) or within(split, asked.split) for split in same):
            raise BadOption(
                "unseen",
                f"'{target.name}' was trained on images of '{unseen.name}', or of the same split",
            )

    def run(self, work: Work) -> None:
        target, labels, unseen, images = (
            *(work.inputs[n] for n in ("target", "labels", "unseen")),
            work.images["images"],
        )
        wanted = joined(unseen, images, work)
        rows = np.flatnonzero(wanted >= 0)
        said = labels.cluster_ids[predicted(target, images, work)]
        right = 100.0 * (said[rows] == unseen.cluster_ids[wanted[rows]])
        new = float(
            100.0
            * np.isin(unseen.cluster_ids[wanted[rows]], labels.cluster_ids, invert=True).mean()
        )
        figures = {
            "fidelity": float(right.mean()),
            "chance": 100.0 / labels.count,
            "never learned": new,
        }
        Scores.write(
            work.folder,
            protocol=PROTOCOL,
            settings={"k": labels.count},
            selected={},
            main="fidelity",
            figures=figures,
            outcomes={"fidelity": right},
            counts={"unseen": len(rows)},
        )
        work.figures.update({name: round(value, 2) for name, value in figures.items()})


def predicted(target: Model, images: Images, work: Work) -> numpy.ndarray:
    """(N,) int64: the label that the target's head gives each image; the head was kept beside the network."""
    path = target.folder / "head.safetensors"
    if not path.exists():
        raise TransferError(
            "the target has no head: it was made otherwise than by learning pseudo-labels"
        )
    try:
        head = safetensors.load_file(path)
        weight, bias = (head[name].to(work.machine.device) for name in ("weight", "bias"))
    except Exception as error:  # of the library's own type, or a missing name
        raise Damaged(target.folder, f"head.safetensors cannot be loaded ({error})") from error
    last, found = list(target.layers)[-1], []
    with (
        work.progress("asking the target", len(images), "images") as progress,
        torch.inference_mode(),
    ):
        for _, seen in outputs(target, images, [last], work.machine):
            found.append((seen[last].flatten(1).float() @ weight.T + bias).argmax(1).cpu().numpy())
            progress.advance(len(found[-1]))
            work.pause_point()
    return np.concatenate(found)
