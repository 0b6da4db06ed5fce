"""Colors of batched images, each image by its own factors. Images are (B, 3, H, W), uint8 or float in [0, 1].

Brightness, contrast, saturation, gray and the projection are affine maps of a pixel's color, (B, 3, 4): a matrix and,
in the last column, an offset. They compose into one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.utils.lazy_imports import torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.transforms.per_image_rng import PerImageRng

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, in the digits that torchvision uses
# Removes one direction of color, as Doersch et al. (2015) do; constants of the released code of Jigsaw++.
PROJECTION = ((5 / 6, 1 / 3, -1 / 6), (1 / 3, 1 / 3, 1 / 3), (-1 / 6, 1 / 3, 5 / 6))


def to_float(images: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]; float stays as it is."""
    return images.to(torch.float32).mul_(1 / 255) if images.dtype == torch.uint8 else images


def mix_colors(images: Tensor, matrices: Tensor) -> Tensor:
    """Apply to each image's colors its own map: (B, 3, ...) float and (B, 3, 3), or (B, 3, 4) with an offset."""
    flat = images.flatten(2)
    with torch.autocast(
        images.device.type, enabled=False
    ):  # a product of matrices would be rounded to bfloat16
        if matrices.shape[2] == 4:
            return torch.baddbmm(matrices[:, :, 3:], matrices[:, :, :3], flat).view_as(images)
        return torch.bmm(matrices, flat).view_as(images)


def identity_colors(count: int, device: torch.device | None = None) -> Tensor:
    return torch.eye(3, 4, device=device).repeat(count, 1, 1)


def compose_colors(*maps: Tensor) -> Tensor:
    """One map for several, (B, 3, 4) each, of which the first is applied first."""
    whole, *others = maps
    for after in others:
        # Sums instead of a product of matrices, which mixed precision would round.
        product = (after[:, :, :3, None] * whole[:, None]).sum(2)
        product[:, :, 3] += after[:, :, 3]
        whole = product
    return whole


def brightness_matrix(factors: Tensor) -> Tensor:
    """(B,) to (B, 3, 4): a pixel times `factors`."""
    return identity_colors(len(factors), factors.device) * factors[:, None, None]


def saturation_matrix(factors: Tensor, weights: tuple[float, float, float] = LUMA) -> Tensor:
    """(B,) to (B, 3, 4): a pixel's distance from its own gray times `factors`."""
    matrices = brightness_matrix(factors)
    matrices[:, :, :3] += (1 - factors)[:, None, None] * torch.tensor(
        weights, device=factors.device
    )
    return matrices


def contrast_matrix(factors: Tensor, gray: Tensor) -> Tensor:
    """(B,) and (B,) to (B, 3, 4): a pixel's distance from `gray`, the image's mean gray, times `factors`."""
    matrices = brightness_matrix(factors)
    matrices[:, :, 3] = ((1 - factors) * gray)[:, None]
    return matrices


def grayscale_matrix(chosen: Tensor, weights: tuple[float, float, float] = LUMA) -> Tensor:
    """(B,) bool to (B, 3, 4): gray where chosen, else as it is."""
    return saturation_matrix(1 - chosen.to(torch.float32), weights)


def projection_matrix(chosen: Tensor) -> Tensor:
    """(B,) bool to (B, 3, 4): one direction of color removed where chosen, else as it is."""
    matrices = identity_colors(len(chosen), chosen.device)
    removed = torch.tensor(PROJECTION, device=chosen.device)
    matrices[:, :, :3] = torch.where(chosen[:, None, None], removed, matrices[:, :, :3])
    return matrices


def mean_gray(images: Tensor) -> Tensor:
    """(B,): the mean of each image's gray."""
    return (
        images.flatten(2).mean(2, dtype=torch.float32) * torch.tensor(LUMA, device=images.device)
    ).sum(1)


def random_grayscale(images: Tensor, rng: PerImageRng, p: float) -> Tensor:
    return mix_colors(to_float(images), grayscale_matrix(rng.chance(p)))


def project_color(images: Tensor, rng: PerImageRng, p: float) -> Tensor:
    """One direction of color removed from images chosen with probability `p`; values may leave [0, 1]."""
    return mix_colors(to_float(images), projection_matrix(rng.chance(p)))


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Hues turned by `shift` (B,), in full turns, in HSV: the largest and the least of a pixel's values stay.

    Neither hue nor saturation is divided out: what is computed is chroma times hue, in few passes over memory.
    """
    red, green, blue = to_float(images).unbind(1)
    upper, lower = torch.maximum(green, blue), torch.minimum(green, blue)
    most, least = torch.maximum(upper, red), torch.minimum(lower, red)
    chroma = most - least
    # Hue is an angle of six sectors from red over green (2) to blue (4 or -2). Its size, 0..3, grows by the two
    # distances from red, one up to sector 2 and the other beyond; its sign is which of green and blue is more.
    size = torch.maximum(lower, red, out=lower).add_(upper).sub_(red, alpha=2).add_(chroma)
    hue = torch.copysign(size, torch.sub(green, blue, out=upper), out=size)
    # A channel is at `most` for two sectors around its own hue, falls by chroma over one, and is at `least` for two.
    # `turn` is such that hue + turn, -6..6, is how far the new hue is from the opposite of the channel's own.
    own = torch.tensor([0.0, 2.0, 4.0], device=images.device)
    turn = (6 * shift[:, None] - own).remainder(6) - 3
    turned = torch.addcmul(hue[:, None], chroma[:, None], turn[:, :, None, None]).abs_()
    both = torch.add(most, chroma, out=upper)
    turned = turned.sub_(chroma.mul_(3)[:, None]).abs_()  # 0..3 from its own hue
    turned = torch.sub(both[:, None], turned, out=turned)
    return torch.clamp(turned, least[:, None], most[:, None], out=turned)


def jitter_factors(
    rng: PerImageRng,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 1.0,
) -> Tensor:
    """(B, 4): three factors uniform over 1 - x .. 1 + x (not below 0), and a turn of hue uniform over -hue .. hue.

    With probability 1 - p an image gets 1, 1, 1 and 0, which change nothing.
    """
    high = torch.tensor([1 + brightness, 1 + contrast, 1 + saturation, hue], device=rng.device)
    low = torch.tensor(
        [max(0.0, 1 - brightness), max(0.0, 1 - contrast), max(0.0, 1 - saturation), -hue],
        device=rng.device,
    )
    share, chosen = rng.uniform(5).split([4, 1], dim=1)
    return torch.where(
        chosen < p,
        low + (high - low) * share,
        torch.tensor([1.0, 1.0, 1.0, 0.0], device=rng.device),
    )


def jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation and hue changed by `factors` (B, 4) of `jitter_factors`; float in [0, 1].

    One map of colors, then the hue, then one cut to [0, 1]. Torchvision cuts after each of the four, which it takes
    in random order: there, what one factor pushed over the edge stays lost, and here a later one may bring it back.
    Without any cut the order of the first three makes no difference, and that of the hue shows only in how gray the
    pixel is toward which saturation and contrast pull.
    """
    return unclamped_jitter(to_float(images), jitter_maps(factors), factors[:, 3]).clamp_(0, 1)


