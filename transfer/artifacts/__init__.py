"""What stages hand to one another, a file each: how it lies on disk, how it is read and written.

An artifact is a folder. Its class reads it, and has a static `write` that a stage calls to make it. Nothing here
knows of keys, locks or pipelines: those are the store's.
"""

from transfer.artifacts.base import Artifact, read_json, write_json
from transfer.artifacts.clusters import Clusters
from transfer.artifacts.features import Features
from transfer.artifacts.images import Images
from transfer.artifacts.model import Model
from transfer.artifacts.pseudo_labels import PseudoLabels
from transfer.artifacts.scores import Scores

__all__ = [
    "KINDS",
    "Artifact",
    "Clusters",
    "Features",
    "Images",
    "Model",
    "PseudoLabels",
    "Scores",
    "read_json",
    "write_json",
]

KINDS: dict[str, type[Artifact]] = {
    kind.__name__: kind for kind in (Images, Model, Features, Clusters, PseudoLabels, Scores)
}
