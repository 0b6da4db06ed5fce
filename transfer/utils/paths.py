"""Where things are: what ships with the package, and the store of a pipeline file."""

from __future__ import annotations

import os
from pathlib import Path

from transfer.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]  # the folder `transfer`
CHECKOUT = PACKAGE.parent  # the folder that holds it: of a checkout, or of installed packages


def shipped_folder(name: str) -> Path:
    """Folder `pipelines` or `data` of the project: in a checkout its own, in an installed wheel a copy."""
    packaged = PACKAGE / "shipped" / name
    return packaged if packaged.is_dir() else CHECKOUT / name


def check_output_folder(output: Path) -> None:
    """UsageError where a file to be written (`-o`) has no folder to lie in."""
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}")


def default_store(pipeline: Path | None = None) -> Path:
    """`TRANSFER_STORE`, else `.transfer/` beside the pipelines' folder (or beside the file, if it is elsewhere)."""
    if os.environ.get("TRANSFER_STORE"):
        return Path(os.environ["TRANSFER_STORE"]).expanduser().resolve()
    folder = pipeline.resolve().parent if pipeline else Path.cwd()
    return (folder.parent if folder.name == "pipelines" else folder) / ".transfer"
