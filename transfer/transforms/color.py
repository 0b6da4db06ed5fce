"""Colors of batched images, with factors for each image; images are (B, 3, H, W), uint8 or float.

Float images are in [0, 1]. Brightness, contrast, saturation and gray are affine maps of a pixel's
color, (B, 3, 4): a matrix and, in the last column, an offset. Maps compose into one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, with the digits of torchvision
# Removes one direction of color (Doersch et al., 2015); constants of the released code of Jigsaw++.
PROJECTION = ((5 / 6, 1 / 3, -1 / 6), (1 / 3, 1 / 3, 1 / 3), (-1 / 6, 1 / 3, 5 / 6))


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 to float32 in [0, 1]; float images are returned unchanged."""
    return images.to(torch.float32).mul_(1 / 255) if images.dtype == torch.uint8 else images


def mix_colors(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply to the colors of each image its own map.

    Args:
        images: (B, 3, ...) float.
        matrices: (B, 3, 3), or (B, 3, 4) with an offset in the last column.
    """
    flat = images.flatten(2)
    # Mixed precision would round the product to bfloat16.
    with torch.autocast(images.device.type, enabled=False):
        if matrices.shape[2] == 4:
            return torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], flat).view_as(images)
        return torch.bmm(matrices, flat).view_as(images)


def identity_colors(count: int, device: torch.device | None = None) -> Tensor:
    """Return maps (count, 3, 4) that leave colors unchanged."""
    return torch.eye(3, 4, device=device).repeat(count, 1, 1)


def compose_colors(*maps: Tensor) -> Tensor:
    """Compose maps, (B, 3, 4) each, into one that applies the first map first."""
    composed, *others = maps
    for outer in others:
        # Sums instead of a product of matrices, which mixed precision would round.
        product = (outer[:, :, :3, None] * composed[:, None]).sum(2)
        product[:, :, 3] += outer[:, :, 3]
        composed = product
    return composed


def brightness_matrix(factors: Tensor) -> Tensor:
    """Return maps (B, 3, 4) that multiply pixels by `factors` (B,)."""
    return identity_colors(len(factors), factors.device) * factors[:, None, None]


def saturation_matrix(factors: Tensor, weights: tuple[float, float, float] = LUMA) -> Tensor:
    """Return maps (B, 3, 4) that multiply the distance of a pixel from its gray by `factors` (B,).

    `weights` of the channels define gray.
    """
    matrices = brightness_matrix(factors)
    gray = torch.tensor(weights, device=factors.device)
    matrices[:, :, :3] += (1 - factors)[:, None, None] * gray
    return matrices


def contrast_matrix(factors: Tensor, gray: Tensor) -> Tensor:
    """Return maps (B, 3, 4) that multiply the distance of a pixel from `gray` by `factors` (B,).

    `gray` (B,) is the mean gray of the image.
    """
    matrices = brightness_matrix(factors)
    matrices[:, :, 3] = ((1 - factors) * gray)[:, None]
    return matrices


def grayscale_matrix(chosen: Tensor, weights: tuple[float, float, float] = LUMA) -> Tensor:
    """Return maps (B, 3, 4) that make the images gray that are `chosen`, (B,) bool."""
    return saturation_matrix(1 - chosen.to(torch.float32), weights)


def mean_gray(images: Tensor) -> Tensor:
    """Return the mean gray of each image, (B,)."""
    means = images.flatten(2).mean(2, dtype=torch.float32)
    return (means * torch.tensor(LUMA, device=images.device)).sum(1)


def random_grayscale(images: Tensor, rng: PerImageRng, p: float) -> Tensor:
    """Make each image gray with probability `p`; float."""
    return mix_colors(to_float(images), grayscale_matrix(rng.chance(p)))


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of each image in HSV by `shift` (B,), in full turns; float.

    With M and m the largest and smallest value of a pixel, C = M - m its chroma, and h in [-3, 3]
    its hue in sixths of a turn (red 0, green 2, blue 4 or -2), the channel whose own hue is
    c = 0, 2, 4 becomes

        clamp(M + C - |3 C - |C h + C t||, m, M),   t = (6 shift - c) mod 6 - 3,

    where |3 - |h + t|| is the distance of the new hue from c. The channel is M within one sixth
    of c, falls linearly by C over the next sixth, and is m beyond. C h is computed directly, so
    nothing is divided by C:

        C h = sign(G - B) (max(R, min(G, B)) + max(G, B) - 2 R + C).
    """
    red, green, blue = to_float(images).unbind(1)
    upper, lower = torch.maximum(green, blue), torch.minimum(green, blue)
    most, least = torch.maximum(upper, red), torch.minimum(lower, red)
    chroma = most - least
    size = torch.maximum(lower, red, out=lower).add_(upper).sub_(red, alpha=2).add_(chroma)
    hue = torch.copysign(size, torch.sub(green, blue, out=upper), out=size)  # C h
    own = torch.tensor([0.0, 2.0, 4.0], device=images.device)
    turn = (6 * shift[:, None] - own).remainder(6) - 3
    turned = torch.addcmul(hue[:, None], chroma[:, None], turn[:, :, None, None]).abs_()
    both = torch.add(most, chroma, out=upper)
    turned = turned.sub_(chroma.mul_(3)[:, None]).abs_()
    turned = torch.sub(both[:, None], turned, out=turned)
    return torch.clamp(turned, least[:, None], most[:, None], out=turned)


# sRGB (IEC 61966-2-1) to XYZ, and its white, D65 for the observer of 2 degrees.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_SRGB_KNEE, _LINEAR_KNEE = 0.04045, 0.04045 / 12.92
_ROOT_KNEE = 6 / 29  # of CIE L*a*b*: below its cube, the cube root is replaced by its tangent


def _power_with_line(
    x: Tensor, knee: float, slope: float, scale: float, offset: float, exponent: float
) -> Tensor:
    """Return ((x + offset) * scale) ** exponent above `knee`, and a line of `slope` below it.

    The line continues the value at `knee`.
    """
    # A logarithm and an exponential take a third of a power's time; clamps are faster than a mask.
    curved = x.clamp(min=knee).add_(offset).mul_(scale).log_().mul_(exponent).exp_()
    return curved.add_(x.clamp(max=knee).sub_(knee), alpha=slope)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB, uint8 or float in [0, 1], to CIE L*a*b* under D65; float.

    L is in 0..100, a and b are within about 110 of 0.
    """
    linear = _power_with_line(to_float(images), _SRGB_KNEE, 1 / 12.92, 1 / 1.055, 0.055, 2.4)
    to_xyz = torch.tensor(_XYZ) / torch.tensor(_WHITE)[:, None]
    xyz = mix_colors(linear, to_xyz.to(images.device).expand(len(images), 3, 3))
    roots = _power_with_line(xyz, _ROOT_KNEE**3, 1 / (3 * _ROOT_KNEE**2), 1.0, 0.0, 1 / 3)
    to_lab = torch.tensor(
        [[0.0, 116, 0, -16], [500, -500, 0, 0], [0, 200, -200, 0]], device=images.device
    )
    return mix_colors(roots, to_lab.expand(len(images), 3, 4))


def lab_to_rgb(images: Tensor) -> Tensor:
    """Convert CIE L*a*b* under D65 to sRGB in [0, 1], both float; colors outside are clipped."""
    to_roots = torch.tensor(
        [
            [1 / 116, 1 / 500, 0, 16 / 116],
            [1 / 116, 0, 0, 16 / 116],
            [1 / 116, 0, -1 / 200, 16 / 116],
        ],
        device=images.device,
    )
    roots = mix_colors(images, to_roots.expand(len(images), 3, 4))
    roots[:, 2].clamp_(min=0)  # negative Z is clipped, as in scikit-image
    xyz = _power_with_line(roots, _ROOT_KNEE, 3 * _ROOT_KNEE**2, 1.0, 0.0, 3.0)
    to_linear = torch.linalg.inv(torch.tensor(_XYZ, dtype=torch.float64)) * torch.tensor(_WHITE)
    linear = mix_colors(xyz, to_linear.to(images.device, torch.float32).expand(len(images), 3, 3))
    encoded = _power_with_line(linear, _LINEAR_KNEE, 12.92 / 1.055, 1.0, 0.0, 1 / 2.4)
    return encoded.mul_(1.055).sub_(0.055).clamp_(0, 1)
