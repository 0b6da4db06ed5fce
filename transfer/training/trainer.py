"""The one training loop: pretexts and targets; mixed precision, accumulation, checkpoints, exact resume.

All randomness follows from the stage's seed, the epoch and the image, so a run that was killed and resumed goes
through the very same steps as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import TransferError
from transfer.training.checkpoint import load_checkpoint, save_checkpoint
from transfer.training.recipe import TrainableStage
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import np, torch

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn

    from transfer.artifacts import Images
    from transfer.stage.context import StageContext

LOOK_EVERY = 20  # steps between looks at the loss: a look waits for the device

# (network, images uint8 (B, 3, H, W), draw, whose `ids` are their rows in the set) -> loss, named figures of the batch
LossFn = Callable[["nn.Module", "Tensor", PerImageRng], "tuple[Tensor, dict[str, Tensor]]"]


def train(
    context: StageContext,
    recipe: TrainableStage,
    network: nn.Module,
    loss_of: LossFn,
    images: Images,
    order: Callable[[int], numpy.ndarray] | None = None,
    chance: float | None = None,
    before_epoch: Callable[[int], list[nn.Module]] | None = None,
    after_step: Callable[[float], None] | None = None,
) -> list[dict[str, float]]:
    """Train `network` in place and return one entry an epoch: mean loss and figures.

    order: the rows of `images` to train on in a given epoch, always equally many (by default all, shuffled).
    chance: the accuracy of guessing, to tell a person when nothing is learned.
    before_epoch: is given the epoch, and returns the parts of the network that it drew anew: what the optimizer
    remembers of them is forgotten. after_step: is given the share of the training that is done.
    """
    if order is None:

        def order(epoch: int) -> numpy.ndarray:
            return shuffled_rows(context, epoch, len(images))

    return _Training(
        context, recipe, network, loss_of, images, order, chance, before_epoch, after_step
    ).run()


def shuffled_rows(context: StageContext, epoch: int, count: int) -> numpy.ndarray:
    """(count,) int64: all rows, in the order that an epoch of this stage has."""
    return epoch_order(context.seed_for("order", epoch), count)


def epoch_order(seed: int, count: int) -> numpy.ndarray:
    """(count,) int64: a shuffle that the seed alone decides, by a generator whose stream numpy has frozen."""
    return np.random.RandomState(seed % (1 << 32)).permutation(count)


class _Training:
    def __init__(
        self,
        context: StageContext,
        recipe: TrainableStage,
        network: nn.Module,
        loss_of: LossFn,
        images: Images,
        order: Callable[[int], numpy.ndarray],
        chance: float | None,
        before_epoch: Callable[[int], list[nn.Module]] | None,
        after_step: Callable[[float], None] | None,
    ):
        self.context, self.recipe, self.loss_of, self.images = context, recipe, loss_of, images
        self.order, self.chance = order, chance
        self.before_epoch, self.after_step = before_epoch, after_step
        count = len(order(0))
        self.batch = min(recipe.batch_size, count)
        self.steps = count // self.batch  # an epoch
        self.device = context.runtime.device
        self.network = network.to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = recipe.make_optimizer(network)
        if context.runtime.compile:
            for part in network.children():
                part.compile()
        self.path = context.checkpoints / "training.safetensors"
        self.history: list[dict[str, float]] = []
        self.step, self.sums, self.counted = (
            0,
            {},
            0,
        )  # step: of all epochs; sums: of this epoch so far
        self.waited = self.busy = 0.0

    def run(self) -> list[dict[str, float]]:
        self._resume()
        total = self.recipe.epochs * self.steps
        self.saved = time.monotonic()
        # One bar over all epochs: what a person waits for is the end.
        with (
            self.context.progress(
                "training", total * self.batch, "images", self.step * self.batch
            ) as progress,
            Batches(self.images, self.context.runtime, self.batch) as feed,
        ):
            while self.step < total:
                epoch, at = divmod(self.step, self.steps)
                if self.before_epoch and at == 0:
                    self._forget(self.before_epoch(epoch))
                order = self.order(epoch)[at * self.batch : self.steps * self.batch]
                # Sorted rows read the mapped file forwards; the order within a batch means nothing.
                rows = np.sort(order.reshape(-1, self.batch), axis=1)
                start = time.perf_counter()
                for some, images in zip(rows, feed.each(rows), strict=True):
                    self.waited += time.perf_counter() - start
                    self._step(epoch, torch.from_numpy(some).to(self.device), images)
                    progress.advance(self.batch)
                    if self.step % LOOK_EVERY == 0 or self.step % self.steps == 0:
                        progress.say(self._look(epoch))
                    self._pause()
                    start = time.perf_counter()
                self._end_epoch()
        if self.history:
            self.context.figures.update(self.history[-1])
            self.context.figures["images/s"] = round(progress.rate)
            self.context.figures["waiting for data"] = (
                f"{100 * self.waited / max(1e-9, self.waited + self.busy):.1f} %"
            )
        return self.history

    def _step(self, epoch: int, ids: Tensor, images: Tensor) -> None:
        start = time.perf_counter()
        torch.manual_seed(self.context.seed_for("step", self.step))  # for dropout
        draw_seed = self.context.seed_for("draw", epoch)
        rate = self.recipe.learning_rate_at(self.step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        parts = min(self.recipe.accumulation_steps, len(ids))
        for part in range(parts):
            share = slice(part * len(ids) // parts, (part + 1) * len(ids) // parts)
            with self.context.runtime.autocast():
                loss, figures = self.loss_of(
                    self.network, images[share], PerImageRng(draw_seed, ids[share])
                )
            weight = len(ids[share]) / len(ids)
            (loss * weight).backward()
            for name, value in {"loss": loss, **figures}.items():
                self.sums[name] = self.sums.get(name, 0.0) + value.detach().float() * weight
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.counted += 1
        self.step += 1
        if self.after_step:
            with torch.no_grad():
                self.after_step(self.step / (self.recipe.epochs * self.steps))
        self.busy += time.perf_counter() - start

    def _forget(self, parts: list[nn.Module]) -> None:
        for part in parts:
            for parameter in part.parameters():
                # Zeroed, not taken out: a fused step wants the momenta of all its weights or of none.
                for value in self.optimizer.state.get(parameter, {}).values():
                    value.zero_()

    def _look(self, epoch: int) -> str:
        """What stands behind the progress bar; the place where a loss that is no number is noticed."""
        means = self._means()
        if not math.isfinite(means["loss"]):
            raise TransferError(
                f"the loss is not a finite number in epoch {epoch + 1}: lower `learning_rate` "
                f"({self.recipe.learning_rate}), or use --precision float32"
            )
        text = f"epoch {epoch + 1}/{self.recipe.epochs}, " + ", ".join(
            f"{name} {value:.3f}" for name, value in means.items()
        )
        if self.chance is not None:
            text += f" (chance {self.chance:.3f})"
        return f"{text}, waiting {100 * self.waited / max(1e-9, self.waited + self.busy):.0f} %"

    def _means(self) -> dict[str, float]:
        return {name: float(value) / max(1, self.counted) for name, value in self.sums.items()}

    def _end_epoch(self) -> None:
        means = self._means()
        self.history.append({"epoch": len(self.history) + 1, **means})
        self.sums, seen = {}, self.counted * self.batch
        self.counted = 0
        tenth = max(1, self.recipe.epochs // 10)
        if self.chance is not None and len(self.history) == tenth < self.recipe.epochs:
            noise = 3 * math.sqrt(self.chance * (1 - self.chance) / seen)
            if means["accuracy"] < self.chance + noise:
                self.context.note(
                    f"still at chance after {tenth} of {self.recipe.epochs} epochs (accuracy {means['accuracy']:.4f}, "
                    f"chance {self.chance:.4f}): "
                    "some tasks stay there for long; if it lasts, try another learning rate or more epochs"
                )

    def _pause(self) -> None:
        """Save now and then, and when a signal asks to stop."""
        if (
            self.context.stop.number
            or time.monotonic() - self.saved > self.context.runtime.save_every
        ):
            self._save()
        self.context.pause_point()

    def _save(self) -> None:
        facts = {
            "step": self.step,
            "history": self.history,
            "counted": self.counted,
            "sums": {name: float(value) for name, value in self.sums.items()},
        }
        save_checkpoint(self.path, self.network, self.optimizer, facts)
        self.context.save_progress(f"epoch {self.step / self.steps:.1f} of {self.recipe.epochs}")
        self.saved = time.monotonic()

    def _resume(self) -> None:
        facts: dict[str, Any] | None = load_checkpoint(self.path, self.network, self.optimizer)
        if facts is None:
            return
        self.step, self.history, self.counted = facts["step"], facts["history"], facts["counted"]
        self.sums = {
            name: torch.tensor(value, device=self.device) for name, value in facts["sums"].items()
        }
        if self.counted == self.steps:
            self._end_epoch()
