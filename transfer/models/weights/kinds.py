"""What a file that should hold weights is by its bytes, and what to do where it holds none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from transfer.utils.file_kinds import HEAD, KINDS, read_kind
from transfer.utils.formatting import plural

AGAIN = "copy or download it again"
EXPECTED = "weights are .safetensors, or what torch.save writes (.pth, .pt)"
TORCH_ONLY = "save its tensors under the names of the network with torch.save or safetensors"
# Bytes that other frameworks' files begin with: offset, bytes, what it is.
OTHER_FRAMEWORKS = (
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"GGUF", "a GGUF file of a language model"),
)
OTHER_KINDS = {
    "hdf5": "an HDF5 file, as Keras writes",
    "numpy": "a NumPy array without names",
    "matlab": "a MATLAB file",
}


def weight_kind(path: Path) -> str:
    """Return "safetensors", "pickle", "checkpoint" (a zip of torch.save), "arrays" (.npz), or else.

    OSError where the file cannot be read.
    """
    kind = read_kind(path).name
    if kind != "zip":
        return kind
    names = _zip_names(path)
    if names is None:
        return "cut zip"
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return "torchscript"
    if sum(name.endswith("data.pkl") for name in names) == 1:
        return "checkpoint"
    if names and all(name.endswith(".npy") for name in names):
        return "arrays"
    return "keras" if any(name.endswith(".weights.h5") for name in names) else "zip"


def wrong_kind(path: Path, kind: str) -> str:
    """Return what a file of another kind is, and the remedy.

    Args:
        path: the file.
        kind: its kind by `weight_kind`.
    """
    with open(path, "rb") as file:
        start = file.read(HEAD)
    if kind == "torchscript":
        return (
            "is a TorchScript program; load it with torch.jit.load, and save its state_dict() "
            "with torch.save"
        )
    if kind == "cut zip":
        return f"is cut short: a zip archive, as torch.save writes, without its end; {AGAIN}"
    if kind == "keras":
        return f"is a Keras model: torch cannot read it; {TORCH_ONLY}"
    if kind == "zip":
        names = [name for name in _zip_names(path) or () if not name.endswith("/")]
        return f"is a zip archive of {_listing(names)}: unpack it, and name the file of weights"
    for offset, mark, text in OTHER_FRAMEWORKS:
        if start.startswith(mark, offset):
            return f"is {text}: torch cannot read it; {TORCH_ONLY}"
    if kind in OTHER_KINDS:
        return f"is {OTHER_KINDS[kind]}: torch cannot read it; {TORCH_ONLY}"
    if kind == "unknown" and _is_onnx(start):
        return f"is an ONNX model: torch cannot read it; {TORCH_ONLY}"
    if kind == "json" and (files := _shards(path)):
        return f"is an index of {_listing(files)}: join these files in one, and name it"
    known = KINDS.get(kind, KINDS["unknown"])
    if kind == "unknown" and _is_safetensors_header(start):
        return f"is damaged or cut short: a safetensors file without its end; {AGAIN}"
    if kind == "unknown":
        return f"is not a file of weights, or is damaged; {EXPECTED}"
    return f"is {known.text}, not a file of weights; {known.remedy or EXPECTED}"


def _zip_names(path: Path) -> list[str] | None:
    """Return the names in a zip archive; None where it is cut."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return None


def _listing(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{plural(len(names), 'file')} ({', '.join(names[:3])}{more})"


def _is_onnx(start: bytes) -> bool:
    """Whether bytes are fields of an ONNX model: its version, then its producer or graph."""
    return start[:1] == b"\x08" and len(start) > 2 and start[1] < 32 and start[2] in b"\x12\x1a:B"


def _is_safetensors_header(start: bytes) -> bool:
    return start[8:10] in (b'{"', b"{}", b"{ ")


def _shards(path: Path) -> list[str]:
    """Return the files that an index of shards names, as Hugging Face writes it."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        return sorted(set(index["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
