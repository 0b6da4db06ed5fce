"""VOC segmentation: a fully convolutional network on the network's deepest map, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.evaluate._figure_text import percents
from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import (
    NO_MASK,
    check_annotated,
    check_planned_masks,
    classes_counted,
    load_annotations,
    square_of,
)
from transfer.artifacts import Model, Scores
from transfer.errors import TransferError
from transfer.numerics.average_precision import map_interval
from transfer.numerics.iou import VOID, confusion, intersections, mean_iou
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.inference import iter_batches
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

PROTOCOL = "voc_segmentation/fcn32s-v1"


class VocSegmentation(TrainableStage):
    """FCN-32s (Long et al. 2015; fine-tuned as by Zhang et al. 2016), all layers; mean IoU.

    The network is trained on `train_seg` and scored on `val_seg`. Borders (255) are not counted;
    the background is a class. A 1x1 convolution that starts at zero scores the deepest map, and
    the scores are upsampled bilinearly. The defaults are the published settings: 150,000 steps of
    20 images, which are 2,049 epochs of the 1,464 images of VOC 2012, at 1e-4; momentum 0.9, decay
    5e-4, not mirrored. The learning rate falls twice to a tenth: after each third, because the
    paper does not name the steps.

    Differences from the published protocol: images and masks are packed squares, and scored as
    such. No images of SBD are added. fc6 and fc7 are left off. The upsampling is fixed. Batch norms
    are fused into the convolutions and not trained.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    smoke = {"epochs": 1}
    images = {"train": ImageInput("train_seg"), "test": ImageInput("val_seg")}

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer whose map is scored; none: the deepest map")
    epochs: int = option(
        2049, "passes over the images (2049 of VOC 2012's are the published 150,000 steps)", ge=0
    )
    defaults: ClassVar[dict[str, Any]] = {
        "batch_size": 20,
        "optimizer": "sgd",
        "learning_rate": 1e-4,
        "schedule": "step",
        "milestones": [1 / 3, 2 / 3],
    }
    weight_decay: float = option(5e-4, "weight decay; biases have none", ge=0)
    flip: float = option(0.0, "share of images mirrored", ge=0, le=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the sets are annotated, and that the model has the layer."""
        check_annotated(planned)
        check_layers(planned, "layer", [self.layer])

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that every image has a mask."""
        check_planned_masks(planned)

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Check that the layer is a map."""
        from stages.evaluate._frozen_batchnorm import validate_map  # imports torch

        validate_map(planned, self.layer, pools=True)

    def run(self, context: StageContext) -> None:
        """Fine-tune the network, and compare its masks with those of the test images."""
        model = context.inputs["model"]
        images, test = context.images["train"], context.images["test"]
        names = ["background", *images.classes]
        masks, test_masks = (masks_in_squares(split, len(names)) for split in (images, test))
        trained, tested = (
            np.bincount(split.ravel(), minlength=VOID + 1)[: len(names)] > 0
            for split in (masks, test_masks)
        )
        if trained.sum() < 2:
            raise TransferError(
                "all training masks have one class; choose a set with at least two classes"
            )
        counted = classes_counted(context, names, trained, tested)
        network = self._network(context, model, images.size, len(names))
        targets = torch.from_numpy(masks).to(context.runtime.device)

        def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
            mirrored, target = rng.chance(self.flip)[:, None, None], targets[rng.ids]
            batch = torch.where(mirrored[:, None], batch.flip(-1), batch)
            target = torch.where(mirrored, target.flip(-1), target).long()
            logits = pixel_scores(network, normalize(batch, model.normalization))
            count = (target != VOID).sum().clamp(min=1)  # images may be all border
            accuracy = ((logits.argmax(1) == target) & (target != VOID)).sum() / count
            total = F.cross_entropy(logits, target, ignore_index=VOID, reduction="sum")
            return total / count, {"accuracy": accuracy}

        train(context, self, network, loss, images)
        matrices = self._confusions(context, network, model, test, test_masks, len(names))
        matrix = matrices.sum(axis=0)
        figures = {
            "mIoU": mean_iou(matrix),
            "pixels": 100 * float(np.trace(matrix) / matrix.sum()),
        }
        shares = intersections(matrix)
        class_figures = {
            f"IoU {names[label]}": float(100 * shares[label]) for label in counted.tolist()
        }
        flat = matrices.reshape(len(test), -1)

        def resampled(counts: numpy.ndarray) -> numpy.ndarray:
            return 100 * intersections((counts @ flat).reshape(matrix.shape))[counted]

        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="mIoU",
            figures=figures | class_figures,
            intervals={"mIoU": map_interval(resampled, len(test))},
            counts={"train": len(images), "test": len(test), "classes": len(counted)},
            arrays={"confusion": matrix},
        )
        context.figures.update(percents(figures))

    def _network(
        self, context: StageContext, model: Model, size: int, classes: int
    ) -> nn.ModuleDict:
        from stages.evaluate._frozen_batchnorm import (  # imports torch
            FrozenBatchNormNetwork,
            Trunk,
            init_normal,
            map_layer,
            with_fused_batchnorm,
        )

        backbone = with_fused_batchnorm(model)
        shapes = backbone.shapes(size)
        try:
            layer = map_layer(backbone.spec, shapes, self.layer, pools=True)
        except ValueError as error:
            raise TransferError(f"layer: {error}") from error
        head = init_normal(nn.Conv2d(shapes[layer][0], classes, 1), 0.0)
        trunk = Trunk(backbone, layer, context.runtime)
        return FrozenBatchNormNetwork({"trunk": trunk, "head": head})

    def _confusions(
        self,
        context: StageContext,
        network: nn.ModuleDict,
        model: Model,
        test: Images,
        masks: numpy.ndarray,
        classes: int,
    ) -> numpy.ndarray:
        """Return the (N, classes, classes) confusion matrix of each test image."""
        network.eval()
        matrices = np.zeros((len(test), classes, classes), dtype=np.int64)
        with context.progress("scoring", len(test), "images") as progress, torch.inference_mode():
            for first, batch in iter_batches(test, context.runtime):
                for start in range(0, len(batch), self.batch_size):
                    part = batch[start : start + self.batch_size]
                    with context.runtime.autocast():
                        scores = pixel_scores(network, normalize(part, model.normalization))
                    predicted = scores.argmax(1).cpu().numpy()
                    for row, mask in enumerate(predicted, first + start):
                        matrices[row] = confusion(masks[row], mask, classes)
                progress.advance(len(batch))
                context.pause_point()
        return matrices


def masks_in_squares(images: Images, classes: int) -> numpy.ndarray:
    """Return the (N, S, S) uint8 masks of the packed squares.

    Raises:
        TransferError: an image has no mask, or one that is invalid.
    """
    annotations = load_annotations(images)
    masks = np.zeros((len(images), images.size, images.size), dtype=np.uint8)
    for row, name in enumerate(images.ids):
        mask = annotations.mask(row)
        if mask is None:
            raise TransferError(NO_MASK.format(name=name))
        width, height = annotations.sizes[row].tolist()
        if mask.shape != (height, width):
            mask_size = f"{mask.shape[1]} x {mask.shape[0]} px"
            raise TransferError(
                f"{name}: the mask has {mask_size}, but the image has {width} x {height} px; "
                "repair the set's files"
            )
        if (invalid := mask[(mask >= classes) & (mask != VOID)]).size:
            raise TransferError(
                f"{name}: the mask holds {invalid[0]}, which is no class (0 to {classes - 1}, or "
                "255 for borders); repair the set's files"
            )
        masks[row] = square_of(annotations, row, images).mask(mask)
    return masks


def pixel_scores(network: nn.ModuleDict, images: Tensor) -> Tensor:
    """Return (B, classes, S, S) float32 scores of normalized images (B, 3, S, S)."""
    scores = network["head"](network["trunk"](images)).float()
    return F.interpolate(scores, size=images.shape[-2:], mode="bilinear", align_corners=False)
