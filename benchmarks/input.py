"""How fast images become what a network is fed, beside the usual way: PIL in worker processes.

    python benchmarks/input.py [SECTION ...] [--images 2048 --rounds 5]

Sections (all of them where none is named):
- views: pairs of SimCLR views, 96 px from 96-px images with hue in HSV and blur, normalized. Ours on batches in one
  process; lightly's transform in two workers, or torchvision's of the same recipe where lightly is not installed.
- tiles: the nine tiles of Jigsaw++ from 96-px images, by the default recipe, beside PIL and numpy in two workers.

Both sides begin at the same images in memory and have two cores: ours two threads, the other two worker processes,
which stay alive between rounds. They take turns, round by round; medians and the median of paired ratios are printed.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image, ImageFilter
from torch.utils.data import DataLoader, Dataset

from stages.pretext._permutations import puzzle_tiles
from stages.pretext.jigsawpp import JigsawPP
from transfer.transforms.color import PROJECTION
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.transforms.simclr_views import SimCLRViews
from transfer.utils.runtime import Runtime

CORES = 2
SIZE = 96
BATCH = 256


class Pictures(Dataset):
    """Images in memory, handed to `transform` as PIL's."""

    def __init__(self, pixels: np.ndarray, transform: Callable[[Image.Image], object]):
        self.pixels, self.transform = pixels, transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> object:
        return self.transform(Image.fromarray(self.pixels[index]))


def smooth_noise(count: int) -> np.ndarray:
    """(count, SIZE, SIZE, 3) uint8: patches of color with grain, as photographs have them."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    images = (
        torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic").clamp_(0, 1).mul_(230)
    )
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

    def once() -> None:
        for _ in loader:
            pass

    return once


def in_batches(
    pixels: np.ndarray, transform: Callable[[torch.Tensor, PerImageRng], object]
) -> Callable[[], None]:
    """A pass over all images in batches, shuffled, read as training reads them."""
    whole, epoch = torch.from_numpy(pixels), iter(range(1 << 30))

    def once() -> None:
        seed = next(epoch)
        for ids in torch.randperm(len(whole)).split(BATCH):
            transform(whole[ids].permute(0, 3, 1, 2), PerImageRng(seed, ids))

    return once


def compare(
    what: str,
    count: int,
    rounds: int,
    ours: Callable[[], None],
    name: str,
    other: Callable[[], None],
) -> None:
    """Images/s of both, in turn; the first round warms both up."""

    def rate(once: Callable[[], None]) -> float:
        begun = time.perf_counter()
        once()
        return count / (time.perf_counter() - begun)

    pairs = [(rate(ours), rate(other)) for _ in range(rounds + 1)][1:]
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{what}: {mine:7,.0f}/s, {name} {theirs:7,.0f}/s, ratio {ratio:.2f} (median of {rounds})",
        flush=True,
    )


# Views


def pil_blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))


def twice(transform: Callable[[Image.Image], object], image: Image.Image) -> tuple[object, object]:
    return transform(image), transform(image)


def pil_views() -> tuple[str, Callable[[Image.Image], object]]:
    """Two views as lightly makes them, and by whom."""
    try:
        from lightly.transforms import SimCLRTransform
    except ImportError:
        one = T.Compose(
            [
                T.RandomResizedCrop(SIZE, scale=(0.08, 1.0)),
                T.RandomHorizontalFlip(),
                T.RandomApply([T.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
                T.RandomGrayscale(p=0.2),
                T.RandomApply([pil_blur], p=0.5),
                T.ToTensor(),
                T.Normalize(Normalization().mean, Normalization().std),
            ]
        )
        return "torchvision (lightly is not installed)", partial(twice, one)
    return "lightly", SimCLRTransform(input_size=SIZE)


def views(count: int, rounds: int) -> None:
    recipe, how = SimCLRViews(SIZE), Normalization()

    def pair(images: torch.Tensor, rng: PerImageRng) -> tuple[torch.Tensor, torch.Tensor]:
        return normalize(recipe(images, rng), how), normalize(recipe(images, rng), how)

    pixels = smooth_noise(count)
    name, transform = pil_views()
    compare(
        "pairs of SimCLR views",
        count,
        rounds,
        in_batches(pixels, pair),
        name,
        in_workers(pixels, transform),
    )


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
            tiles[place, channel] = values.crop((x, y, x + tile, y + tile))
        tiles[place] = (tiles[place] - tiles[place].mean()) / (tiles[place].std() + 1e-5 * 255)
    return torch.from_numpy(tiles)


def tiles(count: int, rounds: int) -> None:
    task = JigsawPP(backbone="alexnet")
    pixels = smooth_noise(count)
    compare(
        "images cut into Jigsaw++ tiles",
        count,
        rounds,
        in_batches(pixels, task.tiles),
        "PIL",
        in_workers(pixels, partial(pil_tiles, task)),
    )


SECTIONS = {"views": views, "tiles": tiles}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if unknown := set(asked.sections) - SECTIONS.keys():
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    runtime = Runtime(device_name="cpu", requested_threads=CORES)
    runtime.configure_threads()
    print(
        f"{CORES} threads beside {CORES} workers, batches of {BATCH}, {SIZE} px, torch {torch.__version__}"
    )
    for name in asked.sections or SECTIONS:
        SECTIONS[name](asked.images, asked.rounds)


if __name__ == "__main__":
    main()
