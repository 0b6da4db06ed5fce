"""VOC classification: the network fine-tuned on images that show several classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import (
    check_annotated,
    check_learnable,
    class_numbers,
    classes_counted,
    load_annotations,
)
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.average_precision import map_interval, mean_precision, precisions, rankings
from transfer.stage.base import ImageInput
from transfer.stage.options import option, stage_input
from transfer.training import trainer
from transfer.training.inference import BLOCK
from transfer.training.recipe import TrainableStage
from transfer.transforms.geometry import affine_map, sample
from transfer.transforms.normalize import normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor
    from torch.optim import Optimizer

    from transfer.artifacts import Images
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext

PROTOCOL = "voc_classification/krahenbuhl2016-v1"
SHORTER = 375  # px: the shorter side of most of VOC's photographs, to which `scale` refers
WINDOW = 227  # px: the published crops, of an image that was scaled


class VocClassification(TrainableStage):
    """Fine-tuning with one sigmoid a class, then mean average precision (Krähenbühl et al. 2016).

    Trained on `trainval`, scored on `test`. The published settings are the defaults: 80,000 steps of 16 images, which
    are 255 epochs of the 5,011 of VOC 2007; SGD at 0.001, halved after each eighth; gradients whose length is above 10
    are shortened; the loss is summed over the classes, difficult ones left out; batch norms are multiplied into the
    convolutions and not trained. `mAP` is that of the scores of 10 random crops summed, the figure that is quoted,
    integrated by steps as scikit-learn does; that of the first crop and by VOC's 11 points stand beside it.

    What differs: images are packed squares, so a crop is a part of the square, at most all of it; it is resampled to
    the size that the network was trained with; momentum is Nesterov's; biases have the rate of the weights and no
    decay; nothing is rescaled before (magic_init); images of equal score count at once, not the positive ones last.
    """

    produces = Scores
    version = 2  # since images are scored in the order of their ids
    smoke = {"epochs": 1, "crops": 2}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    train: Literal["all", "fc6-8", "fc8"] = option(
        "all",
        "what is trained: all layers; the fully connected ones (fc6, fc7) and the new one; the new one only",
    )
    epochs: int = option(
        255, "passes over the images (255 of VOC 2007 are the published 80,000 steps)", ge=0
    )
    batch_size: int = option(
        16, "images a step; the rest of an epoch that fills no batch is left to other epochs", ge=2
    )
    learning_rate: float = option(1e-3, "the highest it gets", gt=0)
    weight_decay: float = option(1e-6, "on weights; biases have none", ge=0)
    schedule: Literal["halving", "cosine", "step", "constant"] = option(
        "halving", "of the learning rate; halving: by half after each eighth of the training"
    )
    clip_grad_norm: float = option(
        10.0, "longest that the gradient of all weights together may be", gt=0
    )
    scale: list[float] = option(
        [0.5, 2.0],
        f"range of the random scale of an image {SHORTER} px high, of which {WINDOW} px are cut out",
        min_length=2,
        max_length=2,
    )
    crops: int = option(10, "random crops a test image, whose scores are summed", ge=1)

    def validate_plan(self, planned: PlannedStage) -> None:
        """The sets are annotated, and the model has the layers."""
        check_annotated(planned)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InvalidOption("scale", f"[lowest, highest], above zero (found {self.scale})")
        backbone = planned.inputs["model"].stage.backbone_spec()
        if backbone is not None:
            self._frozen(backbone.name, backbone.layer_names())

    def learning_rate_at(self, epoch: float) -> float:
        if self.schedule != "halving":
            return super().learning_rate_at(epoch)
        rising = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
        return rising * self.learning_rate * 0.5 ** int(8 * epoch / max(1, self.epochs) + 1e-9)

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        optimizer = super().make_optimizer(network)
        weights = [one for one in network.parameters() if one.requires_grad]

        def shorten(*_: object) -> None:
            torch.nn.utils.clip_grad_norm_(weights, self.clip_grad_norm)

        optimizer.register_step_pre_hook(shorten)
        return optimizer

    def run(self, context: StageContext) -> None:
        model, images, test = (
            context.inputs["model"],
            context.images["train"],
            context.images["test"],
        )
        wanted, asked = load_annotations(images).targets, load_annotations(test).targets
        check_learnable(wanted)
        trained, tested = (wanted == 1).any(axis=0), (asked == 1).any(axis=0)
        counted = classes_counted(context, images.classes, trained, tested)
        network = self._network(context, model, len(images.classes))
        targets = torch.from_numpy(wanted).to(context.runtime.device)

        def loss(
            network: nn.ModuleDict, batch: Tensor, rng: PerImageRng
        ) -> tuple[Tensor, dict[str, Tensor]]:
            logits = self._logits(network, model, batch, rng)
            truth = targets[rng.ids]
            each = F.binary_cross_entropy_with_logits(
                logits, (truth == 1).float(), reduction="none"
            )
            return (each * (truth != 0)).sum() / len(batch), {}

        trainer.train(context, self, network, loss, images)
        first, total = self._scores(context, network, model, test)
        ranked = [rankings(some[:, counted], asked[:, counted]) for some in (total, first)]
        figures = {
            "mAP": mean_precision(ranked[0], "step"),
            "mAP (1 crop)": mean_precision(ranked[1], "step"),
            "mAP (11 points)": mean_precision(ranked[0], "11 points"),
        }
        pairs = zip(counted, precisions(ranked[0], "step"), strict=True)
        each = {f"AP {images.classes[label]}": float(value) for label, value in pairs}
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="mAP",
            figures=figures | each,
            intervals={
                "mAP": map_interval(lambda counts: precisions(ranked[0], "step", counts), len(test))
            },
            counts={"train": len(images), "test": len(test), "classes": len(counted)},
            arrays={"scores": total.astype(np.float32), "targets": asked},
        )
        context.figures.update({name: f"{value:.2f} %" for name, value in figures.items()})

    def _frozen(self, name: str, layers: list[str]) -> list[str]:
        """The layers that are not trained; BadOption where the network cannot be parted so."""
        if self.train == "all":
            return []
        if self.train == "fc8":
            return layers
        if "fc6" not in layers:
            has = ", ".join(layers)
            raise InvalidOption(
                "train",
                f"{name} has no layers fc6 and fc7 (it has {has}): say `train: all` or `train: fc8`",
            )
        return layers[: layers.index("fc6")]

    def _network(self, context: StageContext, model: Model, classes: int) -> nn.ModuleDict:
        from stages.evaluate._frozen_batchnorm import (
            FrozenBatchNormNetwork,
            init_normal,
            with_fused_batchnorm,
        )

        backbone = with_fused_batchnorm(model)
        try:
            frozen = [
                backbone.get_submodule(name)
                for name in self._frozen(backbone.spec.name, backbone.layer_names)
            ]
        except InvalidOption as error:
            raise TransferError(f"train: {error}") from error
        width = int(np.prod(model.layers[backbone.layer_names[-1]]))
        head = init_normal(nn.Linear(width, classes), 0.01, 0.1, context.seed_for("weights"))
        return FrozenBatchNormNetwork({"backbone": backbone, "head": head}, frozen)

    def _logits(
        self, network: nn.ModuleDict, model: Model, images: Tensor, rng: PerImageRng
    ) -> Tensor:
        seen = normalize(sample(images, self.crop(rng), model.card.size), model.normalization)
        return network["head"](network["backbone"](seen).flatten(1)).float()

    def crop(self, rng: PerImageRng) -> Tensor:
        """(B, 2, 3) maps of a window somewhere in the square, mirrored or not: the part of a scaled image that a crop
        shows, at most all of it."""
        scale, left, top, mirror = rng.uniform(4).unbind(1)
        low, high = self.scale
        side = (WINDOW / SHORTER / (low + (high - low) * scale)).clamp(max=1)
        zero = torch.zeros_like(side)
        return affine_map(
            torch.where(mirror < 0.5, -side, side),
            zero,
            (1 - side) * (2 * left - 1),
            zero,
            side,
            (1 - side) * (2 * top - 1),
        )

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image, and crops of it as different epochs draw them."""
        crops = [sample(images, self.crop(rng), images.shape[-1]) for _ in range(3)]
        return {"image": images, **{f"crop {number}": one for number, one in enumerate(crops, 1)}}

    def _scores(
        self, context: StageContext, network: nn.ModuleDict, model: Model, test: Images
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """(N, classes) of the first crop of each image, and of all its crops together."""
        network.eval()
        first, total = [], []
        names = class_numbers(test.ids, context.runtime.device)
        with (
            context.progress("scoring", len(test), "images") as progress,
            Batches(test, context.runtime, BLOCK) as feed,
            torch.inference_mode(),
            context.runtime.autocast(),
        ):
            blocks = [
                np.arange(start, min(start + BLOCK, len(test)))
                for start in range(0, len(test), BLOCK)
            ]
            for rows, batch in zip(blocks, feed.each(blocks), strict=True):
                rng = PerImageRng(context.seed_for("crops"), names[rows])
                found = [self._logits(network, model, batch, rng) for _ in range(self.crops)]
                first.append(found[0].cpu().numpy())
                total.append(torch.stack(found).double().sum(0).cpu().numpy())
                progress.advance(len(rows))
                context.pause_point()
        return _finite(np.concatenate(first)), _finite(np.concatenate(total))


def _finite(scores: numpy.ndarray) -> numpy.ndarray:
    if not np.isfinite(scores).all():
        raise TransferError("the network's scores are not finite numbers: lower `learning_rate`")
    return scores
