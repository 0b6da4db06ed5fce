"""What networks went through: training curves, what they saw, and their first filters before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transfer.artifacts import Model
from transfer.models import Timm
from transfer.models.build import build_network
from transfer.report.collect import (
    ReportData,
    ReportStage,
    apart,
    by_name,
    chosen,
    left_out,
    spread,
)
from transfer.report.image_sheets import filters, picture, sheet, stacked, stretched, tile
from transfer.report.svg_plots import Series, legend, lines
from transfer.stage.context import derived_seed
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import safetensors, torch

if TYPE_CHECKING:
    from torch import Tensor

CURVES = 40  # lines of a plot
SEEN, SIDE = 4, 88  # images that a network's view is shown of, and their px


def curves(report: ReportData) -> list[dict[str, Any]]:
    """For each training stage, a plot for each figure that it told epoch by epoch; a line a member."""
    found = []
    for name, members in by_name(report.of(Model)).items():
        some, more = chosen(members, CURVES)
        histories = {}
        for one in some:
            with report.reading(one):
                if history := one.checked("history.json").history:
                    histories[one] = history
        if not histories:
            continue
        trained = [one.planned for one in histories]
        told, colors = apart(trained), apart(trained, without=("seed",))
        kinds = list(dict.fromkeys(colors))
        plots = []
        for figure in _figures(histories.values()):
            series = [
                Series(
                    label,
                    [entry["epoch"] for entry in history if figure in entry],
                    [entry[figure] for entry in history if figure in entry],
                    kind=kind,
                )
                for label, kind, history in zip(told, colors, histories.values(), strict=True)
            ]
            level = None
            if figure == "accuracy":
                levels = {report.chance(one) for one in histories}
                level = (
                    ("chance", levels.pop()) if len(levels) == 1 and None not in levels else None
                )
            floor = 0.0 if figure == "accuracy" else None
            plots.append(
                lines(
                    f"{figure} of {name}",
                    series,
                    "epoch",
                    figure,
                    level=level,
                    floor=floor,
                    kinds=kinds,
                )
            )
        found.append(
            {
                "name": name,
                "members": list(histories),
                "plots": plots,
                "legend": legend(kinds),
                "left_out": left_out(report, more),
            }
        )
    return found


def _figures(histories: Any) -> list[str]:
    """Loss and accuracy first."""
    names = dict.fromkeys(
        name for history in histories for entry in history for name in entry if name != "epoch"
    )
    return sorted(names, key=lambda name: (name != "loss", name != "accuracy"))


def views(report: ReportData) -> list[dict[str, Any]]:
    """For each stage that trains on images, what its network sees of a few; once for all members of one method."""
    found = []
    for name, members in _by_method(report).items():
        one = members[0]
        pack = report.images_of(one.planned)
        if pack is None or not one.planned.stage.has_preview():
            continue
        with report.reading(pack):
            images = report.opened(pack)
            rows = spread(len(images), SEEN)
            batch = stacked([tile(images, row, images.size) for row in rows])
            pictures, why = [], ""
            try:
                with torch.inference_mode():
                    columns = one.planned.stage.preview(
                        batch, PerImageRng(one.planned.seed, torch.tensor(rows))
                    )
                for caption, seen in columns.items():
                    alt = f"{len(seen)} images as {name} has them: {caption}"
                    pictures.append((caption, picture(sheet(stretched(seen, SIDE), 1), alt)))
            except (
                Exception
            ) as error:  # a stranger's code; the rest of the page does not depend on it
                why = f"{type(error).__name__}: {error}"
            found.append(
                {
                    "name": name,
                    "found": one,
                    "set": pack.label,
                    "columns": pictures,
                    "count": len(members),
                    "why": why,
                }
            )
    return found


def _by_method(report: ReportData) -> dict[str, list[ReportStage]]:
    """The members of each stage that learn in one way, by its name; with the method where a stage has several."""
    found = {}
    for name, members in by_name(report.of(Model)).items():
        uses = dict.fromkeys(one.planned.uses for one in members)
        for method in uses:
            label = name if len(uses) == 1 else f"{name} ({method})"
            found[label] = [one for one in members if one.planned.uses == method]
    return found


def first_filters(report: ReportData) -> list[dict[str, Any]]:
    """The first convolution of each network, as its seed draws it and as it was learned."""
    found, drawn = [], {}
    for name, members in by_name(report.of(Model)).items():
        some, more = chosen(members)
        pairs = []
        for one, told in zip(some, apart([one.planned for one in some]), strict=True):
            with report.reading(one):
                if (pair := _pair(one, told, drawn)) is not None:
                    pairs.append(pair)
        if pairs:
            found.append({"name": name, "pairs": pairs, "left_out": left_out(report, more)})
    return found


def _pair(
    one: ReportStage, told: str, drawn: dict[Any, tuple[str, Tensor] | None]
) -> dict[str, Any] | None:
    before = _drawn(one, drawn)
    after = _first(one, before[0] if before else None)
    if after is None:
        return None
    pair = {"found": one, "told": told, "shape": tuple(after.shape), "shown": min(64, len(after))}
    trained = bool(one.checked("history.json").history)
    if trained and before is not None and before[1].shape == after.shape:
        start = before[1].float()
        pair["before"] = picture(
            filters(start), f"first filters of {told} before training", lossless=True
        )
        pair["moved"] = float((after.float() - start).norm() / start.norm().clamp(min=1e-12))
    pair["after"] = picture(
        filters(after), f"first filters of {told}{' after training' if trained else ''}", True
    )
    pair["trained"] = trained
    return pair


def _drawn(
    one: ReportStage, known: dict[Any, tuple[str, Tensor] | None]
) -> tuple[str, Tensor] | None:
    """Name and weights of the first convolution as the stage's seed draws it; None where it starts elsewhere."""
    backbone = one.planned.stage.backbone_spec()
    if backbone is None or isinstance(backbone, Timm) or one.planned.stage.starts_from_weights():
        return None
    seed = derived_seed(one.planned.seed, "weights")  # as every training stage draws them
    key = (backbone, seed)
    if key not in known:
        state = build_network(backbone, seed).state_dict()
        known[key] = next(
            ((name, value.clone()) for name, value in state.items() if _sees(value)), None
        )
    return known[key]


def _first(one: ReportStage, name: str | None) -> Tensor | None:
    """The same layer's weights after training; only they are read."""
    one.checked("model.safetensors", "model.json")
    with safetensors.safe_open(one.artifact.folder / "model.safetensors", framework="pt") as file:
        names = (
            [name]
            if name
            else [key for key in file.keys() if len(file.get_slice(key).get_shape()) == 4]
        )
        found = [
            value
            for value in (file.get_tensor(key) for key in names[:1] if key in file.keys())
            if _sees(value)
        ]
    return found[0] if found else None


def _sees(weight: Tensor) -> bool:
    """Whether it is a convolution of an image, of three channels."""
    return weight.ndim == 4 and weight.shape[1] in (1, 3) and min(weight.shape[-2:]) > 1
