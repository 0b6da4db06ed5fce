"""The training loop of pretexts and targets, with exact resume.

It has mixed precision, gradient accumulation and checkpoints. All randomness follows from the
stage's seed, the epoch and the image, so a run that was killed and resumed takes exactly the steps
of an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from transfer.datasets.packed.batch_loader import Batches
from transfer.errors import TransferError
from transfer.training.checkpoint import save_checkpoint
from transfer.training.clock import Clock
from transfer.training.recipe import TrainableStage
from transfer.training.state import TrainingState
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.formatting import figure_texts, plural
from transfer.utils.lazy_imports import np, torch
from transfer.utils.logger import logger

if TYPE_CHECKING:
    import numpy
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from transfer.artifacts import Images
    from transfer.stage.context import StageContext

CHECKPOINT = "training.safetensors"
REPORT_EVERY = 20  # steps between reports of the loss, which wait for the device

# (network, uint8 images (B, 3, H, W), random numbers whose `ids` are the images' rows in the set)
# -> loss, figures of the batch by name
NetworkT = TypeVar("NetworkT", bound="nn.Module")
LossFn = Callable[[NetworkT, "Tensor", PerImageRng], "tuple[Tensor, dict[str, Tensor]]"]


def train(
    context: StageContext,
    recipe: TrainableStage,
    network: NetworkT,
    loss_of: LossFn[NetworkT],
    images: Images,
    order: Callable[[int], numpy.ndarray] | None = None,
    chance: float | None = None,
    before_epoch: Callable[[int], list[nn.Module]] | None = None,
    after_step: Callable[[float], None] | None = None,
) -> list[dict[str, float]]:
    """Train `network` in place. Return the mean loss and figures of each epoch.

    TransferError if the loss is not finite.

    Args:
        context: seed, device, checkpoints and progress.
        recipe: epochs, batch size, optimizer and learning rate.
        network: what is trained.
        loss_of: computes the loss and figures of a batch.
        images: the packed images.
        order: returns the rows to train on in an epoch, always equally many; by default all rows,
            shuffled.
        chance: the accuracy of guessing; a note states if training stays there.
        before_epoch: called with the epoch; returns the parts of the network that were initialized
            again, whose momenta are reset.
        after_step: called with the share of the training that is done.
    """
    order = order or (lambda epoch: shuffled_rows(context, epoch, len(images)))
    count = len(order(0))
    batch_size = min(recipe.batch_size, count)
    epoch_steps = count // batch_size
    total_steps = recipe.epochs * epoch_steps

    device = context.runtime.device
    network.to(device).to(memory_format=torch.channels_last)
    network.train()
    optimizer = recipe.make_optimizer(network)
    if context.runtime.compile:
        for part in network.children():
            part.compile()

    path = context.checkpoints / CHECKPOINT
    state = TrainingState.resume(path, network, optimizer, device)
    if state.epoch_steps == epoch_steps:
        _end_epoch(state, context, recipe, batch_size, chance)
    clock = Clock()
    saved = time.monotonic()

    # One bar over all epochs: users wait for the end.
    done = state.step * batch_size
    with (
        context.progress("training", total_steps * batch_size, "images", done) as progress,
        Batches(images, context.runtime, batch_size) as loader,
    ):
        while state.step < total_steps:
            epoch, first = divmod(state.step, epoch_steps)
            if before_epoch and first == 0:
                _reset_momenta(optimizer, before_epoch(epoch))
            rows = order(epoch)[first * batch_size : epoch_steps * batch_size]
            # Sorted rows read the mapped file forwards. The order within a batch has no effect.
            batches = np.sort(rows.reshape(-1, batch_size), axis=1)

            clock.start()
            for batch_rows, pixels in zip(batches, loader.each(batches), strict=True):
                clock.stop_waiting()
                ids = torch.from_numpy(batch_rows).to(device)
                torch.manual_seed(context.seed_for("step", state.step))  # for dropout
                draw_seed = context.seed_for("draw", epoch)
                learning_rate = recipe.learning_rate_at(state.step / epoch_steps)
                for group in optimizer.param_groups:
                    rate = recipe.peak_rate if group["constant"] else learning_rate
                    group["lr"] = rate * group["scale"]

                # Gradients add up over the parts of the batch.
                parts = min(recipe.accumulation_steps, len(ids))
                for part in range(parts):
                    share = slice(part * len(ids) // parts, (part + 1) * len(ids) // parts)
                    with context.runtime.autocast():
                        rng = PerImageRng(draw_seed, ids[share])
                        loss, figures = loss_of(network, pixels[share], rng)
                    weight = len(ids[share]) / len(ids)
                    (loss * weight).backward()
                    state.add({"loss": loss, **figures}, weight)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                state.step += 1
                state.epoch_steps += 1

                if after_step:
                    with torch.no_grad():
                        after_step(state.step / total_steps)
                clock.stop_computing()

                progress.advance(batch_size)
                if state.step % REPORT_EVERY == 0 or state.step % epoch_steps == 0:
                    means = state.means()
                    _check_loss(means["loss"], epoch, recipe)
                    progress.say(_progress_text(means, epoch, recipe, chance, clock))
                if context.stop.number or time.monotonic() - saved > context.runtime.save_every:
                    save_checkpoint(path, network, optimizer, state.to_json())
                    context.save_progress(
                        f"epoch {state.step / epoch_steps:.1f} of {recipe.epochs}"
                    )
                    saved = time.monotonic()
                context.pause_point()
                clock.start()
            _end_epoch(state, context, recipe, batch_size, chance)

    if state.history:
        context.figures.update(state.history[-1])
        context.figures["images/s"] = round(progress.rate)
        context.figures["waiting for data"] = f"{clock.waiting_percent:.1f} %"
    return state.history


def shuffled_rows(context: StageContext, epoch: int, count: int) -> numpy.ndarray:
    """Return (count,) int64: all rows in the order of an epoch of this stage."""
    return epoch_order(context.seed_for("order", epoch), count)


def epoch_order(seed: int, count: int) -> numpy.ndarray:
    """Return (count,) int64: a shuffle by the seed alone.

    Numpy guarantees that the stream of `RandomState` never changes.
    """
    return np.random.RandomState(seed % (1 << 32)).permutation(count)


def _reset_momenta(optimizer: Optimizer, parts: list[nn.Module]) -> None:
    """Set the momenta of some parts of the network to zero."""
    for part in parts:
        for parameter in part.parameters():
            # Not deleted: a fused step needs the momenta of all its weights or of none.
            for value in optimizer.state.get(parameter, {}).values():
                value.zero_()


def _check_loss(loss: float, epoch: int, recipe: TrainableStage) -> None:
    """Raise TransferError for a loss that is not finite."""
    if not math.isfinite(loss):
        raise TransferError(
            f"the loss is not finite in epoch {epoch + 1}; lower `learning_rate` "
            f"({recipe.peak_rate:g}), or use --precision float32"
        )


def _progress_text(
    means: dict[str, float], epoch: int, recipe: TrainableStage, chance: float | None, clock: Clock
) -> str:
    """The text after the progress bar."""
    figures = ", ".join(figure_texts(means))
    guessing = "" if chance is None else f", chance {100 * chance:.3g} %"
    waiting = f"waiting {clock.waiting_percent:.0f} %"
    return f"epoch {epoch + 1}/{recipe.epochs}, {figures}{guessing}, {waiting}"


def _end_epoch(
    state: TrainingState,
    context: StageContext,
    recipe: TrainableStage,
    batch_size: int,
    chance: float | None,
) -> None:
    """Add the epoch to the history. Log an accuracy at chance after a tenth; note it at the end."""
    means, seen = state.means(), state.epoch_steps * batch_size
    state.history.append({"epoch": len(state.history) + 1, **means})
    state.sums, state.epoch_steps = {}, 0
    done, tenth = len(state.history), max(1, recipe.epochs // 10)
    if chance is None or done not in (tenth, recipe.epochs):
        return
    noise = 3 * math.sqrt(chance * (1 - chance) / seen)
    if means["accuracy"] >= chance + noise:
        return
    text = (
        f"still at chance after {done} of {plural(recipe.epochs, 'epoch')} (accuracy "
        f"{100 * means['accuracy']:.2f} %, chance {100 * chance:.3g} %): some tasks stay there for "
        "long; if it lasts, try another learning rate or more epochs"
    )
    if done == recipe.epochs:
        context.note(text)
    else:
        logger.info("%s: %s", context.label, text)
