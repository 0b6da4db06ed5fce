"""VOC classification: the network fine-tuned on images that show several classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from stages.evaluate._figure_text import percents
from stages.evaluate._probe_crops import SHORTER, WINDOW, window_maps
from stages.evaluate._protocol_name import protocol_name
from stages.evaluate._voc_data import (
    check_annotated,
    check_learnable,
    check_planned_classes,
    classes_counted,
    ids_from_names,
    load_annotations,
    require_finite,
    row_blocks,
)
from transfer.artifacts import Model, Scores
from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import InvalidOption, TransferError
from transfer.numerics.average_precision import map_interval, mean_precision, precisions, rankings
from transfer.stage.image_input import ImageInput
from transfer.stage.options import option, stage_input
from transfer.training import trainer
from transfer.training.inference import BLOCK
from transfer.training.recipe import TrainableStage
from transfer.transforms.geometry import sample
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


class VocClassification(TrainableStage):
    """Fine-tuning with one sigmoid a class, and mean average precision (Krähenbühl et al. 2016).

    The network is trained on `trainval` and scored on `test`. The defaults are the published
    settings: 80,000 steps of 16 images, which are 255 epochs of the 5,011 images of VOC 2007. SGD
    starts at 0.001, and is halved after each eighth. Gradients longer than 10 are clipped. The loss
    is summed over the classes, without difficult ones. Batch norms are fused into the convolutions
    and not trained. `mAP` is the figure that is quoted: the scores of 10 random crops are summed,
    and precision is integrated by steps as scikit-learn does. Other figures are those of the first
    crop alone, and by VOC's 11 points.

    Differences from the published protocol: images are packed squares, so a crop is a part of the
    square, at most all of it, and is resampled to the size that the network was trained with.
    Biases have the learning rate of the weights and no decay. Weights are
    not rescaled before (magic_init). Images of equal score enter the ranking at once; the published
    code puts the positive ones last.
    """

    produces = Scores
    version = 2  # 2: images are scored in the order of their ids
    smoke = {"epochs": 1, "crops": 2}
    images = {"train": ImageInput("trainval"), "test": ImageInput("test")}

    model: str = stage_input(Model, "the network")
    train: Literal["all", "fc6-8", "fc8"] = option(
        "all",
        "what is trained: all layers; the fully connected ones (fc6, fc7) and the new one; the "
        "new one only",
    )
    epochs: int = option(
        255, "passes over the images (255 of VOC 2007 are the published 80,000 steps)", ge=0
    )
    defaults: ClassVar[dict[str, Any]] = {
        "batch_size": 16,
        "optimizer": "sgd",
        "learning_rate": 1e-3,
    }
    weight_decay: float = option(1e-6, "weight decay; biases have none", ge=0)
    schedule: Literal["halving", "cosine", "step", "constant"] = option(
        "halving", "schedule of the learning rate; halving: by half after each eighth"
    )
    clip_grad_norm: float = option(10.0, "longest gradient of all weights together", gt=0)
    scale: list[float] = option(
        [0.5, 2.0],
        f"range of the random scale of an image {SHORTER} px high, from which {WINDOW} px are cut",
        min_length=2,
        max_length=2,
    )
    crops: int = option(10, "random crops of a test image, whose scores are summed", ge=1)

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Check that the sets are annotated, and that the model has the layers."""
        check_annotated(planned)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InvalidOption("scale", f"must be [lowest, highest], above zero, not {self.scale}")
        backbone = planned.inputs["model"].stage.backbone_spec()
        if backbone is not None:
            self._frozen_layers(backbone.name, backbone.layer_names())

    def validate_labels(self, planned: PlannedStage[Any]) -> None:
        """Check that the training images can be learned from, and the test images scored."""
        check_planned_classes(planned)

    def learning_rate_at(self, epoch: float) -> float:
        """Return the learning rate after `epoch` epochs."""
        if self.rates is not None or self.schedule != "halving":
            return super().learning_rate_at(epoch)
        warmup = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
        return warmup * self.learning_rate * 0.5 ** int(8 * epoch / max(1, self.epochs) + 1e-9)

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Return the optimizer, which clips gradients before each step."""
        optimizer = super().make_optimizer(network)
        weights = [parameter for parameter in network.parameters() if parameter.requires_grad]

        def clip(*_: object) -> None:
            torch.nn.utils.clip_grad_norm_(weights, self.clip_grad_norm)

        optimizer.register_step_pre_hook(clip)
        return optimizer

    def run(self, context: StageContext) -> None:
        """Fine-tune the network, and score it on crops of the test images."""
        model = context.inputs["model"]
        train, test = context.images["train"], context.images["test"]
        train_targets, test_targets = (load_annotations(images).targets for images in (train, test))
        check_learnable(train_targets)
        trained, tested = ((targets == 1).any(axis=0) for targets in (train_targets, test_targets))
        counted = classes_counted(context, train.classes, trained, tested)
        network = self._network(context, model, len(train.classes))
        targets = torch.from_numpy(train_targets).to(context.runtime.device)

        def loss(_: nn.Module, batch: Tensor, rng: PerImageRng) -> tuple[Tensor, dict[str, Tensor]]:
            logits = self._logits(network, model, batch, rng)
            target = targets[rng.ids]
            shown = (target == 1).float()
            losses = F.binary_cross_entropy_with_logits(logits, shown, reduction="none")
            return (losses * (target != 0)).sum() / len(batch), {}

        trainer.train(context, self, network, loss, train)
        first_crop, summed = self._scores(context, network, model, test)
        ranked, ranked_first = (
            rankings(scores[:, counted], test_targets[:, counted])
            for scores in (summed, first_crop)
        )
        figures = {
            "mAP": mean_precision(ranked, "step"),
            "mAP (1 crop)": mean_precision(ranked_first, "step"),
            "mAP (11 points)": mean_precision(ranked, "11 points"),
        }
        class_names = [f"AP {train.classes[label]}" for label in counted.tolist()]
        class_figures = precisions(ranked, "step").tolist()
        Scores.write(
            context.folder,
            protocol=protocol_name(PROTOCOL, self),
            settings=self.identity(),
            selected={},
            main="mAP",
            figures=figures | dict(zip(class_names, class_figures, strict=True)),
            intervals={
                "mAP": map_interval(lambda counts: precisions(ranked, "step", counts), len(test))
            },
            counts={"train": len(train), "test": len(test), "classes": len(counted)},
            arrays={"scores": summed.astype(np.float32), "targets": test_targets},
        )
        context.figures.update(percents(figures))

    def _frozen_layers(self, name: str, layers: list[str]) -> list[str]:
        """Return the layers that are not trained; InvalidOption where they are missing.

        Args:
            name: of the network.
            layers: all its layers.
        """
        if self.train == "all":
            return []
        if self.train == "fc8":
            return layers
        if "fc6" not in layers:
            raise InvalidOption(
                "train",
                f"{name} has no layers fc6 and fc7 (it has {', '.join(layers)}); "
                "use `train: all` or `train: fc8`",
            )
        return layers[: layers.index("fc6")]

    def _network(self, context: StageContext, model: Model, classes: int) -> nn.ModuleDict:
        from stages.evaluate._frozen_batchnorm import (  # imports torch
            FrozenBatchNormNetwork,
            init_normal,
            with_fused_batchnorm,
        )

        backbone = with_fused_batchnorm(model)
        try:
            layers = self._frozen_layers(backbone.spec.name, backbone.layer_names)
        except InvalidOption as error:
            raise TransferError(f"train: {error}") from error
        frozen = [backbone.get_submodule(layer) for layer in layers]
        width = int(np.prod(model.layers[backbone.layer_names[-1]]))
        head = init_normal(nn.Linear(width, classes), 0.01, 0.1, context.seed_for("weights"))
        return FrozenBatchNormNetwork({"backbone": backbone, "head": head}, frozen)

    def _logits(
        self, network: nn.ModuleDict, model: Model, images: Tensor, rng: PerImageRng
    ) -> Tensor:
        """Return the (B, classes) float32 logits of a random crop of each image."""
        crops = sample(images, self.crop(rng), model.card.size)
        features = network["backbone"](normalize(crops, model.normalization))
        return network["head"](features.flatten(1)).float()

    def crop(self, rng: PerImageRng) -> Tensor:
        """Return the (B, 2, 3) affine maps of random crops."""
        return window_maps(rng, self.scale)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """Return the images, and crops of them as different epochs draw them."""
        crops = {
            f"crop {number}": sample(images, self.crop(rng), images.shape[-1])
            for number in range(1, 4)
        }
        return {"image": images, **crops}

    def _scores(
        self, context: StageContext, network: nn.ModuleDict, model: Model, test: Images
    ) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Return (N, classes) scores twice: of the first crop, and of all crops summed."""
        network.eval()
        first, summed = [], []
        ids = ids_from_names(test.ids, context.runtime.device)
        blocks = row_blocks(len(test), BLOCK)
        with (
            context.progress("scoring", len(test), "images") as progress,
            Batches(test, context.runtime, BLOCK) as feed,
            torch.inference_mode(),
            context.runtime.autocast(),
        ):
            for rows, batch in zip(blocks, feed.each(blocks), strict=True):
                rng = PerImageRng(context.seed_for("crops"), ids[rows])
                logits = [self._logits(network, model, batch, rng) for _ in range(self.crops)]
                first.append(logits[0].cpu().numpy())
                summed.append(torch.stack(logits).double().sum(0).cpu().numpy())
                progress.advance(len(rows))
                context.pause_point()
        return require_finite(np.concatenate(first)), require_finite(np.concatenate(summed))
