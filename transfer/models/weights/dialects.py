"""Names that other libraries and papers' code give to the tensors of our networks.

| where the names are from                           | what they look like                      |
|----------------------------------------------------|------------------------------------------|
| this package; torchvision; timm                    | see `torchvision_names.py`               |
| torchvision's EfficientNet, MobileNetV2, for timm  | features.1.0.block.0.0                   |
| kuangliu/pytorch-cifar, models/resnet.py           | torchvision's, with `shortcut`           |
| lightly, a Sequential of a ResNet's children       | 0.weight, 1.weight, 4.0.conv1.weight     |
| facebookresearch/open_lth, models/cifar_resnet.py  | conv, bn, blocks.0.conv1                 |
| mpatacchiola/self-supervised-relational-reasoning, | torchvision's; of Conv4: layer1.conv,    |
|   backbones                                        | layer1.bn                                |
| lukemelas/EfficientNet-PyTorch, model.py, for timm | _conv_stem, _bn0, _blocks.0._expand_conv |

Wrappers put words before or between these names, and files hold several networks; see `WRAPPERS`
and `PRECEDENCE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from transfer.models.backbone import Backbone
from transfer.models.cifar_resnet import CifarResNet
from transfer.models.conv4 import Conv4
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.weights.torchvision_names import residual_name, torchvision_names
from transfer.utils.lazy_imports import torch

Names = dict[str, str]  # our name -> the name in a file

# Words that wrappers of torch add at any place of a name: DataParallel and
# DistributedDataParallel, torch.compile, FullyShardedDataParallel, activation checkpoints,
# DeepSpeed (torch/nn/parallel, torch/_dynamo/eval_frame.py, torch/distributed).
WRAPPERS = {
    *("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    "_forward_module",
}
# Which of several networks in a file is taken, by the words of its entry and prefix; the first
# pattern that agrees decides. Each is what the authors' own evaluation takes.
PRECEDENCE = (
    # timm: load_state_dict(use_ema=True) takes state_dict_ema and model_ema.
    # DINO, iBOT: eval_linear.py takes `teacher` by default.
    re.compile(r"(^|[._])(ema|teacher)($|[._])"),
    # MoCo v1, v2 and v3: main_lincls.py takes encoder_q, base_encoder. BYOL evaluates the online
    # network.
    re.compile(r"(^|[._])(encoder_q|base_encoder|online|query)($|[._])"),
)
LAST = re.compile(r"(^|[._])(student|encoder_k|key|momentum|target|old|swa_n|optimizer)($|[._])")
# What a network without classifier does not need: classifiers, heads of pretext tasks and their
# queues (MoCo), prototypes (SwAV), decoders and mask tokens (MAE), auxiliary classifiers.
HEADS = re.compile(
    r"^(_?fc\d*|classifiers?|heads?|head_dist|top_layer|last_linear|linear|lin|logits"
    r"|projection_heads?|projections?|projectors?|project|proj_head|predictors?|prediction_heads?"
    r"|contrastive_head|prototypes\d*|queue\w*|mlp|decoder\w*|mask_token|aux\d?|AuxLogits"
    r"|center|criterion|loss\w*)(\.|$)"
    # Counts that tools add: torch's AveragedModel, thop.
    r"|^n_averaged$|(^|\.)total_(ops|params)$"
)
# timm's network -> torchvision's, which computes the same and has its tensors in the same order.
TORCHVISION_TWINS = {
    **{f"efficientnet_b{size}": f"efficientnet_b{size}" for size in range(5)},
    "mobilenetv2_100": "mobilenet_v2",
}
EFFICIENTNET = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
EXPANDED = {  # blocks that begin with an expansion
    **{"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"},
    **{"conv_pwl": "_project_conv", "bn3": "_bn2"},
    **SQUEEZE,
}
SEPARABLE = {
    **{"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"},
    **SQUEEZE,
}


def dialects(spec: Backbone, names: Iterable[str]) -> dict[str, Names]:
    """Return dialect -> our name -> its name of the same tensor, in the order to try them.

    Args:
        spec: the description of a network.
        names: the keys of its state dict.
    """
    own = {name: name for name in names}
    if isinstance(spec, Timm):
        plain = torchvision_names(spec, own)
        tables = {"timm": plain, "": own}
        if twin := TORCHVISION_TWINS.get(spec.model.partition(".")[0]):
            tables["torchvision"] = dict(zip(own, _torchvision_names(twin), strict=False))
        if "efficientnet" in spec.model:
            tables["lukemelas/EfficientNet-PyTorch"] = _efficientnet_names(plain)
        return tables
    tables = {"": own}
    if isinstance(spec, ResNet | CifarResNet):
        residual = {name: residual_name(name) for name in own}
        tables |= {"torchvision": residual}
        tables["kuangliu/pytorch-cifar"] = {
            ours: theirs.replace(".downsample.", ".shortcut.") for ours, theirs in residual.items()
        }
        for first in (4, 3, 2):  # layer1's place: after a max-pool and ReLU, a ReLU, or neither
            tables[f"a Sequential with layer1 at {first}"] = {
                ours: _numbered_child(theirs, first) for ours, theirs in residual.items()
            }
        tables["facebookresearch/open_lth"] = _open_lth_names(residual)
    elif isinstance(spec, Conv4):
        tables["mpatacchiola/self-supervised-relational-reasoning"] = {
            name: re.sub(r"^conv(\d)\.(conv|norm)", _relational_name, name) for name in own
        }
    elif theirs := torchvision_names(spec, own):
        tables["torchvision"] = theirs
    return tables


def rank(path: str) -> int:
    """Return the place of a network among several in a file; the lowest is taken."""
    if LAST.search(path):
        return len(PRECEDENCE) + 1
    return next(
        (place for place, words in enumerate(PRECEDENCE) if words.search(path)), len(PRECEDENCE)
    )


def unwrapped(names: Iterable[str], known: Iterable[str]) -> Names:
    """Return name in the file -> the name without the words of wrappers.

    Names stay as they are where a network has such a word itself, or where two would become equal.
    """
    names = list(names)
    words = WRAPPERS - {word for name in known for word in name.split(".")}
    plain = {
        name: ".".join(word for word in name.split(".") if word not in words) for name in names
    }
    return plain if len(set(plain.values())) == len(names) else {name: name for name in names}


def dialect_notes(dialect: str, spec: Backbone) -> list[str]:
    """Return what differs in the networks that a dialect was written for."""
    if not (dialect.startswith("lukemelas") and isinstance(spec, Timm)):
        return []
    if spec.model.startswith("tf_"):
        return []
    return [
        f"these weights are for TensorFlow's padding and batch norm; timm:tf_{spec.model} computes "
        f"as they were trained, {spec.name} does not"
    ]


def _torchvision_names(name: str) -> list[str]:
    """Return the names of a network of torchvision without its classifier, in their order."""
    import torchvision

    with torch.device("meta"):
        state = torchvision.models.get_model(name, weights=None).state_dict()
    return [tensor for tensor in state if not tensor.startswith("classifier.")]


def _numbered_child(name: str, first: int) -> str:
    """Return torchvision's name with the number of the child: layer1 is number `first`."""
    word, _, rest = name.partition(".")
    numbers = {"conv1": 0, "bn1": 1, **{f"layer{i}": first + i - 1 for i in range(1, 5)}}
    return f"{numbers[word]}.{rest}"


