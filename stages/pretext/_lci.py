"""Limited Context Inpainting (Jenni, Jin & Favaro, CVPR 2020): a patch inpainted from its border.

A small network inpaints a patch of which it sees only a thin border. Its opponents are a
discriminator of patches and the classifier; both learn to detect inpainted patches. The network
also reconstructs patches that it sees whole. These are pasted into images of the class `unchanged`,
so that inpainting artifacts alone do not give the class away. Sizes, weights and losses are the
released code's, with two exceptions: the discriminator is DCGAN's and judges patches one by one,
with cross-entropy instead of spectral norms and a hinge; the decoder has no layer of stride 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.pretext._decoder import dcgan_init, decoder
from stages.pretext._gan import call_with_frozen_weights, discriminator_accuracy, gan_bce, trunk
from transfer.transforms.tiles import tiles
from transfer.utils.lazy_imports import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

PATCH, BORDER = 48 / 80, 3 / 80  # shares of the image's side
HALVINGS = 3  # of a patch's side in the inpainter's encoder
WIDTHS = 48, 64  # channels of the first map of the inpainter, and of the discriminator
NOISE = 0.1 * 12**0.5  # width of the noise in place of the hidden part, for images from -1 to 1
RECONSTRUCTION_WEIGHT = 50.0  # of the squared error of the visible part


def sides(size: int) -> tuple[int, int]:
    """Return the side of a patch and the width of its border in px, for images of `size` px."""
    step = 1 << HALVINGS
    return step * max(1, round(PATCH * size / step)), max(1, round(BORDER * size))


def parts(size: int) -> dict[str, nn.Module]:
    """Return the inpainter, whose inputs are patches in -1 to 1, and the discriminator."""
    (patch, _), (width, discriminator_width) = sides(size), WIDTHS
    encoder: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.1)]
    channels = width
    for _ in range(HALVINGS):
        encoder.append(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False))
        encoder += [nn.BatchNorm2d(2 * channels), nn.LeakyReLU(0.1)]
        channels *= 2
    dcgan_init(encoder)
    side = patch >> HALVINGS
    body, features = trunk(patch, discriminator_width)
    return {
        "inpainter": nn.Sequential(*encoder, decoder((channels, side, side), patch, width=width)),
        "discriminator": nn.Sequential(*body, nn.Linear(features, 1)),
    }


def repaint(
    network: nn.ModuleDict, images: Tensor, rng: PerImageRng
) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Inpaint a patch of each image (B, 3, S, S) in [0, 1].

    Return the images with patches inpainted from their borders, the images with patches that the
    inpainter saw whole, the loss of inpainter and discriminator, and the figures. Gradients through
    the images are reversed: the inpainter learns to avoid what helps the classifier.

    Args:
        network: has the parts `inpainter` and `discriminator`.
        images: (B, 3, S, S) float.
        rng: random numbers for each image.
    """
    corners = _corners(images, rng)
    patches = 2 * tiles(images, 1, 1, sides(images.shape[-1])[0], corners)[:, 0] - 1
    hidden = _hidden_mask(images)
    noise = NOISE * (rng.uniform(*patches.shape[1:]) - 0.5)
    inputs = torch.cat((torch.where(hidden, noise, patches), patches))
    filled, rebuilt = torch.tanh(network["inpainter"](inputs).float()).chunk(2)
    discriminator = network["discriminator"]
    real, fake = discriminator(patches), discriminator(filled.detach())
    # See `_gan`: one backward pass, and each part gets its own gradients.
    generator_loss = gan_bce(call_with_frozen_weights(discriminator, filled), real=True)
    discriminator_loss = gan_bce(real, real=True) + gan_bce(fake, real=False)
    visible = ((filled - patches) ** 2 * ~hidden).sum() / ((~hidden).sum() * 3 * len(patches))
    reconstruction = visible + ((rebuilt - patches) ** 2).mean()
    loss = RECONSTRUCTION_WEIGHT * reconstruction + generator_loss + discriminator_loss
    figures = {
        "rebuilding": reconstruction,
        "discriminator accuracy": discriminator_accuracy(real, fake),
    }
    with_filled = paste(images, reverse_gradient((filled + 1) / 2), corners)
    with_rebuilt = paste(images, reverse_gradient((rebuilt + 1) / 2), corners)
    return with_filled, with_rebuilt, loss, figures


def with_hidden(images: Tensor, rng: PerImageRng) -> Tensor:
    """Return images (B, 3, S, S) in [0, 1] in which the hidden part of a patch is gray."""
    corners = _corners(images, rng)
    patches = tiles(images, 1, 1, sides(images.shape[-1])[0], corners)[:, 0]
    return paste(images, patches.masked_fill(_hidden_mask(images), 0.5), corners)


def _corners(images: Tensor, rng: PerImageRng) -> Tensor:
    """(B, 1, 2): the upper left pixel of each image's patch."""
    patch, _ = sides(images.shape[-1])
    return rng.integers(images.shape[-1] - patch + 1, 1, 2)


def _hidden_mask(images: Tensor) -> Tensor:
    """(patch, patch) bool: the part of a patch that is hidden from the inpainter."""
    patch, border = sides(images.shape[-1])
    line = torch.arange(patch, device=images.device)
    inside = (line >= border) & (line < patch - border)
    return inside[:, None] & inside


def paste(images: Tensor, patches: Tensor, corners: Tensor) -> Tensor:
    """Return the images with patches pasted in.

    Args:
        images: (B, 3, S, S).
        patches: (B, 3, p, p).
        corners: (B, 1, 2), row and column of each patch's upper left pixel.
    """
    width, inside = images.shape[-1], torch.arange(patches.shape[-1], device=images.device)
    rows, columns = (corners[:, 0, axis, None] + inside for axis in (0, 1))
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None].expand(-1, 3, -1)
    return images.flatten(2).scatter(2, index, patches.flatten(2)).view_as(images)


def reverse_gradient(values: Tensor) -> Tensor:
    """Return the same values to the bit; their gradients change sign."""
    return 2 * values.detach() - values
