"""The packages that this one requires, its extras, and which of them are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

FAISS = ("faiss-gpu", "faiss-cpu")  # either
REQUIRED = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "h5py",
    "pillow",
    "tifffile",
    "scikit-learn",
    "scikit-image",
    "safetensors",
    "pydantic",
    "ruamel.yaml",
    "click",
    "rich",
    "filelock",
    "threadpoolctl",
    "jinja2",
    "markupsafe",
)


@dataclass(frozen=True)
class Extra:
    """Optional packages, and what they are for."""

    packages: tuple[str, ...]
    purpose: str


EXTRAS = {
    "teachers": Extra(
        ("timm", "huggingface-hub"), "networks and weights of timm: `backbone: timm:NAME`"
    ),
    "onnx": Extra(("onnx", "onnxruntime", "onnxscript"), "`transfer export --onnx`"),
    "test": Extra(
        (
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "jsonschema",
            "ruff",
            "setuptools",
            "timm",
            "coverage",
        ),
        "running the tests",
    ),
    "lint": Extra(
        ("ruff", "pyright", "pre-commit", "timm", "onnx", "onnxruntime"), "checking the code"
    ),
    "docs": Extra(("mkdocs", "mkdocs-material", "mkdocstrings"), "building the docs"),
}


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'transfer[{extra}]'"
