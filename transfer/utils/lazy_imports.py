"""Heavy libraries, imported when first used.

Reading commands and a run with nothing to do must answer at once, so nothing that they import may import
torch, FAISS or HDF5. A module that writes `from transfer.utils.lazy_imports import torch` pays for it at the first `torch.x`.
FAISS is imported here and nowhere else, after torch: the other order is known to crash on some platforms.
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

    class _Lazy(ModuleType):
        def __init__(self, name: str, after: str | None = None):
            super().__init__(name)
            self._after = after

        def __getattr__(self, attribute: str) -> Any:
            if self._after:
                importlib.import_module(self._after)
            value = getattr(importlib.import_module(self.__name__), attribute)
            setattr(self, attribute, value)
            return value

    torch = _Lazy("torch")
    nn = _Lazy("torch.nn")
    F = _Lazy("torch.nn.functional")
    faiss = _Lazy("faiss", after="torch")
    h5py = _Lazy("h5py")
    np = _Lazy("numpy")
    safetensors = _Lazy("safetensors.torch")
    sparse = _Lazy("scipy.sparse")

__all__ = ["F", "faiss", "h5py", "nn", "np", "safetensors", "sparse", "torch"]
