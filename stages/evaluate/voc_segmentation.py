"""VOC segmentation: a fully convolutional network on the network's deepest map, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import check_annotated, classes_counted, load_annotations, square_of
from transfer.artifacts import Model, Scores
from transfer.errors import TransferError
from transfer.numerics.average_precision import map_interval
from transfer.numerics.iou import VOID, confusion, intersections, mean_iou
from transfer.stage.base import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.inference import iter_batches
from transfer.training.recipe import TrainableStage, lr_milestones
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
    """FCN-32s (Long et al. 2015; as Zhang et al. 2016 fine-tune it), all layers; mean intersection over union.

    Trained on `train_seg`, scored on `val_seg`; borders (255) count neither way, the background is a class. The deepest
    map is scored by a 1x1 convolution that begins with zeros, and upsampled bilinearly. The published settings are the
    defaults: 150,000 steps of 20 images, which are 2,049 epochs of the 1,464 of VOC 2012, at 1e-4, lowered twice to a
    tenth (after each third, as it is not told when); momentum 0.9, decay 5e-4, not mirrored.

    What differs: images and masks are packed squares, and scored as such; no images of SBD are added; fc6 and fc7 are
    left off; the upsampling is fixed; momentum is Nesterov's; batch norms are multiplied into the convolutions and not
    trained.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    smoke = {"epochs": 1}
    images = {"train": ImageInput("train_seg"), "test": ImageInput("val_seg")}

    model: str = stage_input(Model, "the network")
    layer: str | None = option(None, "layer whose map is scored; none: the deepest that gives one")
    epochs: int = option(
        2049, "passes over the images (2049 of VOC 2012's are the published 150,000 steps)", ge=0
    )
    batch_size: int = option(
        20, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    learning_rate: float = option(1e-4, "the highest it gets", gt=0)
    weight_decay: float = option(5e-4, "on weights; biases have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option("step", "of the learning rate")
    milestones: list[float] = lr_milestones([1 / 3, 2 / 3])
    flip: float = option(0.0, "share of images mirrored", ge=0, le=1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The sets are annotated, and the model has the layer."""
        check_annotated(planned)
        check_layers(planned, "layer", [self.layer])

    def validate_build(self, planned: PlannedStage) -> None:
        from stages.evaluate._frozen_batchnorm import validate_map

        validate_map(planned, self.layer, pools=True)

    def run(self, context: StageContext) -> None:
        model, images, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        names = ["background", *images.classes]
        known, asked = masks_of(images, len(names)), masks_of(test, len(names))
        shown, tested = (
            np.bincount(masks.ravel(), minlength=VOID + 1)[: len(names)] > 0
            for masks in (known, asked)
        )
        if shown.sum() < 2:
            raise TransferError("all training masks have one class: there is nothing to tell apart")
        counted = classes_counted(context, names, shown, tested)
        network = self._network(context, model, images.size, len(names))
        wanted = torch.from_numpy(known).to(context.runtime.device)

        def loss(
            network: nn.ModuleDict, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            mirrored, truth = rng.chance(self.flip)[:, None, None], wanted[rng.ids]
            batch = torch.where(mirrored[:, None], batch.flip(-1), batch)
            truth = torch.where(mirrored, truth.flip(-1), truth).long()
            logits = _scored(network, normalize(batch, model.normalization))
            count = (truth != VOID).sum().clamp(min=1)  # of images that are all border, none
            right = ((logits.argmax(1) == truth) & (truth != VOID)).sum() / count
            each = F.cross_entropy(logits, truth, ignore_index=VOID, reduction="sum")
            return each / count, {"accuracy": right}

        train(context, self, network, loss, images)
        network.eval()
        matrices = np.zeros((len(test), len(names), len(names)), dtype=np.int64)
        with context.progress("scoring", len(test), "images") as progress, torch.inference_mode():
            for first, batch in iter_batches(test, context.runtime):
                for start in range(0, len(batch), self.batch_size):
                    with context.runtime.autocast():
                        seen = normalize(
                            batch[start : start + self.batch_size], model.normalization
                        )
                        said = _scored(network, seen).argmax(1).cpu().numpy()
                    for row, one in enumerate(said, first + start):
                        matrices[row] = confusion(asked[row], one, len(names))
                progress.advance(len(batch))
                context.pause_point()
        whole = matrices.sum(axis=0)
        figures = {"mIoU": mean_iou(whole), "pixels": 100 * float(np.trace(whole) / whole.sum())}
        each = {
            f"IoU {names[label]}": float(100 * intersections(whole)[label]) for label in counted
        }
        flat = matrices.reshape(len(test), -1)

        def shares(counts: numpy.ndarray) -> numpy.ndarray:
            return 100 * intersections((counts @ flat).reshape(whole.shape))[counted]

        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="mIoU",
            figures=figures | each,
            intervals={"mIoU": map_interval(shares, len(test))},
            counts={"train": len(images), "test": len(test), "classes": len(counted)},
            arrays={"confusion": whole},
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})

    def _network(
        self, context: StageContext, model: Model, size: int, classes: int
    ) -> nn.ModuleDict:
        from stages.evaluate._frozen_batchnorm import (
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
        return FrozenBatchNormNetwork(
            {"trunk": Trunk(backbone, layer, context.runtime), "head": head}
        )


def masks_of(images: Images, classes: int) -> numpy.ndarray:
    """(N, S, S) uint8 of the packed squares; TransferError for an image without a mask, or with one that cannot be."""
    found = load_annotations(images)
    masks = np.zeros((len(images), images.size, images.size), dtype=np.uint8)
    for row, name in enumerate(images.ids):
        mask = found.mask(row)
        if mask is None:
            raise TransferError(f"{name} has no mask: take a split of segmentation")
        if mask.shape[::-1] != tuple(found.sizes[row]):
            has, should = (
                f"{wide} x {tall} px" for wide, tall in (mask.shape[::-1], found.sizes[row])
            )
            raise TransferError(f"the mask of {name} has {has}, and its image {should}")
        if (strange := mask[(mask >= classes) & (mask != VOID)]).size:
            raise TransferError(
                f"the mask of {name} holds {strange[0]}, which is no class (0 to {classes - 1}, 255)"
            )
        masks[row] = square_of(found, row, images).mask(mask)
    return masks


def _scored(network: nn.ModuleDict, seen: Tensor) -> Tensor:
    """(B, classes, S, S) float32 of normalized images (B, 3, S, S)."""
    scores = network["head"](network["trunk"](seen)).float()
    return F.interpolate(scores, size=seen.shape[-2:], mode="bilinear", align_corners=False)
