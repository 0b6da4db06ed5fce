"""VOC detection: Faster R-CNN on the network's convolutions, fine-tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import check_annotated, classes_counted, load_annotations, square_of
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.average_precision import (
    Ranking,
    map_interval,
    match_boxes,
    mean_precision,
    precisions,
)
from transfer.stage.base import ImageInput
from transfer.stage.layer_checks import check_layers
from transfer.stage.options import option, stage_input
from transfer.training.recipe import TrainableStage, lr_milestones
from transfer.training.trainer import train
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng

    Truth = list[
        tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]
    ]  # an image: corners, labels, which are difficult

PROTOCOL = "voc_detection/faster-rcnn-v1"
AT_ONCE = 8  # test images: each has hundreds of regions


class VocDetection(TrainableStage):
    """Faster R-CNN (Ren et al. 2015) fine-tuned on boxes, all layers; average precision at an overlap of a half.

    Trained on `trainval`, scored on `test`. The published settings are the defaults: 150,000 steps of 2 images, which
    are 60 epochs of the 5,011 of VOC 2007, at 0.001, to a tenth after each third; decay 5e-4; difficult objects are not
    learned from; images mirrored at random; boxes of a class that overlap by 0.3 are one. `AP50` is by VOC's 11 points,
    the figure that is quoted; that by area stands beside it.

    What differs from the published one (Fast R-CNN): regions come from a network instead of selective search, and are
    pooled by RoIAlign; images are packed squares of one scale, so what the square cuts off is neither learned nor asked
    for (less than 0.3 of a box left: difficult); momentum is Nesterov's; batch norms are multiplied into the
    convolutions and not trained; biases have the rate of the weights.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    smoke = {"epochs": 1}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    layer: str | None = option(
        None, "layer whose map is searched; none: the deepest that gives one and is no pooling"
    )
    epochs: int = option(
        60, "passes over the images (60 of VOC 2007 are the published 150,000 steps)", ge=0
    )
    batch_size: int = option(
        2, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    learning_rate: float = option(1e-3, "the highest it gets", gt=0)
    weight_decay: float = option(5e-4, "on weights; biases have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option("step", "of the learning rate")
    milestones: list[float] = lr_milestones([1 / 3, 2 / 3])
    anchors: list[float] = option(
        [0.1, 0.2, 0.4, 0.8],
        "sides of the anchors, as shares of the image's; each in three shapes",
        min_length=1,
    )
    regions_per_image: int = option(
        128, "regions an image that are learned from, a quarter of them objects", ge=4
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)
    score_threshold: float = option(0.01, "boxes with a lower score are not looked at", ge=0, lt=1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The sets are annotated, and the model has the layer."""
        check_annotated(planned)
        check_layers(planned, "layer", [self.layer])
        if any(not 0 < share <= 2 for share in self.anchors):
            raise InvalidOption(
                "anchors", f"shares of the image's side, such as 0.2 (found {self.anchors})"
            )

    def validate_build(self, planned: PlannedStage) -> None:
        from stages.evaluate._frozen_batchnorm import validate_map

        validate_map(planned, self.layer, pools=False)

    def run(self, context: StageContext) -> None:
        model, images, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        known, asked = truth_of(images), truth_of(test)
        shown, tested = (_shown(some, len(images.classes)) for some in (known, asked))
        if not shown.any():
            raise TransferError("no training image has a box that could be learned from")
        counted = classes_counted(context, images.classes, shown, tested)
        network = self._network(context, model, images.size, len(images.classes))
        device = context.runtime.device

        def loss(
            network: nn.ModuleDict, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            detector, mirrored = network["detector"], rng.chance(self.flip)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
            flips = zip(rng.ids.tolist(), mirrored.tolist(), strict=True)
            targets = [
                _target(*known[row], images.size if flip else None, device) for row, flip in flips
            ]
            for part in (detector.rpn, detector.roi_heads):
                part.fg_bg_sampler.rng = rng
            with torch.autocast(device.type, enabled=False):
                losses = detector(list(normalize(batch, model.normalization)), targets)
            return sum(losses.values()), {
                name.removeprefix("loss_"): value for name, value in losses.items()
            }

        train(context, self, network, loss, images)
        ranked = self._ranked(context, network, model, test, asked, counted)
        figures = {
            "AP50": mean_precision(ranked, "11 points"),
            "AP50 (area)": mean_precision(ranked, "area"),
        }
        pairs = zip(counted, precisions(ranked, "11 points"), strict=True)
        each = {f"AP50 {images.classes[label]}": float(value) for label, value in pairs}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="AP50",
            figures=figures | each,
            intervals={
                "AP50": map_interval(
                    lambda counts: precisions(ranked, "11 points", counts), len(test)
                )
            },
            counts={
                "train": len(images),
                "test": len(test),
                "classes": len(counted),
                "boxes": sum(int((~hard).sum()) for _, _, hard in asked),
            },
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})

    def _network(
        self, context: StageContext, model: Model, size: int, classes: int
    ) -> nn.ModuleDict:
        from stages.evaluate._faster_rcnn import detector
        from stages.evaluate._frozen_batchnorm import (
            FrozenBatchNormNetwork,
            map_layer,
            with_fused_batchnorm,
        )

        backbone = with_fused_batchnorm(model)
        try:
            layer = map_layer(backbone.spec, backbone.shapes(size), self.layer, pools=False)
        except ValueError as error:
            raise TransferError(f"layer: {error}") from error
        made = detector(
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
        return FrozenBatchNormNetwork({"detector": made})

    def _ranked(
        self,
        context: StageContext,
        network: nn.ModuleDict,
        model: Model,
        test: Images,
        asked: Truth,
        counted: numpy.ndarray,
    ) -> list[Ranking]:
        """One for each class that counts."""
        network.eval()
        classes = counted.tolist()
        scores, hits, images = ({label: [] for label in classes} for _ in range(3))
        wanted = np.zeros((len(test), len(test.classes)), dtype=np.int64)
        for row, (_, labels, hard) in enumerate(asked):
            np.add.at(wanted[row], labels[~hard], 1)
        blocks = [
            np.arange(start, min(start + AT_ONCE, len(test)))
            for start in range(0, len(test), AT_ONCE)
        ]
        with (
            context.progress("scoring", len(test), "images") as progress,
            Batches(test, context.runtime, AT_ONCE) as feed,
            torch.inference_mode(),
        ):
            for rows, batch in zip(blocks, feed.each(blocks), strict=True):
                found = network["detector"](list(normalize(batch, model.normalization)))
                for row, one in zip(rows.tolist(), found, strict=True):
                    boxes, named, sure = (
                        one[name].cpu().numpy() for name in ("boxes", "labels", "scores")
                    )
                    corners, labels, hard = asked[row]
                    for label in classes:
                        mine, true = named == label + 1, labels == label
                        hit, counts = match_boxes(
                            boxes[mine], sure[mine], corners[true], hard[true]
                        )
                        scores[label].append(sure[mine][counts])
                        hits[label].append(hit[counts])
                        images[label].append(np.full(int(counts.sum()), row))
                progress.advance(len(rows))
                context.pause_point()
        joined = [
            [np.concatenate(parts[label]) for parts in (scores, hits, images)] for label in classes
        ]
        return [
            Ranking(*parts, wanted[:, label]) for parts, label in zip(joined, classes, strict=True)
        ]


def truth_of(images: Images) -> Truth:
    """Of each image, in px of its packed square: corners (n, 4), labels (n,), and (n,) bool, which are difficult."""
    found = load_annotations(images)
    return [square_of(found, row, images).boxes(found.boxes(row)) for row in range(len(images))]


def _shown(truth: Truth, classes: int) -> numpy.ndarray:
    """(classes,) bool: of which there is a box that is not difficult."""
    labels = np.concatenate([labels[~hard] for _, labels, hard in truth])
    return np.bincount(labels, minlength=classes) > 0


def _target(
    corners: numpy.ndarray,
    labels: numpy.ndarray,
    hard: numpy.ndarray,
    mirror: int | None,
    device: torch.device,
) -> dict[str, Tensor]:
    """As torchvision wants it; mirror: the width of the image, px, where that is mirrored."""
    boxes = torch.from_numpy(corners[~hard])
    if mirror is not None:
        boxes = torch.stack(
            (mirror - boxes[:, 2], boxes[:, 1], mirror - boxes[:, 0], boxes[:, 3]), dim=1
        )
    return {"boxes": boxes.to(device), "labels": torch.from_numpy(labels[~hard] + 1).to(device)}