def jitter_maps(factors: Tensor) -> Tensor:
    """(B, 4) to the maps (B, 3, 4) of brightness, contrast and saturation for images whose mean gray is 1.

    What contrast adds is in proportion to it.
    """
    brightness, contrast, saturation, _ = factors.unbind(1)
    return compose_colors(
        brightness_matrix(brightness),
        contrast_matrix(contrast, brightness),
        saturation_matrix(saturation),
    )


def unclamped_jitter(images: Tensor, maps: Tensor, turn: Tensor) -> Tensor:
    """What `jitter` does before it cuts, by `jitter_maps` and turns of hue (B,)."""
    offset = maps[:, :, 3:] * mean_gray(images)[:, None, None]
    return adjust_hue(mix_colors(images, torch.cat((maps[:, :, :3], offset), dim=2)), turn)


def color_jitter(
    images: Tensor,
    rng: PerImageRng,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    p: float = 1.0,
) -> Tensor:
    """Each image's brightness, contrast, saturation and hue changed at random; see `jitter_factors` and `jitter`."""
    return jitter(images, jitter_factors(rng, brightness, contrast, saturation, hue, p))


# sRGB (IEC 61966-2-1) to XYZ, and its white, D65 for the observer of 2 degrees.
_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)
_SRGB_KNEE, _LINEAR_KNEE = 0.04045, 0.04045 / 12.92
_ROOT_KNEE = 6 / 29  # of CIE L*a*b*: below its cube, the cube root is replaced by its tangent


def _bent(
    x: Tensor, knee: float, slope: float, scale: float, offset: float, exponent: float
) -> Tensor:
    """((x + offset) * scale) ** exponent above `knee`, a line of `slope` below, where the two meet."""
    # A logarithm and an exponential are a third of a power's time, and clamps less than a choice.
    curved = x.clamp(min=knee).add_(offset).mul_(scale).log_().mul_(exponent).exp_()
    return curved.add_(x.clamp(max=knee).sub_(knee), alpha=slope)


def rgb_to_lab(images: Tensor) -> Tensor:
    """sRGB, uint8 or float in [0, 1], to CIE L*a*b* under D65 as float: L in 0..100, a and b within about 110 of 0."""
    linear = _bent(to_float(images), _SRGB_KNEE, 1 / 12.92, 1 / 1.055, 0.055, 2.4)
    to_xyz = torch.tensor(_XYZ) / torch.tensor(_WHITE)[:, None]
    xyz = mix_colors(linear, to_xyz.to(images.device).expand(len(images), 3, 3))
    roots = _bent(xyz, _ROOT_KNEE**3, 1 / (3 * _ROOT_KNEE**2), 1.0, 0.0, 1 / 3)
    to_lab = torch.tensor(
        [[0.0, 116, 0, -16], [500, -500, 0, 0], [0, 200, -200, 0]], device=images.device
    )
    return mix_colors(roots, to_lab.expand(len(images), 3, 4))


def lab_to_rgb(images: Tensor) -> Tensor:
    """CIE L*a*b* under D65 to sRGB in [0, 1], both float; what sRGB does not have is cut to its edge."""
    to_roots = [
        [1 / 116, 1 / 500, 0, 16 / 116],
        [1 / 116, 0, 0, 16 / 116],
        [1 / 116, 0, -1 / 200, 16 / 116],
    ]
    roots = mix_colors(
        images, torch.tensor(to_roots, device=images.device).expand(len(images), 3, 4)
    )
    roots[:, 2].clamp_(min=0)  # there is no less than no blue, as scikit-image has it too
    xyz = _bent(roots, _ROOT_KNEE, 3 * _ROOT_KNEE**2, 1.0, 0.0, 3.0)
    to_linear = torch.linalg.inv(torch.tensor(_XYZ, dtype=torch.float64)) * torch.tensor(_WHITE)
    linear = mix_colors(xyz, to_linear.to(images.device, torch.float32).expand(len(images), 3, 3))
    return (
        _bent(linear, _LINEAR_KNEE, 12.92 / 1.055, 1.0, 0.0, 1 / 2.4)
        .mul_(1.055)
        .sub_(0.055)
        .clamp_(0, 1)
    )
