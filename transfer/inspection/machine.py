"""Cores and memory that this process may use: those of the machine, within a container's limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")  # limits of a container or a job, on Linux
# Files with a limit of memory, in version 2 and in version 1.
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
MEMORY_USES = ("memory.current", "memory/memory.usage_in_bytes")


def cores() -> dict[str, Any]:
    """Return the cores of the machine, and how many of them this process may use."""
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return {"total": total, "usable": usable, "quota": _core_quota()}


def memory() -> dict[str, int | None]:
    """Return the bytes of memory, those that are available, and the limit; None where unknown."""
    total, available, limit = _total(), _available(), _first_number(MEMORY_LIMITS)
    if limit is not None and total is not None and limit >= total:
        limit = None  # "no limit" is a huge number in version 1
    used = _first_number(MEMORY_USES)
    if limit is not None and used is not None:
        room = max(0, limit - used)
        available = room if available is None else min(room, available)
    return {"total": total, "available": available, "limit": limit}


def _core_quota() -> float | None:
    """The processor time that a container may use, in cores; None without a limit."""
    try:
        quota, period = (CGROUPS / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _total() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _available() -> int | None:
    """The memory that Linux can give without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def _first_number(names: tuple[str, ...]) -> int | None:
    for name in names:
        try:
            return int((CGROUPS / name).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
    return None
