"""Transfer fidelity: how often the target says of an unseen image what the deep network's clusters say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.artifacts import Model, PseudoLabels, Scores
from transfer.datasets.split_roles import within
from transfer.errors import CorruptArtifact, InvalidOption, TransferError
from transfer.stage.base import ImageInput, Stage
from transfer.stage.label_joining import labels_for_images
from transfer.stage.options import stage_input
from transfer.training.inference import extract_layers
from transfer.utils.lazy_imports import np, safetensors, torch

if TYPE_CHECKING:
    import numpy

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "fidelity/v1"


class Fidelity(Stage):
    """The share of unseen images that the target's own head puts into the cluster that their deep features fall into.

    `unseen` is an `assign` of other images' features by the same centroids. A cluster that none of the target's own
    images fell into has no output in its head: those images count as wrong.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    seeded = False
    images = {"images": ImageInput("test", same_as="unseen")}

    target: str = stage_input(Model, "the network that learned the pseudo-labels")
    labels: str = stage_input(PseudoLabels, "what it learned")
    unseen: str = stage_input(
        PseudoLabels, "pseudo-labels of images that it did not see, by the same centroids"
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """The target learned these labels, and both labellings are by the same centroids."""
        target, labels, unseen = (planned.inputs[name] for name in ("target", "labels", "unseen"))
        taught, ours, theirs = (
            target.inputs.get("labels"),
            labels.inputs.get("clusters"),
            unseen.inputs.get("clusters"),
        )
        if taught is None or taught.key != labels.key:
            raise InvalidOption("target", f"'{target.name}' did not learn '{labels.name}'")
        if ours is None or theirs is None or ours.key != theirs.key:
            raise InvalidOption(
                "unseen", f"'{unseen.name}' are not of the centroids that '{labels.name}' are of"
            )
        asked, *learned = (
            pack.stage for pack in (planned.images["images"], *target.images.values())
        )
        same = [one.split for one in learned if one.set_name == asked.set_name]
        if any(within(asked.split, split) or within(split, asked.split) for split in same):
            raise InvalidOption(
                "unseen",
                f"'{target.name}' was trained on images of '{unseen.name}', or of the same split",
            )

    def run(self, context: StageContext) -> None:
        target, labels, unseen, images = (
            *(context.inputs[n] for n in ("target", "labels", "unseen")),
            context.images["images"],
        )
        wanted = labels_for_images(unseen, images, context)
        rows = np.flatnonzero(wanted >= 0)
        said = labels.cluster_ids[predict(target, images, context)]
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
            context.folder,
            protocol=PROTOCOL,
            settings={"k": labels.count},
            selected={},
            main="fidelity",
            figures=figures,
            outcomes={"fidelity": right},
            counts={"unseen": len(rows)},
        )
        context.figures.update({name: round(value, 2) for name, value in figures.items()})


def predict(target: Model, images: Images, context: StageContext) -> numpy.ndarray:
    """(N,) int64: the label that the target's head gives each image; the head was kept beside the network."""
    path = target.folder / "head.safetensors"
    if not path.exists():
        raise TransferError(
            "the target has no head: it was made otherwise than by learning pseudo-labels"
        )
    try:
        head = safetensors.load_file(path)
        weight, bias = (head[name].to(context.runtime.device) for name in ("weight", "bias"))
    except Exception as error:  # of the library's own type, or a missing name
        raise CorruptArtifact(
            target.folder, f"head.safetensors cannot be loaded ({error})"
        ) from error
    last, found = list(target.layers)[-1], []
    with (
        context.progress("asking the target", len(images), "images") as progress,
        torch.inference_mode(),
    ):
        for _, seen in extract_layers(target, images, [last], context.runtime):
            found.append((seen[last].flatten(1).float() @ weight.T + bias).argmax(1).cpu().numpy())
            progress.advance(len(found[-1]))
            context.pause_point()
    return np.concatenate(found)
