"""Everything that a method of your own imports: the promised surface of the package.

    from transfer.plugin import Pretext, option

Names in other modules may move between versions; those here stay. `docs/bring_a_method.md` shows
how to write a pretext task, a target and a stage with them. The heavy libraries `torch`, `nn`,
`F` and `np` are imported when they are first used, so a plug-in that takes them from here costs
nothing until it runs.
"""

from __future__ import annotations

from transfer.artifacts import (
    Artifact,
    Clusters,
    Features,
    Images,
    Model,
    PseudoLabels,
    Scores,
)
from transfer.errors import InvalidOption, TransferError
from transfer.models.build import build_network, layer_shapes
from transfer.stage.backbone_option import BackboneOption
from transfer.stage.base import PlannedStage, Stage
from transfer.stage.context import StageContext
from transfer.stage.file_option import FileOption
from transfer.stage.image_input import DatasetInfo, ImageInput
from transfer.stage.options import OneOrMoreStages, inputs_named, option, stage_input
from transfer.training.pretext_task import Pretext, backbone_feature_dim, backbone_features
from transfer.training.recipe import PartRecipe, TrainableStage
from transfer.training.target_task import Target
from transfer.transforms.geometry import random_resized_crop
from transfer.transforms.normalize import Normalization, normalize
from transfer.transforms.per_image_rng import PerImageRng
from transfer.utils.lazy_imports import F, nn, np, torch

__all__ = [
    "Artifact",
    "BackboneOption",
    "Clusters",
    "DatasetInfo",
    "F",
    "Features",
    "FileOption",
    "ImageInput",
    "Images",
    "InvalidOption",
    "Model",
    "Normalization",
    "OneOrMoreStages",
    "PartRecipe",
    "PerImageRng",
    "PlannedStage",
    "Pretext",
    "PseudoLabels",
    "Scores",
    "Stage",
    "StageContext",
    "Target",
    "TrainableStage",
    "TransferError",
    "backbone_feature_dim",
    "backbone_features",
    "build_network",
    "inputs_named",
    "layer_shapes",
    "nn",
    "normalize",
    "np",
    "option",
    "random_resized_crop",
    "stage_input",
    "torch",
]
