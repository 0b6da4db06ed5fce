"""Limited Context Inpainting (Jenni, Jin & Favaro, CVPR 2020): a part of the image drawn anew from a thin border of it.

A small network draws a patch of which it is shown the border alone; a discriminator of patches and the classifier, who
both learn to tell what was drawn, are its opponents. It also draws patches that it is shown whole: pasted into images
that count as unchanged, they make its handwriting no sign of anything. Sizes, weights and losses are the released
code's, but for the discriminator: DCGAN's, with cross-entropy instead of spectral norms and a hinge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.transforms.geometry import tiles
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

PATCH, BORDER = 48 / 80, 3 / 80  # of the image's side
HALVINGS = 3  # of a patch, before it is drawn again
WIDTHS = 48, 64  # channels of the first map of the inpainter, and of the discriminator
NOISE = 0.1 * 12**0.5  # width of the noise that stands for what is hidden, for images from -1 to 1
REBUILDING = 50.0  # weight of the squared error of what is shown


def sides(size: int) -> tuple[int, int]:
    """Side of a patch and width of its border in px, for images of `size` px."""
    step = 1 << HALVINGS
    return step * max(1, round(PATCH * size / step)), max(1, round(BORDER * size))


def parts(size: int) -> dict[str, nn.Module]:
    """The network that draws, from patches in -1 to 1 to numbers of any size, and the one that judges."""
    (patch, _), (width, judging) = sides(size), WIDTHS
    encoder: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.1)]
    channels = width
    for _ in range(HALVINGS):
        encoder.append(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False))
        encoder += [nn.BatchNorm2d(2 * channels), nn.LeakyReLU(0.1)]
        channels *= 2
    dcgan_init(encoder)
    side = patch >> HALVINGS
    body, features = trunk(patch, judging)
    return {
        "inpainter": nn.Sequential(*encoder, decoder((channels, side, side), patch, width=width)),
        "discriminator": nn.Sequential(*body, nn.Linear(features, 1)),
    }


def repaint(
    network: nn.ModuleDict, images: Tensor, rng: PerImageRng
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Images (B, 3, S, S) in [0, 1] with a patch drawn from its border, with one that was shown whole; loss; figures.

    The loss trains the inpainter and the discriminator. Gradients that come through the images are turned round: what
    tells the classifier more tells the inpainter what to avoid.
    """
    corners = _corners(images, rng)
    shown = 2 * tiles(images, 1, 1, sides(images.shape[-1])[0], corners)[:, 0] - 1
    hidden = _hidden(images)
    noise = NOISE * (rng.uniform(*shown.shape[1:]) - 0.5)
    drawn = network["inpainter"](torch.cat((torch.where(hidden, noise, shown), shown)))
    filled, rebuilt = torch.tanh(drawn.float()).chunk(2)
    judge = network["discriminator"]
    real, fake = judge(shown), judge(filled.detach())
    # See `_adversarial`: one backward pass, each part with its own gradients.
    fooling = gan_bce(call_with_frozen_weights(judge, filled), real=True)
    judging = gan_bce(real, real=True) + gan_bce(fake, real=False)
    squares = ((filled - shown) ** 2 * ~hidden).sum() / ((~hidden).sum() * 3 * len(shown))
    rebuilding = squares + ((rebuilt - shown) ** 2).mean()
    loss = REBUILDING * rebuilding + fooling + judging
    figures = {"rebuilding": rebuilding, "told apart": discriminator_accuracy(real, fake)}
    with_filled, with_rebuilt = (
        paste(images, reverse_gradient((p + 1) / 2), corners) for p in (filled, rebuilt)
    )
    return with_filled, with_rebuilt, loss, figures


def with_hidden(images: Tensor, rng: PerImageRng) -> Tensor:
    """Images (B, 3, S, S) in [0, 1], each with a patch of which the inpainter is not shown what is gray."""
    corners = _corners(images, rng)
    patches = tiles(images, 1, 1, sides(images.shape[-1])[0], corners)[:, 0]
    return paste(images, patches.masked_fill(_hidden(images), 0.5), corners)


def _corners(images: Tensor, rng: PerImageRng) -> Tensor:
    """(B, 1, 2): the upper left pixel of each image's patch."""
    patch, _ = sides(images.shape[-1])
    return rng.integers(images.shape[-1] - patch + 1, 1, 2)


def _hidden(images: Tensor) -> Tensor:
    """(patch, patch) bool: what the inpainter is not shown of a patch."""
    patch, border = sides(images.shape[-1])
    line = torch.arange(patch, device=images.device)
    inside = (line >= border) & (line < patch - border)
    return inside[:, None] & inside


def paste(images: Tensor, patches: Tensor, corners: Tensor) -> Tensor:
    """Images (B, 3, S, S) with patches (B, 3, p, p) laid on them at `corners` (B, 1, 2)."""
    width, inside = images.shape[-1], torch.arange(patches.shape[-1], device=images.device)
    rows, columns = (corners[:, 0, axis, None] + inside for axis in (0, 1))
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None].expand(-1, 3, -1)
    return images.flatten(2).scatter(2, index, patches.flatten(2)).view_as(images)


def reverse_gradient(values: Tensor) -> Tensor:
    """The same values to the bit; gradients come back with the other sign."""
    return 2 * values.detach() - values
