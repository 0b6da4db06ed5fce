"""Linear probe: what a linear classifier makes of each layer of a frozen network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages._layers import check_layers
from transfer.artifacts import Images, Model, Scores
from transfer.errors import TransferError
from transfer.lazy import F, np, torch
from transfer.stage import Images as Reads
from transfer.stage import Stage, option, reads
from transfer.training.embed import outputs, pooled
from transfer.training.loop import epoch_order

if TYPE_CHECKING:
    import numpy
    from torch import Tensor

    from transfer.plan import Planned
    from transfer.progress import Progress
    from transfer.work import Work

PROTOCOL = "linear/pooled-v1"
LARGEST = 65504.0  # of float16
FEWEST = 20  # training images below which nothing can be said
HELD_OUT = 0.1  # share of the training images that chooses the best layer, and is trained on by nothing


class Linear(Stage):
    """One linear layer on each of the network's layers, all in one pass over the images.

    Activations after their ReLU are averaged over the largest grid that leaves at most `dimensions` values, and
    standardised with the training images' statistics (batch norm without scale and shift, as in Zhang et al. 2016, for
    a network that does not change). SGD with momentum 0.9 and a cosine schedule; no augmentation; the images are put
    through the network once. The accuracy after the last epoch counts, on every image of the test split. Which layer is
    `best` is chosen on a tenth of the training split that is not trained on.
    """

    produces = Scores
    version = 2  # since what each test image adds is kept
    smoke = {"epochs": 3}
    images = {"train": Reads("train", labelled=True), "test": Reads("test", labelled=True)}

    model: str = reads(Model, "the network")
    layers: list[str] | None = option(
        None, "layers to probe; none: all with a ReLU of their own, from the first to the last", min_length=1
    )
    dimensions: int = option(9216, "values of a layer that the classifier sees, at most", ge=1)
    epochs: int = option(40, "passes over the training features", ge=1)
    batch: int = option(256, "images a step", ge=1)
    learning_rate: float = option(0.01, "the highest it gets", gt=0)
    weight_decay: float = option(5e-4, "on the weights", ge=0)

    def check(self, planned: Planned) -> None:
        """The model has the layers."""
        check_layers(planned, "layers", self.layers or [])

    def run(self, work: Work) -> None:
        model, train, test = work.inputs["model"], work.images["train"], work.images["test"]
        classes = max(int(train.labels.max()), int(test.labels.max())) + 1
        if len(train) < FEWEST:
            raise TransferError(f"{len(train)} training images are too few for a probe: at least {FEWEST}")
        if len(np.unique(train.labels)) < 2:
            raise TransferError("all training images have one label: there is nothing to classify")
        layers = self.layers or probed_layers(model)
        seen = {role: self._features(work, model, images, layers, role) for role, images in work.images.items()}
        # Drawn, not every n-th: in some sets the classes take turns.
        order = np.random.RandomState(0).permutation(len(train))
        choose, fit = np.split(order, [round(HELD_OUT * len(train))])
        outcomes, chosen = {}, {}
        with work.progress("probing", len(layers) * self.epochs, "epochs") as progress:
            for layer in layers:
                head = self._fit(work, layer, seen["train"][layer], train.labels, fit, classes, progress)
                chosen[layer] = right(head, seen["train"][layer], train.labels, choose).mean()
                outcomes[layer] = right(head, seen["test"][layer], test.labels, np.arange(len(test)))
                work.pause_point()
        best = max(layers, key=lambda layer: chosen[layer])
        outcomes = {"best": outcomes[best], **outcomes}
        figures = {name: float(values.mean()) for name, values in outcomes.items()}
        Scores.write(
            work.folder, protocol=PROTOCOL, settings=self.identity(), main="best",
            selected={"layer": best, "on": f"{HELD_OUT:.0%} of the training split, held out"},
            figures=figures, outcomes=outcomes,
            counts={"train": len(fit), "selection": len(choose), "test": len(test)},
        )  # fmt: skip
        work.figures.update({"best": f"{best} {figures[best]:.2f} %", **{k: round(v, 2) for k, v in figures.items()}})

    def _features(
        self, work: Work, model: Model, images: Images, layers: list[str], role: str
    ) -> dict[str, numpy.ndarray]:
        """Layer -> (N, D) float16, in files that are mapped: all layers from one pass through the network."""
        files: dict[str, numpy.ndarray] = {}
        with work.progress(f"reading {role}", len(images), "images") as progress:
            for first, found in outputs(model, images, layers, work.machine):
                for layer in layers:
                    block = pooled(found[layer], grid(found[layer], self.dimensions), "average").cpu().numpy()
                    if layer not in files:
                        path = work.checkpoints / f"{role}-{layer}.npy"
                        files[layer] = np.lib.format.open_memmap(path, "w+", np.float16, (len(images), block.shape[1]))
                    if not np.isfinite(block).all():
                        row = first + int((~np.isfinite(block).all(axis=1)).argmax())
                        raise TransferError(f"layer {layer} says of {images.ids[row]} what is no finite number")
                    files[layer][first : first + len(block)] = block.clip(-LARGEST, LARGEST)
                progress.advance(len(next(iter(found.values()))))
                work.pause_point()
        return files

    def _fit(self, work: Work, layer: str, features: numpy.ndarray, labels: numpy.ndarray, rows: numpy.ndarray,
             classes: int, progress: Progress) -> Head:  # fmt: skip
        """Train one linear layer on the given rows."""
        mean, scale = _statistics(features, rows)
        head = Head(torch.zeros(features.shape[1], classes), torch.zeros(classes), mean, scale)
        head.weight.requires_grad_(), head.bias.requires_grad_()
        groups = [{"params": [head.weight], "weight_decay": self.weight_decay}, {"params": [head.bias]}]
        optimizer = torch.optim.SGD(groups, self.learning_rate, momentum=0.9, fused=True)
        steps = self.epochs * -(-len(rows) // self.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        wanted = torch.from_numpy(labels)
        for epoch in range(self.epochs):
            order = rows[epoch_order(work.seed_for("probe", layer, epoch), len(rows))]
            for start in range(0, len(order), self.batch):
                batch = np.sort(order[start : start + self.batch])
                F.cross_entropy(head(features[batch]), wanted[batch]).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
            progress.advance(1)
            work.pause_point()
        return head


class Head:
    """A linear classifier on standardised features."""

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor):
        self.weight, self.bias, self.mean, self.scale = weight, bias, mean, scale

    def __call__(self, features: numpy.ndarray) -> Tensor:
        """(n, D) float16 to (n, classes)."""
        standard = (torch.from_numpy(np.ascontiguousarray(features)).float() - self.mean) * self.scale
        return standard @ self.weight + self.bias


def right(head: Head, features: numpy.ndarray, labels: numpy.ndarray, rows: numpy.ndarray) -> numpy.ndarray:
    """(len(rows),) 100 where the head names the row right, 0 elsewhere."""
    blocks = [rows[start : start + 1024] for start in range(0, len(rows), 1024)]
    with torch.inference_mode():
        named = [head(features[block]).argmax(1).numpy() == labels[block] for block in blocks]
    return 100.0 * np.concatenate(named)


def grid(activations: Tensor, dimensions: int) -> int:
    """The largest side of a pooling grid that leaves at most `dimensions` values."""
    return max(1, int((dimensions / activations.shape[1]) ** 0.5)) if activations.ndim == 4 else 1


def probed_layers(model: Model) -> list[str]:
    """The layers that a probe reads by default: all but the poolings that stand between them."""
    layers = [name for name in model.card["layers"] if not name.startswith("pool")]
    # Deep networks are read once a block: the last layer before the map shrinks.
    shapes = model.card["layers"]
    return [
        a
        for a, b in zip(layers, [*layers[1:], None], strict=True)
        if b is None or len(layers) <= 8 or shapes[a][1:] != shapes[b][1:]
    ]


def _statistics(features: numpy.ndarray, rows: numpy.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and one over the deviation of each value, over the given rows; a constant value counts for nothing."""
    total = np.zeros(features.shape[1], dtype=np.float64)
    squares = total.copy()
    for start in range(0, len(rows), 1024):
        block = features[rows[start : start + 1024]].astype(np.float64)
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(rows)
    variance = np.maximum(squares / len(rows) - mean**2, 0)
    scale = np.where(variance > 1e-10, 1 / np.sqrt(np.maximum(variance, 1e-10)), 0)
    return torch.from_numpy(mean).float(), torch.from_numpy(scale).float()
