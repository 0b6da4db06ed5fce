"""Transfer fidelity: agreement of the target with the deep network's clusters on unseen images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stages.evaluate._figure_text import percents
from transfer.artifacts import Model, PseudoLabels, Scores
from transfer.datasets.split_roles import within
from transfer.errors import CorruptArtifact, InvalidOption, TransferError
from transfer.stage.base import Stage
from transfer.stage.image_input import ImageInput
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
    """The share of unseen images that the target's own head puts into their true cluster.

    The true cluster of an image is the one that its deep features fall into: `unseen` is an
    `assign` of the features of other images by the same centroids. A cluster without images of the
    target's training has no output in its head, so its images count as wrong.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    seeded = False
    images = {"images": ImageInput("test", same_as="unseen")}

    target: str = stage_input(Model, "the network that learned the pseudo-labels")
    labels: str = stage_input(PseudoLabels, "the pseudo-labels that it learned")
    unseen: str = stage_input(
        PseudoLabels, "pseudo-labels of images that it did not see, by the same centroids"
    )

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the target learned the labels, and not from the unseen images.

        Both labelings must be by the same centroids.
        """
        target, labels, unseen = (planned.inputs[name] for name in ("target", "labels", "unseen"))
        learned = target.inputs.get("labels")
        if learned is None or learned.key != labels.key:
            raise InvalidOption("target", f"'{target.name}' did not learn '{labels.name}'")
        centroids, unseen_centroids = labels.inputs.get("clusters"), unseen.inputs.get("clusters")
        if centroids is None or unseen_centroids is None or centroids.key != unseen_centroids.key:
            raise InvalidOption(
                "unseen", f"'{unseen.name}' and '{labels.name}' are not of the same centroids"
            )
        scored = planned.images["images"].stage
        training_packs = [pack.stage for pack in target.images.values()]
        splits = [pack.split for pack in training_packs if pack.set_name == scored.set_name]
        if any(within(scored.split, split) or within(split, scored.split) for split in splits):
            raise InvalidOption(
                "unseen",
                f"'{target.name}' was trained on images of '{unseen.name}', or of the same split; "
                "choose another split",
            )

    def run(self, context: StageContext) -> None:
        """Compare the clusters that the target predicts with those of the deep features."""
        target, labels, unseen = (context.inputs[name] for name in ("target", "labels", "unseen"))
        images = context.images["images"]
        assigned = labels_for_images(unseen, images, context)
        rows = np.flatnonzero(assigned >= 0)
        true = unseen.cluster_ids[assigned[rows]]
        predicted = labels.cluster_ids[predict(target, images, context)][rows]
        agreement = 100.0 * (predicted == true)
        never_learned = 100.0 * np.isin(true, labels.cluster_ids, invert=True).mean()
        figures = {
            "fidelity": float(agreement.mean()),
            "chance": 100.0 / labels.count,
            "never learned": float(never_learned),
        }
        Scores.write(
            context.folder,
            protocol=PROTOCOL,
            settings={"k": labels.count},
            selected={},
            main="fidelity",
            figures=figures,
            outcomes={"fidelity": agreement},
            counts={"unseen": len(rows)},
        )
        context.figures.update(percents(figures))


def predict(target: Model, images: Images, context: StageContext) -> numpy.ndarray:
    """Return (N,) int64: the pseudo-label that the target's head predicts for each image.

    Args:
        target: a network that was trained on pseudo-labels; its head is a file beside it.
        images: N images.
        context: the stage that runs.

    Raises:
        TransferError: the target has no head.
        CorruptArtifact: the head cannot be loaded.
    """
    path = target.folder / "head.safetensors"
    if not path.exists():
        raise TransferError(
            "the target has no head; choose a network that was trained on pseudo-labels"
        )
    try:
        head = safetensors.load_file(path)
        weight, bias = (head[name].to(context.runtime.device) for name in ("weight", "bias"))
    except Exception as error:  # the library has its own type; a missing name is a KeyError
        raise CorruptArtifact(
            target.folder, f"head.safetensors cannot be loaded ({error})"
        ) from error
    last, blocks = list(target.layers)[-1], []
    with (
        context.progress("predicting", len(images), "images") as progress,
        torch.inference_mode(),
    ):
        for _, activations in extract_layers(target, images, [last], context.runtime):
            logits = activations[last].flatten(1).float() @ weight.T + bias
            blocks.append(logits.argmax(1).cpu().numpy())
            progress.advance(len(blocks[-1]))
            context.pause_point()
    return np.concatenate(blocks)
