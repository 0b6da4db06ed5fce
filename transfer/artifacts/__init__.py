"""The kinds of artifacts that stages pass on, a file each: layout on disk, reading and writing.

An artifact is a folder. Its class reads it, and has a static `write` that makes it. Nothing here
depends on keys, locks or pipelines: the store handles them.
"""

from transfer.artifacts.base import Artifact, read_json, write_json
from transfer.artifacts.clusters import Clusters
from transfer.artifacts.features import Features
from transfer.artifacts.images import Images, PackedImagesCard
from transfer.artifacts.model import Model, ModelCard
from transfer.artifacts.pseudo_labels import PseudoLabels
from transfer.artifacts.scores import ScoreCard, Scores

__all__ = [
    "KINDS",
    "Artifact",
    "Clusters",
    "Features",
    "Images",
    "Model",
    "ModelCard",
    "PackedImagesCard",
    "PseudoLabels",
    "ScoreCard",
    "Scores",
    "read_json",
    "write_json",
]

KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind for kind in (Images, Model, Features, Clusters, PseudoLabels, Scores)
}
