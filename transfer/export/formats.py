"""The formats of an exported model: a PyTorch state dict, a program of `torch.export`, ONNX.

Each file is written, loaded again as a third party would, and compared with the model's outputs.
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
from transfer.models.backbone import Backbone
from transfer.models.build import build_network
from transfer.models.network import Network
from transfer.models.resnet import ResNet
from transfer.models.timm_backbone import Timm
from transfer.models.torchvision_compat import Compatibility, find_compatible, torchvision_model
from transfer.models.vgg import VGG
from transfer.transforms.normalize import normalize

STATE_DICT, PROGRAM, ONNX = "state_dict.pt", "model.pt2", "model.onnx"
# Largest difference that is allowed, relative to the largest output, in float32 on the CPU.
TOLERANCE = 1e-4
Outputs = Callable[[Tensor], Tensor]  # uint8 (B, 3, S, S) to the outputs that are compared
ONNX_NEEDS = ("onnx", "onnxruntime", "onnxscript")


@dataclass
class WrittenFormats:
    """The formats that were written, and how they compare with the model."""

    fit: Compatibility
    layer: str  # of the embeddings
    values: int  # of an embedding
    differences: dict[str, float]  # file -> largest difference, relative to the largest output


def write_formats(
    folder: Path, model: LoadedModel, own: Network, pixels: Tensor, onnx: bool
) -> WrittenFormats:
    """Write `model` in every format, and compare each with the network that it was copied from.

    Args:
        folder: that holds the weights of `model`, and receives the other files.
        model: the exported model.
        own: the network in the store.
        pixels: uint8 (B, 3, S, S), two images at least.
        onnx: write ONNX too.

    Raises:
        TransferError: the outputs of a format differ.
    """
    state, module = own.state_dict(), model.embedding()
    reference = PixelEmbedding(own, module.layer, model.normalization).eval()
    written = WrittenFormats(find_compatible(own.spec, state), module.layer, 0, {})

    def compare(name: str, outputs: Outputs, expected: Outputs = reference) -> None:
        written.differences[name] = largest_difference(name, outputs, expected, pixels)

    compare("model.safetensors", module)
    write_state_dict(folder / STATE_DICT, state, written.fit)
    compare(STATE_DICT, *state_dict_outputs(folder / STATE_DICT, model, written.fit))
    program = write_program(folder / PROGRAM, module, pixels)
    compare(PROGRAM, program_outputs(folder / PROGRAM))
    if onnx:
        write_onnx(folder / ONNX, program)
        compare(ONNX, onnx_outputs(folder / ONNX))
    with torch.inference_mode():
        written.values = reference(pixels[:1]).shape[1]
    return written


def write_state_dict(path: Path, state: dict[str, Tensor], fit: Compatibility) -> None:
    """Write plain named tensors, for `torch.load(weights_only=True)`."""
    tensors = {name: state[ours] for ours, name in fit.names.items()}
    # Expanded zeros take no space on disk, where VGG's absent layers would take 480 MB.
    tensors |= {name: torch.zeros(()).expand(shape) for name, shape in fit.absent.items()}
    torch.save(tensors, path)


def write_program(
    path: Path, module: PixelEmbedding, pixels: Tensor
) -> torch.export.ExportedProgram:
    """Write a program for batches of any number of images, and return it.

    Args:
        path: of the file.
        module: from pixels to embeddings.
        pixels: an example, uint8 (B, 3, S, S).
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    try:
        with silenced(), torch.no_grad():
            # strict: the number of images stays a variable where the code asks for `len`.
            program = torch.export.export(
                module, (pixels,), dynamic_shapes={"images": {0: batch}}, strict=True
            )
    except Exception as error:  # of many kinds, torch's own
        reason = " ".join(str(error).split())[:300]
        name = module.network.spec.name
        raise TransferError(f"torch.export cannot make a program of {name}: {reason}") from error
    torch.export.save(program, path)
    return program


