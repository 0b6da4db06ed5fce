"""Print the requirements of the package and its tests without torch, for the oldest torch."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pip._vendor import tomli  # the standard library has it from Python 3.11 on only

SKIPPED = {"torch", "torchvision"}


def requirements(faiss_cpu: bool) -> list[str]:
    """All requirements but torch's; `faiss_cpu` replaces FAISS for GPUs."""
    file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    project = tomli.loads(file.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    kept = [line for line in lines if re.split(r"[<>=;\s\[]", line)[0] not in SKIPPED]
    if faiss_cpu:
        kept = [line for line in kept if not line.startswith("faiss")] + ["faiss-cpu>=1.11"]
    return kept


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faiss-cpu", action="store_true")
    print("\n".join(requirements(parser.parse_args().faiss_cpu)))
