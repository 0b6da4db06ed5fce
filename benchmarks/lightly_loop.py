"""The training loop that lightly's examples of SimCLR and BYOL show, over the network of a task."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

# pyright: reportMissingImports=false
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.utils import update_momentum
from lightly.transforms import (
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    SimCLRTransform,
)
from torch.utils.data import DataLoader

from benchmarks.common import Pictures, pretext_network
from benchmarks.replay import Clock
from stages.pretext.byol import project

if TYPE_CHECKING:
    from torch import Tensor

    from benchmarks.pretexts import Bench

WORKERS = 2


def lightly_rate(bench: Bench, alike: bool) -> float:
    """Images/s; `alike`: in our precision and memory format, not in float32 and channels first."""
    device, byol = bench.runtime.device, bench.name == "byol"
    network: Any = pretext_network(bench.task, bench.about).to(device)
    if alike:
        network = network.to(memory_format=torch.channels_last)
    size = bench.about.size
    transform = SimCLRTransform(input_size=size)
    if byol:
        first, second = (
            BYOLView1Transform(input_size=bench.about.size),
            BYOLView2Transform(input_size=bench.about.size),
        )
        transform = BYOLTransform(first, second)
    loader = DataLoader(
        Pictures(bench.images.pixels, transform),
        batch_size=bench.batch,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
    )
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.06)
    contrast, clock = NTXentLoss(), Clock(bench.batch)
    for views in loader:
        clock.tick()
        pair = [view.to(device) for view in views]
        if byol:
            for part in ("backbone", "projector"):
                update_momentum(network[part], network["target"][part], m=0.996)
        with bench.runtime.autocast() if alike else nullcontext():
            first, second = (project(network, view) for view in pair)
            loss = byol_loss(network, pair, first, second) if byol else contrast(first, second)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return clock.rate


def byol_loss(network: Any, pair: list[Tensor], first: Tensor, second: Tensor) -> Tensor:
    """BYOL's loss in both directions.

    Args:
        network: The online network with its target.
        pair: Two views.
        first: The projection of the first view.
        second: That of the second.
    """
    similarity = NegativeCosineSimilarity()
    with torch.no_grad():
        targets = [project(network["target"], view) for view in pair]
    forward = similarity(network["predictor"](first), targets[1])
    return 0.5 * (forward + similarity(network["predictor"](second), targets[0]))