def _relational_name(match: re.Match[str]) -> str:
    return f"layer{match[1]}.{'bn' if match[2] == 'norm' else 'conv'}"


def _open_lth_names(residual: Names) -> Names:
    blocks = _counted(residual.values(), re.compile(r"^layer\d\.\d+"))
    return {
        ours: re.sub(r"^conv1\b", "conv", re.sub(r"^bn1\b", "bn", theirs))
        if theirs.startswith(("conv1", "bn1"))
        else re.sub(r"^layer\d\.\d+", lambda match: f"blocks.{blocks[match[0]]}", theirs).replace(
            ".downsample.", ".shortcut."
        )
        for ours, theirs in residual.items()
    }


def _efficientnet_names(plain: Names) -> Names:
    blocks = _counted(plain.values(), re.compile(r"^blocks\.\d+\.\d+"))
    expanded = {name.rpartition(".conv_pwl")[0] for name in plain.values() if ".conv_pwl" in name}

    def name_of(name: str) -> str:
        module, _, tensor = name.rpartition(".")
        block = ".".join(name.split(".")[:3])
        if block not in blocks:
            return f"{EFFICIENTNET.get(module, module)}.{tensor}"
        table = EXPANDED if block in expanded else SEPARABLE
        inner = module.removeprefix(f"{block}.")
        return f"_blocks.{blocks[block]}.{table.get(inner, inner)}.{tensor}"

    return {ours: name_of(theirs) for ours, theirs in plain.items()}


def _counted(names: Iterable[str], pattern: re.Pattern[str]) -> dict[str, int]:
    """Return what a pattern matches at the start of names -> its number, from 0."""
    matches = (pattern.match(name) for name in names)
    return {part: number for number, part in enumerate(dict.fromkeys(m[0] for m in matches if m))}
