"""VOC detection: Faster R-CNN on the network's convolutions, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stages.evaluate._figure_text import percents
from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_boxes import (
    MatchedBoxes,
    boxes_in_squares,
    classes_shown,
    detection_target,
)
from stages.evaluate._voc_data import (
    check_annotated,
    classes_counted,
    require_tested,
    row_blocks,
)
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.batch_loader import Batches
from transfer.datasets.packed.label_facts import annotation_facts
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.average_precision import map_interval, mean_precision, precisions
from transfer.stage.image_input import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.recipe import TrainableStage
from transfer.training.trainer import train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from stages.evaluate._faster_rcnn import Detector
    from transfer.artifacts import Images
    from transfer.datasets.readers.annotations import Boxes
    from transfer.numerics.average_precision import Ranking
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

PROTOCOL = "voc_detection/faster-rcnn-v1"
TEST_BATCH = 8  # images: each has hundreds of regions


class VocDetection(TrainableStage):
    """Faster R-CNN (Ren et al. 2015), all layers fine-tuned on boxes; AP at an overlap of a half.

    The detector is trained on `trainval` and scored on `test`. The defaults are the published
    settings: 150,000 steps of 2 images, which are 60 epochs of the 5,011 images of VOC 2007, at
    0.001, lowered to a tenth after each third; decay 5e-4; difficult objects are not learned from;
    images are mirrored at random; boxes of a class that overlap by 0.3 are merged. `AP50` is by
    VOC's 11 points, the figure that is quoted; another figure is by area.

    Differences from the published protocol (Fast R-CNN): regions are proposed by a network instead
    of selective search, and are pooled by RoIAlign. Images are packed squares of one scale, so
    objects outside the square are neither learned nor scored (less than 0.3 of a box left:
    difficult). Batch norms are fused into the convolutions and not trained.
    Biases have the learning rate of the weights.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    smoke = {"epochs": 1}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    layer: str | None = option(
        None, "layer whose map is searched; none: the deepest map that is not a pooling"
    )
    epochs: int = option(
        60, "passes over the images (60 of VOC 2007 are the published 150,000 steps)", ge=0
    )
    defaults: ClassVar[dict[str, Any]] = {
        "batch_size": 2,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
        "schedule": "step",
        "milestones": [1 / 3, 2 / 3],
    }
    weight_decay: float = option(5e-4, "weight decay; biases have none", ge=0)
    anchors: list[float] = option(
        [0.1, 0.2, 0.4, 0.8],
        "sides of the anchors, as shares of the image's; each in three shapes",
        min_length=1,
    )
    regions_per_image: int = option(
        128, "regions of an image that are learned from, a quarter of them objects", ge=4
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    score_threshold: float = option(0.01, "boxes with a lower score are dropped", ge=0, lt=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the sets are annotated, and that the model has the layer."""
        check_annotated(planned)
        check_layers(planned, "layer", [self.layer])
        if any(not 0 < share <= 2 for share in self.anchors):
            raise InvalidOption(
                "anchors", f"must be shares of the image's side, such as 0.2, not {self.anchors}"
            )

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that both splits show a class."""
        shown = {
            role: any(annotation_facts(pack.stage).shown) for role, pack in planned.images.items()
        }
        _require_boxes(shown["train"])
        require_tested(shown["test"])

    def validate_build(self, planned: PlannedStage[Any]) -> None:
        """Check that the layer is a map."""
        from stages.evaluate._frozen_batchnorm import validate_map  # imports torch

        validate_map(planned, self.layer, pools=False)

    def run(self, context: StageContext) -> None:
        """Fine-tune the detector, and score its boxes on the test images."""
        from stages.evaluate._frozen_batchnorm import FrozenBatchNormNetwork  # imports torch

        model, images, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        truth, test_truth = boxes_in_squares(images), boxes_in_squares(test)
        trained, tested = (
            classes_shown(boxes, len(images.classes)) for boxes in (truth, test_truth)
        )
        _require_boxes(bool(trained.any()))
        counted = classes_counted(context, images.classes, trained, tested)
        detector = self._detector(context, model, images.size, len(images.classes))
        network = FrozenBatchNormNetwork({"detector": detector})
        device = context.runtime.device

        def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
            mirrored = rng.chance(self.flip)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
            flips = zip(rng.ids.tolist(), mirrored.tolist(), strict=True)
            targets = [
                detection_target(truth[row], images.size if flip else None, device)
                for row, flip in flips
            ]
            detector.set_rng(rng)
            with torch.autocast(device.type, enabled=False):
                losses = detector(list(normalize(batch, model.normalization)), targets)
            total = sum(losses.values(), torch.zeros((), device=device))
            return total, {name.removeprefix("loss_"): value for name, value in losses.items()}

        train(context, self, network, loss, images)
        network.eval()
        ranked = self._rankings(context, detector, model, test, test_truth, counted)
        figures = {
            "AP50": mean_precision(ranked, "11 points"),
            "AP50 (area)": mean_precision(ranked, "area"),
        }
        class_names = [f"AP50 {images.classes[label]}" for label in counted.tolist()]
        class_figures = precisions(ranked, "11 points").tolist()
        interval = map_interval(lambda counts: precisions(ranked, "11 points", counts), len(test))
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="AP50",
            figures=figures | dict(zip(class_names, class_figures, strict=True)),
            intervals={"AP50": interval},
            counts={
                "train": len(images),
                "test": len(test),
                "classes": len(counted),
                "boxes": sum(int((~boxes.difficult).sum()) for boxes in test_truth),
            },
        )
        context.figures.update(percents(figures))

    def _detector(self, context: StageContext, model: Model, size: int, classes: int) -> Detector:
        from stages.evaluate._faster_rcnn import detector  # imports torch
        from stages.evaluate._frozen_batchnorm import map_layer, with_fused_batchnorm

        backbone = with_fused_batchnorm(model)
        try:
            layer = map_layer(backbone.spec, backbone.shapes(size), self.layer, pools=False)
        except ValueError as error:
            raise TransferError(f"layer: {error}") from error
        return detector(
            backbone,
            layer,
            classes,
            size,
            context.runtime,
            self.anchors,
            self.regions_per_image,
            self.score_threshold,
            context.seed_for("weights"),
        )

    def _rankings(
        self,
        context: StageContext,
        detector: Detector,
        model: Model,
        test: Images,
        truth: list[Boxes],
        counted: numpy.ndarray,
    ) -> list[Ranking]:
        """Return the ranking of detected boxes for each counted class."""
        labels = counted.tolist()
        matches = {label: MatchedBoxes() for label in labels}
        blocks = row_blocks(len(test), TEST_BATCH)
        with (
            context.progress("scoring", len(test), "images") as progress,
            Batches(test, context.runtime, TEST_BATCH) as feed,
            torch.inference_mode(),
        ):
            for rows, batch in zip(blocks, feed.each(blocks), strict=True):
                outputs = detector(list(normalize(batch, model.normalization)))
                for row, output in zip(rows.tolist(), outputs, strict=True):
                    detected = {name: value.cpu().numpy() for name, value in output.items()}
                    for label in labels:
                        matches[label].add(row, detected, truth[row], label)
                progress.advance(len(rows))
                context.pause_point()
        positives = np.zeros((len(test), len(test.classes)), dtype=np.int64)
        for row, boxes in enumerate(truth):
            np.add.at(positives[row], boxes.labels[~boxes.difficult], 1)
        return [matches[label].ranking(positives[:, label]) for label in labels]


def _require_boxes(any_class: bool) -> None:
    """Raise TransferError if the training images show none of the classes."""
    if not any_class:
        raise TransferError(
            "the training images have no box to learn from: all are difficult, or outside the "
            "packed squares; choose another set, or `fit: stretch`"
        )
