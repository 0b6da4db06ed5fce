"""DeepCluster (Caron, Bojanowski, Joulin & Douze, ECCV 2018): classify the clusters of features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from transfer.errors import InvalidOption
from transfer.numerics.cluster_agreement import normalized_mutual_information
from transfer.numerics.feature_transforms import L2, panel_transform
from transfer.numerics.kmeans import (
    IN_MEMORY,
    PANEL,
    check_rows,
    initial_centroids,
    lloyd_step,
)
from transfer.numerics.nearest_centroids import Assigner, faiss_gpu
from transfer.numerics.pca import Whitening, fit_pca
from transfer.stage.image_input import DatasetInfo
from transfer.stage.label_joining import class_balanced_order
from transfer.stage.options import option
from transfer.training.crop_augment import RandomResizedCropAugment
from transfer.training.inference import iter_batches
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
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


class DeepCluster(RandomResizedCropAugment, Pretext):
    """Which of k clusters is the image in? The network's features are clustered before each epoch.

    The network in eval mode computes the features of all images, uncropped and in the dataset's
    order: the classifier's last layer before its ReLU, whitened along `components` directions and
    scaled to unit length. K-means starts from random rows, others in each epoch; empty clusters are
    placed beside loose ones. Loss: cross-entropy over the clusters, images cropped and mirrored at
    random. The last layer is re-initialized with each clustering. The figure `nmi` compares the
    clusters with the previous ones.
    Source: the paper and its released code. The published network is `alexnet_deepcluster`; other
    backbones get colors instead of its Sobel gradients.
    Traps: features in shuffled order would label other images. A cluster that is still empty is
    left out. Every cluster is trained on equally often, or a few large ones would suffice. The head
    has no momentum from past labels.
    """

    paper = "Caron, Bojanowski, Joulin & Douze, ECCV 2018"
    version: ClassVar[int] = 2  # since the order of images is `class_balanced_order`
    smoke: ClassVar[dict[str, Any]] = {**Pretext.smoke, "k": 20, "components": 16}

    k: int = option(10000, "number of clusters", ge=2)
    components: int = option(256, "principal directions that features are whitened along", ge=1)
    iterations: int = option(20, "passes of k-means over all images", ge=1)
    reassign_every: int = option(1, "epochs from one clustering to the next", ge=1)
    layers: list[Annotated[int, Field(ge=1)]] = option(
        [4096, 4096],
        "units of the classifier's layers; the last layer's output is clustered; []: the backbone",
    )
    dropout: float = option(0.5, "dropout before each layer of the classifier", ge=0, lt=1)
    sampling: Literal["uniform", "balanced"] = option(
        "balanced", "uniform: every image once per epoch; balanced: every cluster equally often"
    )

    defaults: ClassVar[dict[str, Any]] = {
        "epochs": 200,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "weight_decay": 1e-5,
        "schedule": "constant",
    }

    def validate_plan(self, planned: PlannedStage[Any]) -> None:
        """Raise InvalidOption for more clusters than images, or too many directions."""
        count = planned.images["images"].stage.count
        if self.k > count:
            raise InvalidOption(
                "k", f"{self.k} clusters of {count} images: use {count} clusters or fewer"
            )
        limit = min([count - 1, *self.layers[-1:]])
        if self.components > limit:
            raise InvalidOption(
                "components", f"{self.components} directions: use {limit} directions or fewer"
            )

    def chance(self, dataset: DatasetInfo) -> float:
        return 1 / self.k

    def network(self, backbone: Network, dataset: DatasetInfo) -> nn.ModuleDict:
        """Return backbone, classifier, whose output is clustered, and head.

        Buffers: `labels`, the cluster of each image; `nmi`, the agreement with the clusters before.
        """
        widths = [backbone_feature_dim(backbone, dataset.size), *self.layers]
        if self.components > widths[-1]:
            raise ValueError(
                f"`components`: {self.components} directions of {widths[-1]} features: lower it"
            )
        steps: list[nn.Module] = []
        for inputs, outputs in zip(widths, self.layers, strict=False):
            steps += [nn.Dropout(self.dropout), nn.Linear(inputs, outputs), nn.ReLU()]
        classifier, head = nn.Sequential(*steps[:-1]), nn.Linear(widths[-1], self.k)
        network = nn.ModuleDict({"backbone": backbone, "classifier": classifier, "head": head})
        network.register_buffer("labels", torch.zeros(dataset.count, dtype=torch.int64))
        network.register_buffer("nmi", torch.zeros(()))
        return network

    def make_optimizer(self, network: nn.Module) -> Optimizer:
        """Return the optimizer; with `sgd` the head has no momentum, as in the released code."""
        optimizer = super().make_optimizer(network)
        if self.optimizer not in ("sgd", "nesterov"):
            return optimizer
        head = {*network.get_submodule("head").parameters()}
        for group in [*optimizer.param_groups]:
            own = [weight for weight in group["params"] if weight in head]
            group["params"] = [weight for weight in group["params"] if weight not in head]
            optimizer.add_param_group({**group, "params": own, "momentum": 0.0, "nesterov": False})
        return optimizer

    def before_epoch(
        self, network: nn.ModuleDict, context: StageContext, epoch: int
    ) -> list[nn.Module]:
        """Cluster all images and re-initialize the head."""
        if epoch % self.reassign_every:
            return []
        labels = self.cluster(self.features(network, context), context, epoch)
        buffer = network.get_buffer("labels")
        previous = buffer.cpu().numpy()
        nmi = 0.0 if epoch == 0 else normalized_mutual_information(previous, labels)
        network.get_buffer("nmi").fill_(nmi)
        buffer.copy_(torch.from_numpy(labels))
        head = network["head"]
        weight, bias = head.get_parameter("weight"), head.get_parameter("bias")
        generator = torch.Generator().manual_seed(context.seed_for("head", epoch))
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.01)
            bias.zero_()
        return [head]

    def features(self, network: nn.ModuleDict, context: StageContext) -> ArrayRows:
        """Return the classifier's output for all images in order; on disk where it is large."""
        images, training = context.images["images"], network.training
        values = None
        network.eval()
        with torch.no_grad():
            for first, pixels in iter_batches(images, context.runtime):
                with context.runtime.autocast():
                    inputs = normalize(pixels, self.normalization)
                    deepest = backbone_features(network["backbone"], inputs)
                    rows = network["classifier"](deepest).float().cpu().numpy()
                if values is None:
                    values = allocate_rows(len(images), rows.shape[1], context)
                values[first : first + len(rows)] = rows
                context.pause_point()
        network.train(training)
        assert values is not None  # a packed dataset has an image
        return ArrayRows(values)

    def cluster(self, features: ArrayRows, context: StageContext, epoch: int) -> numpy.ndarray:
        """Return (N,) int64, the cluster of each row, after whitening and k-means.

        Args:
            features: (N, D), the rows to cluster.
            context: the run of the stage; notes of the whitening are shown in the first epoch.
            epoch: decides the rows that k-means starts from.
        """
        device = context.runtime.device
        if device.type != "cuda":
            device = torch.device("cpu")
        note = context.note if epoch == 0 else lambda text: None

        def blocks() -> Iterator[numpy.ndarray]:
            return (block for _, block in features.blocks())

        whiten, _ = fit_pca(
            blocks, features.count, features.width, self.components, Whitening(), device, note
        )
        transform = panel_transform([whiten, L2])
        rows = ArrayRows(np.concatenate([transform(block) for block in blocks()]))
        images, gpu = context.images["images"], faiss_gpu(str(context.runtime.device))
        check_rows(rows, self.k, lambda row: images.ids[row])
        state = initial_centroids(rows, self.k, "random", context.seed_for("clusters", epoch))
        for _ in range(self.iterations):
            state = lloyd_step(rows, state, gpu)
            context.pause_point()
        assigner = Assigner(state.centroids, gpu)
        return np.concatenate([assigner.nearest(block)[1][:, 0] for _, block in rows.blocks()])

    def order(self, network: nn.ModuleDict, context: StageContext, epoch: int) -> numpy.ndarray:
        """Return (N,) rows in which every non-empty cluster is equally frequent.

        The images of a cluster take turns. With `sampling: uniform`, each row occurs once.
        """
        if self.sampling == "uniform":
            return super().order(network, context, epoch)
        labels = network.get_buffer("labels").cpu().numpy()
        seed = context.seed_for("order", epoch)
        return class_balanced_order(seed, np.arange(len(labels)), labels)

    def loss(
        self, network: nn.ModuleDict, images: Tensor, rng: PerImageRng
    ) -> tuple[Tensor, dict[str, Tensor]]:
        crops = normalize(self.augment(images, rng), self.normalization)
        classified = network["classifier"](backbone_features(network["backbone"], crops))
        logits = network["head"](F.relu(classified)).float()
        labels = network.get_buffer("labels")[rng.ids]
        accuracy = (logits.argmax(1) == labels).float().mean()
        figures = {"accuracy": accuracy, "nmi": network.get_buffer("nmi")}
        return F.cross_entropy(logits, labels), figures


class ArrayRows:
    """Rows (N, D) float32 in memory, or mapped from a file, as k-means reads them."""

    def __init__(self, values: numpy.ndarray):
        self.values = values
        self.count, self.width = values.shape

    def blocks(self) -> Iterator[tuple[int, numpy.ndarray]]:
        """Yield the first row and the values of each block."""
        for first in range(0, self.count, PANEL):
            yield first, np.asarray(self.values[first : first + PANEL])


def allocate_rows(count: int, width: int, context: StageContext) -> numpy.ndarray:
    """Return an array to fill: in memory, or on disk where it is large.

    Args:
        count: rows of the array.
        width: float32 values of a row.
        context: has the folder for the file.
    """
    if count * width * 4 > IN_MEMORY:
        file = context.checkpoints / "features.npy"
        return np.lib.format.open_memmap(file, "w+", "f4", (count, width))
    return np.empty((count, width), "f4")
