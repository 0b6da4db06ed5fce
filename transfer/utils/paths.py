"""Paths: the folders that ship with the package, and the store of a pipeline file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from transfer.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[1]  # the folder `transfer`
CHECKOUT = PACKAGE.parent  # its parent: a checkout, or the folder of installed packages


def shipped_folder(name: str) -> Path:
    """Return `pipelines`, `data` or `docs`: a copy in an installed wheel, or the checkout's."""
    packaged = PACKAGE / "shipped" / name
    return packaged if packaged.is_dir() else CHECKOUT / name


def broken_link(path: Path) -> str:
    """Say which link on the way to `path` leads nowhere, as `: it is a link to ...`; or empty."""
    with suppress(OSError):
        for part in (*reversed(path.parents), path):
            if part.is_symlink() and not part.exists():
                link = "it" if part == path else part
                return f": {link} is a link to {os.readlink(part)}, which is missing"
    return ""


def check_output_folder(output: Path) -> None:
    """Raise UsageError if the folder of an output file (`-o`) does not exist."""
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: the folder {output.parent} does not exist")


def default_store(pipeline: Path | None = None) -> Path:
    """Return the folder of the store.

    It is `TRANSFER_STORE` if set, else `.transfer/` beside the folder `pipelines`. A pipeline file
    outside of such a folder has `.transfer/` beside itself.
    """
    if os.environ.get("TRANSFER_STORE"):
        return Path(os.environ["TRANSFER_STORE"]).expanduser().resolve()
    folder = pipeline.resolve().parent if pipeline else Path.cwd()
    return (folder.parent if folder.name == "pipelines" else folder) / ".transfer"


def store_folder(store: Path | None, pipeline: Path | None = None) -> Path:
    """Return the absolute folder of the store that a command named, or of the default one."""
    return store.expanduser().resolve() if store is not None else default_store(pipeline)
