"""`transfer doctor`: what this machine has, and what stands in the way."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from transfer.utils.files import free_bytes
from transfer.utils.formatting import file_size
from transfer.utils.runtime import LIBRARIES, Runtime, versions
from transfer.version import __version__

LOW_DISK = 5_000_000_000


def examine(store: Path) -> dict[str, Any]:
    """Facts and problems; a problem says what to do about it."""
    problems = []
    installed = versions()
    for name in LIBRARIES:
        if name not in installed and not name.startswith("faiss"):
            problems.append(f"{name} is not installed: pip install {name}")
    found: dict[str, Any] = {
        "transfer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": installed,
        "store": str(store),
        "free bytes": free_bytes(store),
    }
    found |= _faiss(installed, problems)
    found |= _torch(problems)
    writable = store
    while not writable.exists():
        writable = writable.parent
    if not os.access(writable, os.W_OK):
        problems.append(
            f"the store {store} cannot be written to: choose another with --store or TRANSFER_STORE"
        )
    if found["free bytes"] < LOW_DISK:
        problems.append(
            f"only {file_size(found['free bytes'])} free at {store}: `transfer gc` lists what can go"
        )
    return found | {"problems": problems}


def _faiss(installed: dict[str, str], problems: list[str]) -> dict[str, Any]:
    both = [name for name in ("faiss-gpu", "faiss-cpu") if name in installed]
    if len(both) == 2:
        problems.append(
            "faiss-gpu and faiss-cpu are both installed, and overwrite one another: pip uninstall faiss-cpu"
        )
    try:
        from transfer.utils.lazy_imports import faiss

        gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
        name = f"{' and '.join(both)} {metadata.version(both[0])}" if both else "built by hand"
        kind = "with GPU code" if hasattr(faiss, "StandardGpuResources") else "CPU only"
        return {"faiss": f"{name} ({kind}, {gpus} GPUs seen)"}
    except Exception as error:  # a broken binary may fail in any way
        problems.append(f"FAISS does not load ({error}): pip install --force-reinstall faiss-cpu")
        return {"faiss": "does not load"}


def _torch(problems: list[str]) -> dict[str, Any]:
    try:
        from transfer.utils.lazy_imports import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        runtime = Runtime()
        return {
            "gpus": gpus,
            "device": str(runtime.device),
            "precision": runtime.precision,
            "threads": runtime.threads,
        }
    except Exception as error:  # a broken binary may fail in any way
        problems.append(
            f"torch does not load ({error}): pip install --force-reinstall torch torchvision"
        )
        return {"gpus": []}


def doctor_text(found: dict[str, Any]) -> str:
    lines = [f"transfer {found['transfer']}, Python {found['python']}, {found['platform']}"]
    lines += [f"  {name} {version}" for name, version in found["versions"].items()]
    lines.append(f"FAISS: {found['faiss']}")
    lines.append(f"GPUs: {', '.join(found['gpus']) or 'none'}")
    if "device" in found:
        lines.append(
            f"a run uses {found['device']}, {found['precision']}, {found['threads']} threads"
        )
    lines.append(f"store: {found['store']}, {file_size(found['free bytes'])} free")
    lines += [f"PROBLEM: {problem}" for problem in found["problems"]] or ["no problems found"]
    return "\n".join(lines)
