"""Device, precision and threads of a run: recorded with each result, and no part of its key."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer.errors import UsageError
from transfer.utils.lazy_imports import faiss, torch
from transfer.utils.paths import CHECKOUT

if TYPE_CHECKING:
    import torch as torch_types

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "h5py",
    "faiss-gpu",
    "faiss-cpu",
    "scikit-learn",
    "scikit-image",
    "timm",
    "pydantic",
    "safetensors",
)

# Parameters of glibc's `mallopt`, and a size larger than any tensor on a CPU here.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGE = (1 << 31) - 1


@dataclass(frozen=True)
class Runtime:
    """Values of `--device`, `--precision`, `--threads` and `--compile`; `auto` takes the best."""

    device_name: str = "auto"
    precision_name: str = "auto"
    requested_threads: int | None = None
    compile: bool = False
    save_every: float = 30.0  # seconds between checkpoints of a training

    @property
    def threads(self) -> int:
        """Threads to compute with; by default, all processors that this process may use."""
        if self.requested_threads:
            return self.requested_threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @cached_property
    def device(self) -> torch_types.device:
        """The device to compute on; UsageError if it is missing."""
        name = self.device_name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"--device {name}: not available ({reason})") from error
        return device

    def check_device(self) -> None:
        """Raise UsageError if the device is missing."""
        _ = self.device

    @cached_property
    def precision(self) -> str:
        """`bfloat16` where the hardware multiplies it faster than float32, else `float32`."""
        if self.precision_name != "auto":
            return self.precision_name
        if self.device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = self.device.type == "cpu" and cpu_has_fast_bfloat16()
        return "bfloat16" if fast else "float32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass in mixed precision."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def configure_threads(self) -> None:
        """Set the number of threads of torch, FAISS, and the linear algebra of numpy and scipy."""
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(self.threads)
        faiss.omp_set_num_threads(self.threads)
        threadpool_limits(self.threads)
        retain_freed_memory()

    def hardware(self) -> dict[str, Any]:
        """Return what decides the speed of a stage, as it is recorded with a result."""
        device = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else platform.processor() or platform.machine()
        )
        return {
            "device": f"{self.device} ({device})",
            "precision": self.precision,
            "threads": self.threads,
        }

    def describe(self) -> dict[str, Any]:
        """Return what is recorded with a result: the hardware and the versions of software."""
        return self.hardware() | {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": versions(),
            "commit": _commit(),
        }


def versions() -> dict[str, str]:
    """Return the installed versions of the libraries that affect results, without imports."""
    from importlib import metadata

    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def cpu_has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively: AMX, AVX-512 BF16, or BF16 on Arm."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("amx_bf16", "avx512_bf16", " bf16"))


def retain_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of returning it to the kernel.

    A training step on a CPU frees hundreds of megabytes and requests them again. By default glibc
    takes each large block from the kernel, which zeroes it page by page. That is a fifth of the
    time of an AlexNet's step.
    """
    with suppress(OSError, AttributeError):  # other C libraries lack `mallopt`
        library = ctypes.CDLL(None)
        for parameter, value in (
            (M_TRIM_THRESHOLD, LARGE),
            (M_MMAP_THRESHOLD, LARGE),
            (M_TOP_PAD, 64 << 20),
        ):
            library.mallopt(parameter, value)


def _commit() -> str:
    """The git commit of the checkout; empty for an installed package."""
    if not (CHECKOUT / ".git").exists() or shutil.which("git") is None:
        return ""
    result = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip()
