"""Loads weights that were trained elsewhere into a network, or checks that they would fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import InvalidOption
from transfer.models.backbone import Backbone
from transfer.models.build import build_network, outline_network
from transfer.models.weights.assignment import Assignment, WeightOptions, assign
from transfer.models.weights.files import read_weight_file

if TYPE_CHECKING:
    from transfer.models.network import Network


def check_weights(spec: Backbone, path: Path, options: WeightOptions) -> list[str]:
    """Return notes on what would be loaded. Only names and shapes are read: no values.

    Args:
        spec: the description of the network, which is built without memory.
        path: the file of weights.
        options: which tensors are taken.

    Raises:
        InvalidOption: an option does not fit the file.
        ValueError: the file cannot be read, or does not fit the network.
    """
    return _assignment(outline_network(spec), path, options).notes


def load_weights(spec: Backbone, path: Path, options: WeightOptions) -> tuple[Network, list[str]]:
    """Return the network with the weights of a file, and notes on what was taken.

    Args and errors as of `check_weights`; values that are damaged or not finite are errors too.
    """
    network = build_network(spec, 0)
    assignment = _assignment(network, path, options)
    values = assignment.read(network, path)
    # Counters of batches may be missing; nothing reads them.
    state = {name: values.get(name, value) for name, value in network.state_dict().items()}
    network.load_state_dict(state, strict=True)
    return network, assignment.notes


def _assignment(network: Network, path: Path, options: WeightOptions) -> Assignment:
    file = read_weight_file(path)
    try:
        return assign(network, file, options)
    except InvalidOption as error:
        raise InvalidOption(error.option, f"{path} {error}") from error
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error
