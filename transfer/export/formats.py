"""The forms in which an exported model leaves: a PyTorch state dict, a program of `torch.export`, ONNX.

Each is written, then loaded again from its file as a stranger would, and compared with the model's own outputs.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from transfer.errors import TransferError, UsageError
from transfer.export.loaded_model import LoadedModel, PixelEmbedding
from transfer.models.alexnet import AlexNet
from transfer.models.build import build_network
from transfer.models.network import Network
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.torchvision_compat import Compatibility, find_compatible, torchvision_model
from transfer.models.vgg import VGG

STATE_DICT, PROGRAM, ONNX = "state_dict.pt", "model.pt2", "model.onnx"
TOLERANCE = (
    1e-4  # largest difference that is allowed, relative to the largest output; float32 on the CPU
)
Outputs = Callable[[Tensor], Tensor]  # uint8 (B, 3, S, S) to whatever is compared
ONNX_NEEDS = ("onnx", "onnxruntime", "onnxscript")


@dataclass
class WrittenFormats:
    """What was written, and how it compares."""

    fit: Compatibility
    layer: str  # that embeddings are read from
    values: int  # of an embedding
    differences: dict[str, float]  # file -> largest difference, relative to the largest output


def write_formats(
    folder: Path, model: LoadedModel, own: Network, pixels: Tensor, onnx: bool
) -> WrittenFormats:
    """Every form of `model`, whose weights are in `folder`, each compared with `own`, the network it was copied from.

    pixels: uint8 (B, 3, S, S), two at least. TransferError for the first that differs.
    """
    state, module = own.state_dict(), model.embedding()
    reference = PixelEmbedding(own, module.layer, model.normalization).eval()
    forms = WrittenFormats(find_compatible(own.spec, state), module.layer, 0, {})

    def compared(name: str, found: Outputs, expected: Outputs = reference) -> None:
        forms.differences[name] = largest_difference(name, found, expected, pixels)

    compared("model.safetensors", module)
    write_state_dict(folder / STATE_DICT, state, forms.fit)
    compared(STATE_DICT, *state_dict_outputs(folder / STATE_DICT, model, forms.fit))
    program = write_program(folder / PROGRAM, module, pixels)
    compared(PROGRAM, program_outputs(folder / PROGRAM))
    if onnx:
        write_onnx(folder / ONNX, program)
        compared(ONNX, onnx_outputs(folder / ONNX))
    with torch.inference_mode():
        forms.values = reference(pixels[:1]).shape[1]
    return forms


def write_state_dict(path: Path, state: dict[str, Tensor], fit: Compatibility) -> None:
    """Plain named tensors, for `torch.load(weights_only=True)`."""
    found = {name: state[ours] for ours, name in fit.names.items()}
    # A zero that is seen many times takes no room on disk: VGG's absent layers would take 480 MB.
    found |= {name: torch.zeros(()).expand(shape) for name, shape in fit.absent.items()}
    torch.save(found, path)


def write_program(
    path: Path, module: PixelEmbedding, pixels: Tensor
) -> torch.export.ExportedProgram:
    """A program for batches of any number of images of the network's size."""
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    try:
        with silenced(), torch.no_grad():
            # strict: the number of images stays a variable where the code asks for `len`.
            program = torch.export.export(
                module, (pixels,), dynamic_shapes={"images": {0: batch}}, strict=True
            )
    except Exception as error:  # of many kinds, torch's own
        name, told = module.network.spec.name, " ".join(str(error).split())[:300]
        raise TransferError(f"torch.export cannot make a program of {name}: {told}") from error
    torch.export.save(program, path)
    return program


def write_onnx(path: Path, program: torch.export.ExportedProgram) -> None:
    """The same program as one ONNX file: uint8 `images` (batch, 3, S, S) to float32 `embedding` (batch, D)."""
    with silenced(), torch.no_grad():
        torch.onnx.export(
            program,
            (),
            path,
            dynamo=True,
            external_data=False,
            input_names=["images"],
            output_names=["embedding"],
        )


def require_onnx() -> None:
    """UsageError with the command that installs what ONNX needs, where something is missing."""
    missing = [name for name in ONNX_NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx needs {', '.join(missing)}: pip install 'transfer[onnx]'")


@contextmanager
def silenced() -> Iterator[None]:
    """Exporters tell of themselves on screen and in warnings; what went wrong they raise."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# Each form as a stranger loads it: (B, 3, S, S) uint8 pixels -> what is compared.


def state_dict_outputs(path: Path, model: LoadedModel, fit: Compatibility) -> tuple[Outputs, ...]:
    """(what the class that the file belongs to computes with it, what the model computes), up to the last layer."""
    from transfer.transforms.normalize import normalize

    network, how = model.network(), model.normalization
    found = torch.load(path, map_location="cpu", weights_only=True)
    if fit.torchvision_name:
        stranger: nn.Module = torchvision_model(fit.torchvision_name)
        stranger.load_state_dict(found, strict=True, assign=True)
        stranger = _headless(stranger, network.spec)
    elif isinstance(network.spec, Timm):
        stranger = network.spec.create().eval()
        stranger.load_state_dict(found, strict=True)
    else:
        stranger = build_network(network.spec, 1).eval()
        stranger.load_state_dict(found, strict=True)
    return tuple(
        lambda images, one=one: one(normalize(images, how)).flatten(1)
        for one in (stranger, network)
    )


def _headless(theirs: nn.Module, spec: AlexNet | VGG | ResNet) -> nn.Module:
    """Torchvision's network up to the layer where our backbone ends."""
    if isinstance(spec, ResNet):
        theirs.fc = nn.Identity()
        return theirs
    if not spec.fc:
        return theirs.features
    theirs.classifier[-1] = nn.Identity()
    return theirs


def program_outputs(path: Path) -> Outputs:
    with silenced():
        return torch.export.load(path).module()


def onnx_outputs(path: Path) -> Outputs:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(["embedding"], {"images": images.numpy()})[0]
    )


def largest_difference(name: str, found: Outputs, own: Outputs, pixels: Tensor) -> float:
    """Largest difference of two forms, relative to the model's largest output; TransferError above TOLERANCE.

    Compared are a batch of all pixels and one of the first image alone: another number of images, another program.
    """
    worst = 0.0
    with torch.inference_mode():
        for some in (pixels, pixels[:1]):
            given, expected = found(some), own(some)
            if given.shape != expected.shape:
                raise TransferError(
                    f"{name} gives {tuple(given.shape)} where the model gives {tuple(expected.shape)}"
                )
            if not expected.isfinite().all():
                raise TransferError(
                    "the model's own outputs are not finite numbers: its training has diverged"
                )
            scale = max(expected.abs().max().item(), torch.finfo(torch.float32).tiny)
            worst = max(
                worst, (given - expected).abs().max().item() / scale, key=lambda x: (x != x, x)
            )
    if not worst <= TOLERANCE:
        raise TransferError(
            f"{name} was loaded again, and differs from the model by {worst:.1e} of its largest output: "
            f"more than {TOLERANCE:g}, so nothing is exported"
        )
    return worst
