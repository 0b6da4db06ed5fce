"""Where a run happens: device, precision, threads. None of it is part of a result's key; all of it is recorded."""

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

# glibc's numbers for what `mallopt` sets, and a size that no tensor on a CPU reaches here.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGE = (1 << 31) - 1


@dataclass(frozen=True)
class Runtime:
    """What `--device`, `--precision`, `--threads` and `--compile` ask for; `auto` takes the best there is."""

    device_name: str = "auto"
    precision_name: str = "auto"
    requested_threads: int | None = None
    compile: bool = False
    save_every: float = 30.0  # seconds between checkpoints of a training

    @property
    def threads(self) -> int:
        if self.requested_threads:
            return self.requested_threads
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )

    @cached_property
    def device(self) -> torch_types.device:
        """The device; UsageError where it is not there."""
        name = self.device_name
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(
                f"--device {name}: not there ({str(error).splitlines()[0]})"
            ) from error
        return device

    def check_device(self) -> None:
        """UsageError where the device is missing."""
        _ = self.device

    @cached_property
    def precision(self) -> str:
        """`bfloat16` where the hardware multiplies it faster than float32, else `float32`."""
        if self.precision_name != "auto":
            return self.precision_name
        if self.device.type == "cuda":
            return (
                "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
            )
        return "bfloat16" if self.device.type == "cpu" and cpu_has_fast_bfloat16() else "float32"

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for a forward pass."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def configure_threads(self) -> None:
        """Give torch, FAISS and the linear algebra of numpy and scipy their number of threads."""
        from threadpoolctl import threadpool_limits

        torch.set_num_threads(self.threads)
        faiss.omp_set_num_threads(self.threads)
        threadpool_limits(self.threads)
        retain_freed_memory()

    def describe(self) -> dict[str, Any]:
        """What is recorded beside a result."""
        device = (
            torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else platform.processor() or platform.machine()
        )
        return {
            "device": f"{self.device} ({device})",
            "precision": self.precision,
            "threads": self.threads,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": versions(),
            "commit": _commit(),
        }


def versions() -> dict[str, str]:
    """Installed versions of what a result may depend on, without importing any of it."""
    from importlib import metadata

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cpu_has_fast_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 natively (AMX or AVX-512 BF16 on x86; BF16 on Arm)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in flags for flag in ("amx_bf16", "avx512_bf16", " bf16"))


def retain_freed_memory() -> None:
    """Let the C library keep freed memory for the next step instead of handing it back to the kernel.

    A training step on a CPU frees and asks for the same hundreds of megabytes again, and glibc by default takes each
    large piece fresh from the kernel, which zeroes it page by page: a fifth of the time of an AlexNet's step.
    """
    with suppress(OSError, AttributeError):  # another C library has no such switch
        library = ctypes.CDLL(None)
        for parameter, value in (
            (M_TRIM_THRESHOLD, LARGE),
            (M_MMAP_THRESHOLD, LARGE),
            (M_TOP_PAD, 64 << 20),
        ):
            library.mallopt(parameter, value)


def _commit() -> str:
    if not (CHECKOUT / ".git").exists() or shutil.which("git") is None:
        return ""
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