def write_onnx(path: Path, program: torch.export.ExportedProgram) -> None:
    """Write the program as an ONNX file.

    Its input is uint8 `images` (batch, 3, S, S), its output float32 `embedding` (batch, D).
    """
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
    """Raise UsageError if packages for ONNX are missing, with the command that installs them."""
    missing = [name for name in ONNX_NEEDS if find_spec(name) is None]
    if missing:
        raise UsageError(f"--onnx needs {', '.join(missing)}: pip install 'transfer[onnx]'")


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress what exporters print and warn of; their errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# Each format as a third party loads it: uint8 (B, 3, S, S) to the outputs that are compared.


def state_dict_outputs(
    path: Path, model: LoadedModel, fit: Compatibility
) -> tuple[Outputs, Outputs]:
    """Return the outputs of the class that the state dict is for, and the model's own.

    Args:
        path: of the state dict.
        model: the exported model.
        fit: the class that the state dict is for.

    Returns:
        Two functions, both up to the last layer of the model's network.
    """
    network = model.network()
    spec, state = network.spec, torch.load(path, map_location="cpu", weights_only=True)
    if fit.torchvision_name:
        loaded = torchvision_model(fit.torchvision_name)
        loaded.load_state_dict(state, strict=True, assign=True)
        loaded = _without_classifier(loaded, spec)
    else:
        loaded = spec.create().eval() if isinstance(spec, Timm) else build_network(spec, 1).eval()
        loaded.load_state_dict(state, strict=True)

    def outputs(module: nn.Module) -> Outputs:
        return lambda images: module(normalize(images, model.normalization)).flatten(1)

    return outputs(loaded), outputs(network)


def _without_classifier(network: nn.Module, spec: Backbone) -> nn.Module:
    """Cut torchvision's network behind the layer where the backbone ends."""
    if isinstance(spec, ResNet):
        network.fc = nn.Identity()
        return network
    assert isinstance(spec, AlexNet | VGG), "torchvision has no other backbone"
    if not spec.fc:
        return network.get_submodule("features")
    classifier = network.get_submodule("classifier")
    assert isinstance(classifier, nn.Sequential)
    classifier[-1] = nn.Identity()
    return network


def program_outputs(path: Path) -> Outputs:
    """Return the outputs of a saved program."""
    with silenced():
        return torch.export.load(path).module()


def onnx_outputs(path: Path) -> Outputs:
    """Return the outputs of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(["embedding"], {"images": images.numpy()})[0]
    )


def largest_difference(name: str, outputs: Outputs, expected: Outputs, pixels: Tensor) -> float:
    """Return the largest difference, relative to the model's largest output.

    A batch of all pixels is compared, and one of the first image alone, because programs may
    differ by the number of images.

    Args:
        name: of the file, for messages.
        outputs: those of the file.
        expected: those of the model.
        pixels: uint8 (B, 3, S, S).

    Raises:
        TransferError: the difference exceeds TOLERANCE, or the model's outputs are not finite.
    """
    differences = []
    with torch.inference_mode():
        for batch in (pixels, pixels[:1]):
            values, reference = outputs(batch), expected(batch)
            if values.shape != reference.shape:
                raise TransferError(
                    f"{name} returns shape {tuple(values.shape)}, but the model returns "
                    f"{tuple(reference.shape)}"
                )
            if not reference.isfinite().all():
                raise TransferError("the model's outputs are not finite: its training has diverged")
            scale = max(reference.abs().max().item(), torch.finfo(torch.float32).tiny)
            differences.append((values - reference).abs().max().item() / scale)
    if not all(difference <= TOLERANCE for difference in differences):  # also of those that are NaN
        worst = max(differences, key=lambda difference: (difference != difference, difference))
        raise TransferError(
            f"{name} was loaded again and differs from the model by {worst:.1e} of its largest "
            f"output, more than {TOLERANCE:g}; nothing was exported"
        )
    return max(differences)
