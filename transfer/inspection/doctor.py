"""`transfer doctor`: what is installed on this machine, and problems with their remedies."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from transfer.utils.files import free_bytes
from transfer.utils.formatting import file_size, plural
from transfer.utils.runtime import LIBRARIES, Runtime, versions
from transfer.version import __version__

LOW_DISK = 5_000_000_000  # bytes


def examine(store: Path) -> dict[str, Any]:
    """Return facts of the machine, and under `problems` each problem with its remedy."""
    problems = []
    installed = versions()
    for name in LIBRARIES:
        if name not in installed and not name.startswith("faiss"):
            problems.append(f"{name} is not installed: pip install {name}")
    facts: dict[str, Any] = {
        "transfer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": installed,
        "store": str(store),
        "free bytes": free_bytes(store),
    }
    facts |= _faiss(installed, problems)
    facts |= _torch(problems)
    problems += _store_problems(store, facts["free bytes"])
    return facts | {"problems": problems}


def _store_problems(store: Path, free: int) -> list[str]:
    problems = []
    existing = store
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        remedy = "choose another with --store or TRANSFER_STORE"
        problems.append(f"the store {store} cannot be written to: {remedy}")
    if free < LOW_DISK:
        remedy = "`transfer gc` lists what can be deleted"
        problems.append(f"only {file_size(free)} free at {store}: {remedy}")
    return problems


def _faiss(installed: dict[str, str], problems: list[str]) -> dict[str, Any]:
    packages = [name for name in ("faiss-gpu", "faiss-cpu") if name in installed]
    if len(packages) == 2:
        problems.append(
            "faiss-gpu and faiss-cpu are both installed, and overwrite one another: "
            "pip uninstall faiss-cpu"
        )
    try:
        from transfer.utils.lazy_imports import faiss

        gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
        name = "built by hand"
        if packages:
            name = f"{' and '.join(packages)} {metadata.version(packages[0])}"
        kind = "with GPU code" if hasattr(faiss, "StandardGpuResources") else "CPU only"
        return {"faiss": f"{name} ({kind}, sees {plural(gpus, 'GPU')})"}
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


def doctor_text(facts: dict[str, Any]) -> str:
    """Return what `examine` found, as lines."""
    lines = [f"transfer {facts['transfer']}, Python {facts['python']}, {facts['platform']}"]
    lines += [f"  {name} {version}" for name, version in facts["versions"].items()]
    lines.append(f"FAISS: {facts['faiss']}")
    lines.append(f"GPUs: {', '.join(facts['gpus']) or 'none'}")
    if "device" in facts:
        threads = plural(facts["threads"], "thread")
        lines.append(f"a run uses {facts['device']}, {facts['precision']}, {threads}")
    lines.append(f"store: {facts['store']}, {file_size(facts['free bytes'])} free")
    lines += [f"PROBLEM: {problem}" for problem in facts["problems"]] or ["no problems"]
    return "\n".join(lines)
