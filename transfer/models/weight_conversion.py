"""Weights that others have trained: files of them, the names that others have for our layers, and strict matching.

| ours                                           | torchvision's                                |
|------------------------------------------------|----------------------------------------------|
| AlexNet, VGG: conv1.conv, conv1.norm           | features.0, features.1 (*)                   |
| AlexNet: fc6.3, fc7.1; VGG: fc6.2, fc7.0       | classifier.1, .4; classifier.0, .3           |
| ResNet: conv1.conv, conv1.norm                 | conv1, bn1                                   |
| layer2.0.body.1.conv, layer2.0.body.1.norm     | layer2.0.conv2, layer2.0.bn2                 |
| layer2.0.shortcut.conv, layer2.0.shortcut.norm | layer2.0.downsample.0, layer2.0.downsample.1 |
| timm: features.model.NAME                      | NAME, in timm                                |

(*) Convolutions, norms, ReLUs and pools are counted as they run. The last layer, a classifier's, is none of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import InvalidOption, did_you_mean
from transfer.models.alexnet import AlexNet
from transfer.models.backbone import Backbone
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.vgg import VGG
from transfer.utils.lazy_imports import safetensors, torch

if TYPE_CHECKING:
    from torch import Tensor

    from transfer.models.network import Network

RESIDUAL = (
    (r"^conv1\.norm", "bn1"),
    (r"^conv1\.conv", "conv1"),
    (r"\.body\.(\d)\.conv", lambda match: f".conv{int(match[1]) + 1}"),
    (r"\.body\.(\d)\.norm", lambda match: f".bn{int(match[1]) + 1}"),
    (r"\.shortcut\.conv", ".downsample.0"),
    (r"\.shortcut\.norm", ".downsample.1"),
)
COUNTER = (
    ".num_batches_tracked"  # of a batch norm: files of old have none, and nothing here reads it
)


def torchvision_names(described: Backbone, names: Iterable[str]) -> dict[str, str]:
    """Our name -> torchvision's (timm's) of the same tensor; none for families that they do not have.

    names: the keys of the state dict of a network that `described` builds.
    """
    if isinstance(described, Timm):
        return {name: name.removeprefix("features.model.") for name in names}
    if isinstance(described, ResNet):
        return {name: _residual(name) for name in names}
    if not isinstance(described, AlexNet | VGG):
        return {}
    modules = _counted(described)
    found = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        found[name] = f"{modules[module]}.{tensor}"
    return found


def _residual(name: str) -> str:
    for pattern, theirs in RESIDUAL:
        name = re.sub(pattern, theirs, name)
    return name


def _counted(described: AlexNet | VGG) -> dict[str, str]:
    """Our module -> theirs, whose layers are numbered in the order in which they run."""
    if isinstance(described, AlexNet):
        found = {"fc6.3": "classifier.1", "fc7.1": "classifier.4"}
    else:
        found = {"fc6.2": "classifier.0", "fc7.0": "classifier.3"}
    place = 0
    for layer in described.layer_names():
        if layer.startswith("conv"):
            found[f"{layer}.conv"] = f"features.{place}"
            found[f"{layer}.norm"] = f"features.{place + 1}"
            place += 3 if described.batch_norm else 2
        else:
            place += 1
    return found


def read_weights(path: Path, entry: str | None = None) -> dict[str, Tensor]:
    """The named tensors in a .safetensors file, or in any other that torch.save wrote; ValueError says what is wrong.

    entry: the part of the file that holds them, where it holds more. Nothing but tensors and plain values is loaded:
    a file that holds other objects is refused, whatever it says that they are.
    """
    try:
        if _is_safetensors(path):
            found: Any = safetensors.load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, some of them libraries' own
        raise ValueError(f"{path} {_unreadable(error)}") from error
    if entry is not None:
        parts = _parts(found)
        if entry not in parts:
            raise InvalidOption("entry", f"has no entry '{entry}'{did_you_mean(entry, parts)}")
        found = parts[entry]
    if not isinstance(found, dict) or not found or not all(map(torch.is_tensor, found.values())):
        inside = [name for name, value in _parts(found).items() if _named(value)]
        nearer = [
            name for name in inside if "." not in name
        ] or inside  # optimizers have tensors too, further inside
        names = ", ".join(f"{entry}.{name}" if entry else name for name in nearer)
        hint = f"; say which of its entries does: {names}" if names else ""
        raise ValueError(f"{path} does not hold named tensors and nothing else{hint}")
    bad = [name for name, value in found.items() if not torch.isfinite(value).all()]
    if bad:
        raise ValueError(
            f"{path} holds values that are not finite numbers, in {', '.join(map(str, bad[:3]))}"
        )
    return {str(name): value for name, value in found.items()}


def _parts(found: Any, depth: int = 3) -> dict[str, Any]:
    """The dictionaries in a file, those in others too: `checkpoint.model`."""
    parts: dict[str, Any] = {}
    for name, value in found.items() if isinstance(found, dict) and depth else ():
        if isinstance(value, dict):
            parts |= {str(name): value} | {
                f"{name}.{inner}": one for inner, one in _parts(value, depth - 1).items()
            }
    return parts


def _named(value: dict[Any, Any]) -> bool:
    return bool(value) and all(map(torch.is_tensor, value.values()))


def _is_safetensors(path: Path) -> bool:
    """Whether a file begins as these do, whatever it is called: the length of a JSON header, then the header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(1) == b"{" and length < path.stat().st_size


