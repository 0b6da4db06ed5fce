"""How fast images become what a network is fed, beside the usual way: PIL in worker processes.

    python benchmarks/input.py [SECTION ...] [--images 2048 --rounds 5]

Sections (all of them where none is named):
- views: pairs of SimCLR's views, 96 px from 96-px images, with hue in HSV and blur, normalized.
  Ours are made of batches in one process. The alternative is lightly's transform in two workers, or
  torchvision's of the same recipe where lightly is not installed.
- tiles: the nine tiles of Jigsaw++ from 96-px images by the default recipe, beside PIL and numpy in
  two workers.

Both sides begin at the same images in memory and have two cores: two threads, or two worker
processes that stay alive between rounds. They take turns, round by round.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from itertools import count as counted

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.common import Pictures
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of, take_turns
from stages.pretext._permutations import puzzle_tiles
from stages.pretext.jigsawpp import JigsawPP
from transfer.models import backbone
from transfer.transforms.color import PROJECTION
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.runtime import Runtime

CORES = 2
SIZE = 96
BATCH = 256


def smooth_noise(count: int) -> np.ndarray:
    """(count, SIZE, SIZE, 3) uint8: patches of color with grain, as photographs have them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic")
    images = images.clamp_(0, 1).mul_(230)
    images += torch.rand(images.shape, generator=generator) * 25
    return images.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def in_workers(
    pixels: np.ndarray, transform: Callable[[Image.Image], object]
) -> Callable[[], None]:
    """A pass over all images by worker processes, which are started now."""
    loader = DataLoader(
        Pictures(pixels, transform),
        batch_size=BATCH,
        shuffle=True,
        num_workers=CORES,
        persistent_workers=True,
    )

    def run() -> None:
        for _ in loader:
            pass

    return run


def in_batches(
    pixels: np.ndarray, transform: Callable[[torch.Tensor, PerImageRng], object]
) -> Callable[[], None]:
    """A pass over all images in batches, shuffled, read as training reads them."""
    whole, epoch = torch.from_numpy(pixels), counted()

    def run() -> None:
        seed = next(epoch)
        for ids in torch.randperm(len(whole)).split(BATCH):
            transform(whole[ids].permute(0, 3, 1, 2), PerImageRng(seed, ids))

    return run


# Views


def blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def twice(transform: Callable[[Image.Image], object], image: Image.Image) -> tuple[object, object]:
    return transform(image), transform(image)


def pil_views(report: Report) -> tuple[str, Callable[[Image.Image], object]]:
    """Who makes the alternative's two views, and how."""
    try:
        from lightly.transforms import SimCLRTransform  # pyright: ignore[reportMissingImports]  # optional
    except ImportError:
        report.remark("lightly is not installed: views are beside torchvision's of the same recipe")
        recipe = [
            transforms.RandomResizedCrop(SIZE, scale=(0.08, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([blurred], p=0.5),
            transforms.ToTensor(),
            transforms.Normalize(Normalization().mean, Normalization().std),
        ]
        return "torchvision", partial(twice, transforms.Compose(recipe))
    return "lightly", SimCLRTransform(input_size=SIZE)


def views(count: int, rounds: int, report: Report) -> None:
    recipe, how = SimCLRViews(SIZE), Normalization()

    def pair(images: torch.Tensor, draw: PerImageRng) -> tuple[torch.Tensor, torch.Tensor]:
        return normalize(recipe(images, draw), how), normalize(recipe(images, draw), how)

    pixels = smooth_noise(count)
    name, transform = pil_views(report)
    sides = {"transfer": in_batches(pixels, pair), name: in_workers(pixels, transform)}
    compare("pairs of SimCLR's views", count, sides, rounds, report)


# Tiles


def pil_tiles(task: JigsawPP, image: Image.Image) -> torch.Tensor:
    """The nine tiles of an image as `task` makes them, one by one."""
    cell, tile, jitter = puzzle_tiles(SIZE, task.tile_size, task.shift)
    if random.random() < task.grayscale:
        image = image.convert("RGB", (1 / 3, 1 / 3, 1 / 3, 0) * 3)
    elif random.random() < task.color_projection:
        image = image.convert("RGB", tuple(value for row in PROJECTION for value in (*row, 0)))
    channels = image.split()
    start = [random.randint(0, SIZE - 3 * cell) for _ in range(2)]
    tiles = np.empty((9, 3, tile, tile), dtype=np.float32)
    for place in range(9):
        top = start[0] + place // 3 * cell + random.randint(0, jitter)
        left = start[1] + place % 3 * cell + random.randint(0, jitter)
        for channel, values in enumerate(channels):
            y, x = top + random.randint(0, task.shift), left + random.randint(0, task.shift)
            tiles[place, channel] = np.asarray(values.crop((x, y, x + tile, y + tile)))
        tiles[place] = (tiles[place] - tiles[place].mean()) / (tiles[place].std() + 1e-5 * 255)
    return torch.from_numpy(tiles)


def tiles(count: int, rounds: int, report: Report) -> None:
    task = JigsawPP(backbone=backbone("alexnet"))
    pixels = smooth_noise(count)
    in_pil = in_workers(pixels, partial(pil_tiles, task))
    sides = {"transfer": in_batches(pixels, task.tiles), "PIL": in_pil}
    compare("images cut into Jigsaw++ tiles", count, sides, rounds, report)


def compare(
    measured: str, count: int, sides: dict[str, Callable[[], None]], rounds: int, report: Report
) -> None:
    """Report the rates of two sides.

    Args:
        measured: What they make.
        count: How many they make in a pass.
        sides: Name -> a pass: ours, then the alternative.
        rounds: Passes of each.
        report: Where figures go.
    """
    rates = {name: lambda work=work: count / seconds_of(work) for name, work in sides.items()}
    report.compare(measured, "images/s", take_turns(rates, rounds), *sides)


SECTIONS = {"views": views, "tiles": tiles}


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    options = parsed(parser, images=32, rounds=1)
    if unknown := set(options.sections) - SECTIONS.keys():
        named = ", ".join(sorted(unknown))
        parser.error(f"no section {named}; there are {', '.join(SECTIONS)}")
    Runtime(device_name="cpu", requested_threads=CORES).configure_threads()
    with Report(__file__, options) as report:
        for name in options.sections or SECTIONS:
            SECTIONS[name](options.images, options.rounds, report)


if __name__ == "__main__":
    main()
