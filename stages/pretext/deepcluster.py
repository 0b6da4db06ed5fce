"""DeepCluster (Caron, Bojanowski, Joulin & Douze, ECCV 2018): tell the clusters of the network's own features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from transfer.errors import InvalidOption
from transfer.numerics.cluster_agreement import normalized_mutual_information
from transfer.numerics.feature_transforms import L2, panel_transform
from transfer.numerics.kmeans import (
    IN_MEMORY,
    PANEL,
    Assigner,
    check_rows,
    faiss_gpu,
    initial_centroids,
    lloyd_step,
)
from transfer.numerics.pca import Whitening, fit_pca
from transfer.stage.base import DatasetInfo
from transfer.stage.label_joining import class_balanced_order
from transfer.stage.options import option
from transfer.training.inference import iter_batches
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import normalize
from transfer.utils.lazy_imports import F, nn, np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor
    from torch.optim import Optimizer

    from transfer.models.network import Network
    from transfer.stage.base import PlannedStage
    from transfer.stage.context import StageContext
    from transfer.transforms.per_image_rng import PerImageRng


class DeepCluster(Pretext):
    """Which of k clusters is the image in? Before each epoch the network's own features are clustered anew.

    Features of all images, whole and in their order, by the network in eval mode: of the classifier's last layer before
    its ReLU, whitened along `components` directions, of unit length. K-means from random rows, other ones each epoch;
    empty clusters are set beside loose ones. Loss: cross-entropy over the clusters, images cropped and mirrored at
    random; the last layer is drawn anew each epoch. The figure `nmi` compares the clusters with the epoch's before.
    Source: the paper and its released code, but for its Sobel filters: backbones here are fed with colors.
    Traps: features read in shuffled order would label other images; a cluster that is empty after all is left out;
    every cluster is trained on equally often, or a few large ones would do; the head has no momentum of past labels.
    """

    paper = "Caron, Bojanowski, Joulin & Douze, ECCV 2018"
    version: ClassVar[int] = 2  # since the order of images shares `balanced_order` with the target
    smoke: ClassVar[dict[str, Any]] = {**Pretext.smoke, "k": 20, "components": 16}

    k: int = option(10000, "number of clusters", ge=2)
    components: int = option(256, "directions that features are whitened along", ge=1)
    iterations: int = option(20, "passes of k-means over all images", ge=1)
    reassign_every: int = option(1, "epochs from one clustering to the next", ge=1)
    layers: list[Annotated[int, Field(ge=1)]] = option(
        [4096, 4096],
        "values of the classifier's layers; the last one's are clustered; []: the backbone's are",
    )
    dropout: float = option(0.5, "before each layer of the classifier", ge=0, lt=1)
    sampling: Literal["uniform", "balanced"] = option(
        "balanced", "uniform: every image once an epoch; balanced: every cluster equally often"
    )
    crop: float = option(
        0.08, "smallest share of an image's area that a crop keeps; 1: the whole image", gt=0, le=1
    )
    flip: float = option(0.5, "share of images mirrored", ge=0, le=1)

    epochs: int = option(200, "passes over the images", ge=0)
    learning_rate: float = option(0.05, "the highest it gets", gt=0)
    weight_decay: float = option(1e-5, "on weights; biases and norms have none", ge=0)
    schedule: Literal["cosine", "step", "constant"] = option(
        "constant", "of the learning rate, after the warm-up"
    )

    def validate_plan(self, planned: PlannedStage) -> None:
        """There are more images than clusters, and features of so many directions."""
        count = planned.images["images"].stage.count
        if self.k > count:
            raise InvalidOption(
                "k", f"{self.k} clusters of {count} images: k must not be larger than their number"
            )
        most = min([count - 1, *self.layers[-1:]])
        if self.components > most:
            raise InvalidOption(
                "components", f"{self.components} directions: there are at most {most}"
            )

    def chance(self, about: DatasetInfo) -> float:
        return 1 / self.k

    def network(self, backbone: Network, about: DatasetInfo) -> nn.ModuleDict:
        """Backbone, classifier (to the features that are clustered), head; each image's cluster in `labels`."""
        widths = [backbone_feature_dim(backbone, about.size), *self.layers]
        if self.components > widths[-1]:
            raise ValueError(
                f"`components`: {self.components} directions of {widths[-1]} features: lower it"
            )
        steps: list[nn.Module] = []
        for inputs, outputs in zip(widths, self.layers, strict=False):
            steps += [nn.Dropout(self.dropout), nn.Linear(inputs, outputs), nn.ReLU()]
        classifier, head = nn.Sequential(*steps[:-1]), nn.Linear(widths[-1], self.k)
        network = nn.ModuleDict({"backbone": backbone, "classifier": classifier, "head": head})
        network.register_buffer("labels", torch.zeros(about.count, dtype=torch.int64))
        network.register_buffer("nmi", torch.zeros(()))
        return network

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """The head has no momentum, as in the released code."""
        optimizer = super().make_optimizer(network)
        head = {*network["head"].parameters()}
        for group in [*optimizer.param_groups] if self.optimizer == "sgd" else []:
            own = [weight for weight in group["params"] if weight in head]
            group["params"] = [weight for weight in group["params"] if weight not in head]
            optimizer.add_param_group({**group, "params": own, "momentum": 0.0, "nesterov": False})
        return optimizer

    def before_epoch(
        self, network: nn.ModuleDict, context: StageContext, epoch: int
    ) -> list[nn.Module]:
        """Cluster all images and draw the head anew."""
        if epoch % self.reassign_every:
            return []
        labels = self.cluster(self.features(network, context), context, epoch)
        before = network.labels.cpu().numpy()
        network.nmi.fill_(0.0 if epoch == 0 else normalized_mutual_information(before, labels))
        network.labels.copy_(torch.from_numpy(labels))
        weight, generator = (
            network["head"].weight,
            torch.Generator().manual_seed(context.seed_for("head", epoch)),
        )
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.01)
            network["head"].bias.zero_()
        return [network["head"]]

    def features(self, network: nn.ModuleDict, context: StageContext) -> ArrayRows:
        """The classifier's last layer for all images, in the order of the set; on disk if they are many."""
        images, training = context.images["images"], network.training
        values = None
        network.eval()
        with torch.no_grad():
            for first, pixels in iter_batches(images, context.runtime):
                with context.runtime.autocast():
                    deepest = backbone_features(
                        network["backbone"], normalize(pixels, self.normalization)
                    )
                    found = network["classifier"](deepest).float().cpu().numpy()
                if values is None:
                    shape, large = (
                        (len(images), found.shape[1]),
                        len(images) * found.shape[1] * 4 > IN_MEMORY,
                    )
                    file = context.checkpoints / "features.npy"
                    values = (
                        np.lib.format.open_memmap(file, "w+", "f4", shape)
                        if large
                        else np.empty(shape, "f4")
                    )
                values[first : first + len(found)] = found
                context.pause_point()
        network.train(training)
        return ArrayRows(values)

    def cluster(self, features: ArrayRows, context: StageContext, epoch: int) -> numpy.ndarray:
        """(N,) int64: the cluster of each row, after whitening and k-means."""
        device = (
            context.runtime.device if context.runtime.device.type == "cuda" else torch.device("cpu")
        )
        told = context.note if epoch == 0 else lambda text: None

        def blocks() -> Iterator[numpy.ndarray]:
            return (block for _, block in features.blocks())

        whiten, _ = fit_pca(
            blocks, features.count, features.width, self.components, Whitening(), device, told
        )
        mapped = panel_transform([whiten, L2])
        rows = ArrayRows(np.concatenate([mapped(block) for block in blocks()]))
        images, gpu = context.images["images"], faiss_gpu(str(context.runtime.device))
        check_rows(rows, self.k, lambda row: images.ids[row])
        state = initial_centroids(rows, self.k, "random", context.seed_for("clusters", epoch))
        for _ in range(self.iterations):
            state = lloyd_step(rows, state, gpu)
            context.pause_point()
        assigner = Assigner(state.centroids, gpu)
        return np.concatenate([assigner.nearest(block)[1][:, 0] for _, block in rows.blocks()])

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """(N,) rows in which every cluster that has images comes equally often; its images take turns."""
        if self.sampling == "uniform":
            return super().order(network, context, epoch)
        labels = network.labels.cpu().numpy()
        return class_balanced_order(
            context.seed_for("order", epoch), np.arange(len(labels)), labels
        )

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = normalize(self.augment(images, rng), self.normalization)
        logits = network["head"](
            F.relu(network["classifier"](backbone_features(network["backbone"], seen)))
        ).float()
        labels = network.labels[rng.ids]
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy, "nmi": network.nmi}

    def augment(self, images: Tensor, rng: PerImageRng) -> Tensor:
        """(B, 3, S, S) float in [0, 1]: a random part of each image at its size, mirrored or not."""
        return random_resized_crop(images, rng, images.shape[-1], (self.crop, 1.0), flip=self.flip)

    def preview(self, images: Tensor, rng: PerImageRng) -> dict[str, Tensor]:
        """For a picture: the image as it is clustered, and crops of it as different epochs draw them."""
        return {
            "clustered": images,
            **{f"crop {i + 1}": self.augment(images, rng) for i in range(3)},
        }


@dataclass
class ArrayRows:
    """Rows in memory, or mapped from a file, as k-means reads them."""

    values: numpy.ndarray  # (N, D) float32

    @property
    def count(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        return (
            (at, np.asarray(self.values[at : at + PANEL])) for at in range(0, self.count, PANEL)
        )
