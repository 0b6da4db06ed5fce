"""Pipeline files in reach of a store: what each asks for now, or why that is unknown.

In reach is what the history names, and what lies beside the store or in a folder `pipelines` there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from transfer.api import Pipeline
from transfer.errors import TransferError
from transfer.storage.history import RecordedRun

# At the beginning of a line or of the file, or within one mapping in braces.
HAS_STAGES = re.compile(rb"(?:^|\A\xef\xbb\xbf|[{,])\s*[\"']?stages[\"']?\s*:", re.MULTILINE)
NAME = re.compile(rb"^name\s*:\s*[\"']?([\w.-]+)", re.MULTILINE)


@dataclass(frozen=True)
class FileUse:
    """What a pipeline file asks for now.

    Args:
        file: the pipeline file.
        keys: the keys of the artifacts that it asks for.
        problem: why that is unknown; empty where it is known.
        names: the names under which the file's runs are recorded.
    """

    file: Path
    keys: set[str] = field(default_factory=set)
    problem: str = ""
    names: set[str] = field(default_factory=set)

    def is_of(self, run: RecordedRun) -> bool:
        """Whether a run was a run of this file, or of one of its name that is now missing."""
        return run.file == str(self.file) or (
            run.pipeline in self.names and not (run.file and Path(run.file).exists())
        )


def file_uses(
    root: Path, runs: Iterable[RecordedRun], smoke: bool, forgotten: Iterable[Path]
) -> list[FileUse]:
    """Return what the pipeline files in reach of a store ask for; files that are gone are left out.

    Args:
        root: the folder of the store.
        runs: its history.
        smoke: whether the results are those of smoke runs.
        forgotten: files to leave out.
    """
    known = {Path(run.file) for run in runs if run.file}
    # `.transfer` may be a link to another disk; the files lie beside the link.
    parents = {Path(os.path.abspath(root)).parent, root.resolve().parent}
    folders = [folder for parent in parents for folder in (parent, parent / "pipelines")]
    near = {path for folder in folders for path in _candidates(folder)}
    dropped = {path.resolve() for path in forgotten}
    uses: list[FileUse] = []
    for file in sorted((known | near) - dropped):
        if _is_gone(file):
            continue
        uses.append(_file_use(file, root, smoke))
    return uses


def _candidates(folder: Path) -> list[Path]:
    """The pipeline files in a folder, and files of its kind that cannot be read.

    Hidden names are passed over: editors keep locks and copies there.
    """
    try:
        paths = [path for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
    except OSError:
        return []
    return [path.resolve() for path in paths if path.name[0] != "." and _may_have_stages(path)]


def _may_have_stages(path: Path) -> bool:
    """Whether a file is a pipeline file, or cannot be read."""
    if not path.is_file():
        return False
    try:
        return bool(HAS_STAGES.search(path.read_bytes()))
    except OSError:
        return True


def _is_gone(file: Path) -> bool:
    """Whether a file was removed.

    Where its folder is missing or empty, its disk may only be unmounted, so the answer is no.
    """
    try:
        return not file.is_file() and any(file.parent.iterdir())
    except OSError:
        return False


def _file_use(file: Path, root: Path, smoke: bool) -> FileUse:
    try:
        names = {file.stem, *(match.decode() for match in NAME.findall(file.read_bytes()))}
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); is its disk mounted?"
        return FileUse(file, problem=problem, names={file.stem})
    try:
        plan = Pipeline.load(file, store=root, smoke=smoke).plan
    except TransferError as error:
        return FileUse(file, problem=str(error).splitlines()[0], names=names)
    except (Exception, SystemExit) as error:  # a plug-in's code may raise anything
        return FileUse(file, problem=f"{type(error).__name__}: {error}", names=names)
    return FileUse(file, {planned.key for planned in plan})
