"""`transfer doctor`: what is installed on this machine, and problems with their remedies."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from transfer.inspection import machine
from transfer.inspection.packages import (
    EXTRAS,
    FAISS,
    REQUIRED,
    install_command,
    installed_version,
)
from transfer.utils.files import free_bytes
from transfer.utils.formatting import MISSING, file_size, plural
from transfer.utils.runtime import Runtime
from transfer.version import __version__

LOW_DISK = 5_000_000_000  # bytes


def examine(store: Path) -> dict[str, Any]:
    """Return facts of the machine, and under `problems` each problem with its remedy.

    A missing extra is not a problem.
    """
    problems: list[str] = []
    versions = {name: installed_version(name) for name in (*REQUIRED, *FAISS)}
    problems += [
        f"{name} is not installed: pip install {name}"
        for name in REQUIRED
        if versions[name] is None
    ]
    facts: dict[str, Any] = {
        "transfer": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name, version in versions.items() if version},
        "extras": _extras(),
        "cores": machine.cores(),
        "memory": machine.memory(),
        "store": str(store),
        "free bytes": free_bytes(store),
    }
    facts |= _faiss(versions, problems)
    facts |= _torch(problems)
    problems += _store_problems(store, facts["free bytes"])
    return facts | {"problems": problems}


def _extras() -> dict[str, dict[str, Any]]:
    extras = {}
    for name, extra in EXTRAS.items():
        packages = {package: installed_version(package) for package in extra.packages}
        extras[name] = {
            "purpose": extra.purpose,
            "packages": packages,
            "installed": all(packages.values()),
            "install": install_command(name),
        }
    return extras


def _store_problems(store: Path, free: int) -> list[str]:
    problems = []
    existing = store
    while not existing.exists():
        existing = existing.parent
    remedy = "choose another with --store or TRANSFER_STORE"
    if not existing.is_dir():
        problems.append(f"the store {store} cannot be made, since {existing} is a file: {remedy}")
    elif not os.access(existing, os.W_OK):
        problems.append(f"the store {store} cannot be written to: {remedy}")
    if free < LOW_DISK:
        remedy = "`transfer gc` lists what can be deleted"
        problems.append(f"only {file_size(free)} free at {store}: {remedy}")
    return problems


def _faiss(versions: dict[str, str | None], problems: list[str]) -> dict[str, Any]:
    packages = [name for name in FAISS if versions[name]]
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
            name = f"{' and '.join(packages)} {versions[packages[0]]}"
        kind = "with GPU code" if hasattr(faiss, "StandardGpuResources") else "CPU only"
        return {"faiss": f"{name} ({kind}, sees {plural(gpus, 'GPU')})"}
    except Exception as error:  # a broken binary may fail in any way
        problems.append(f"FAISS does not load ({error}): pip install --force-reinstall faiss-cpu")
        return {"faiss": "does not load"}


def _torch(problems: list[str]) -> dict[str, Any]:
    try:
        from transfer.utils.lazy_imports import torch

        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        runtime = Runtime()
        return {
            "gpus": [device.name for device in devices],
            "gpu bytes": [device.total_memory for device in devices],
            "cuda": torch.version.cuda,  # None: torch is built for CPUs only
            "device": str(runtime.device),
            "precision": runtime.precision,
            "threads": runtime.threads,
        }
    except Exception as error:  # a broken binary may fail in any way
        problems.append(
            f"torch does not load ({error}): pip install --force-reinstall torch torchvision"
        )
        return {"gpus": [], "gpu bytes": [], "cuda": None}


def doctor_text(facts: dict[str, Any]) -> str:
    """Return what `examine` found, as lines."""
    lines = [f"transfer {facts['transfer']}, Python {facts['python']}, {facts['platform']}"]
    lines += [f"  {name} {version}" for name, version in facts["versions"].items()]
    lines += ["extras", *_extra_lines(facts["extras"])]
    lines.append(f"cores: {_cores_text(facts['cores'])}")
    lines.append(f"memory: {_memory_text(facts['memory'])}")
    lines.append(f"GPUs: {_gpus_text(facts)}")
    lines.append(f"FAISS: {facts['faiss']}")
    if "device" in facts:
        threads = plural(facts["threads"], "thread")
        lines.append(f"a run uses {facts['device']}, {facts['precision']}, {threads}")
    lines.append(f"store: {facts['store']}, {file_size(facts['free bytes'])} free")
    lines += [f"PROBLEM: {problem}" for problem in facts["problems"]] or ["no problems"]
    return "\n".join(lines)


def _extra_lines(extras: dict[str, dict[str, Any]]) -> list[str]:
    """Two lines for each extra: its purpose, and its packages or how to install them."""
    width = max((len(name) for name in extras), default=0)
    lines = []
    for name, extra in extras.items():
        packages = [
            f"{package} {version or MISSING}" for package, version in extra["packages"].items()
        ]
        state = "" if extra["installed"] else f"not installed: {extra['install']}"
        lines.append(f"  {name:<{width}}  {extra['purpose']}{state and f'; {state}'}")
        lines.append(f"  {'':<{width}}  {', '.join(packages)}")
    return lines


def _cores_text(cores: dict[str, Any]) -> str:
    text = f"{cores['usable']} of {cores['total']} usable"
    return text if cores["quota"] is None else f"{text}, limited to the time of {cores['quota']:g}"


def _memory_text(memory: dict[str, int | None]) -> str:
    parts = [
        f"{file_size(count)}{suffix}"
        for key, suffix in (("total", ""), ("limit", " allowed"), ("available", " available"))
        if (count := memory[key]) is not None
    ]
    return ", ".join(parts) or "unknown"


def _gpus_text(facts: dict[str, Any]) -> str:
    if not facts["gpus"]:
        return "none" if facts["cuda"] else "none (this torch is built without CUDA)"
    sizes = zip(facts["gpus"], facts["gpu bytes"], strict=True)
    return ", ".join(f"{name} ({file_size(size)})" for name, size in sizes)
