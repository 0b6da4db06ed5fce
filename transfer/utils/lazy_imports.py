"""Heavy libraries, imported at their first use.

Commands that only read, and a run with nothing to do, must answer at once. So their modules write
`from transfer.utils.lazy_imports import torch`, which imports torch at the first `torch.x`.

FAISS is imported here alone and always after torch: the other order crashes on some platforms.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import faiss
    import h5py
    import numpy as np
    import safetensors.torch as safetensors
    import torch
    import torch.nn.functional as F
    from scipy import sparse
    from torch import nn
else:

    class _LazyModule(ModuleType):
        """A stand-in that imports the module of its name when an attribute is read."""

        def __init__(self, name: str, after: str | None = None):
            super().__init__(name)
            self._after = after

        def __getattr__(self, attribute: str) -> Any:
            if self._after:
                importlib.import_module(self._after)
            value = getattr(importlib.import_module(self.__name__), attribute)
            setattr(self, attribute, value)
            return value

    torch = _LazyModule("torch")
    nn = _LazyModule("torch.nn")
    F = _LazyModule("torch.nn.functional")
    faiss = _LazyModule("faiss", after="torch")
    h5py = _LazyModule("h5py")
    np = _LazyModule("numpy")
    safetensors = _LazyModule("safetensors.torch")
    sparse = _LazyModule("scipy.sparse")

__all__ = ["F", "faiss", "h5py", "nn", "np", "safetensors", "sparse", "torch"]