def _unreadable(error: Exception) -> str:
    text = str(error).strip()
    stranger = re.search(r"GLOBAL (\S+)", text)
    if stranger:
        return (
            f"holds an object of {stranger[1]}, which only running the file's own code could load; save nothing but "
            "the state dict where the file was written, best as .safetensors"
        )
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or error})"
    if "TorchScript" in text:
        return "is a program of TorchScript: load it with torch.jit.load, and save its state_dict()"
    return f"is no whole file of weights: neither .safetensors nor what torch.save writes ({type(error).__name__})"


def load_matching(
    network: Network, state: Mapping[str, Tensor], prefix: str = ""
) -> dict[str, Tensor]:
    """`state`, under our names or torchvision's (timm's), as the whole state dict of `network`.

    prefix: what was taken off the names of `state` already.

    ValueError tells every name that is missing, is too many or has another shape, with the nearest that there is.
    """
    wanted = network.state_dict()
    own = {name: name for name in wanted}
    tails = {
        name[place:]
        for name in state
        for place in (0, *(i + 1 for i, letter in enumerate(name) if letter == "."))
    }
    theirs = torchvision_names(network.spec, wanted)
    first, second = (
        (theirs, own) if isinstance(network.spec, Timm) else (own, theirs)
    )  # where neither fits better
    names = max(first, second, key=lambda one: len(tails & set(one.values())))
    known = set(names.values())
    missing = [
        theirs for theirs in names.values() if theirs not in state and not theirs.endswith(COUNTER)
    ]
    surplus = [name for name in state if name not in known]
    lines = _listed("missing", missing, surplus or state) + _listed(
        "unexpected", surplus, missing or known
    )
    for ours, theirs in names.items():
        if theirs in state and state[theirs].shape != wanted[ours].shape:
            shapes = f"{tuple(state[theirs].shape)} in the file, {tuple(wanted[ours].shape)} in the network"
            lines.append(f"shape of {theirs}: {shapes}")
    if lines:
        raise ValueError(
            "\n  ".join(
                [
                    f"does not fit {network.spec.name}",
                    *lines,
                    *_advice(known, state, missing, surplus, prefix),
                ]
            )
        )
    return {ours: state.get(theirs, wanted[ours]) for ours, theirs in names.items()}


def _listed(what: str, names: Iterable[str], others: Iterable[str]) -> list[str]:
    """A line a module with the names of its tensors, and the nearest module of `others` with theirs."""
    choice, lines = _modules(others), []
    for module, tensors in _modules(names).items():
        near = get_close_matches(module, choice, n=1, cutoff=0.8) if module else []
        hint = f"; nearest: {_shown(near[0], choice[near[0]])}" if near else ""
        lines.append(f"{what}: {_shown(module, tensors)}{hint}")
    return lines


def _shown(module: str, tensors: list[str]) -> str:
    return f"{module}: {', '.join(tensors)}" if module else ", ".join(tensors)


def _modules(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        module, _, tensor = name.rpartition(".")
        found.setdefault(module, []).append(tensor)
    return found


def _advice(
    known: set[str],
    state: Mapping[str, Tensor],
    missing: list[str],
    surplus: list[str],
    prefix: str,
) -> list[str]:
    """What would make it fit: a prefix, or heads to leave out."""
    some = next(iter(missing), None)
    prefixes = (
        {name.removesuffix(some) for name in state if name.endswith(f".{some}")} if some else set()
    )
    better = [
        one
        for one in sorted(prefixes)
        if len({one + name for name in known} & state.keys()) > len(known) // 2
    ]
    if better:
        return [
            "the names have a prefix: say "
            + ", or ".join(f"`prefix: {prefix}{one}`" for one in better)
        ]
    if surplus and not missing:
        if tokens := [
            name for name in surplus if re.search(r"(^|_)(cls|dist|reg|register)_tokens?$", name)
        ]:
            return [
                f"a network with {' and '.join(tokens)} computes with it: these are weights of another variant"
            ]
        patterns = dict.fromkeys(_part(name, known) for name in surplus)
        return [f"to leave out what is too many: `ignore: [{', '.join(map(repr, patterns))}]`"]
    return []


def _part(name: str, known: set[str]) -> str:
    """The largest part that `name` is in and none of `known`, as a pattern."""
    for place, letter in enumerate(name):
        if letter == "." and not any(one.startswith(name[: place + 1]) for one in known):
            return f"{name[: place + 1]}*"
    return name
