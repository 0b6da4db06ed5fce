"""Files that the options of a pipeline file name: find, digest, or replace them in a smoke run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transfer.pipeline.document_nodes import Faults, Node
from transfer.stage.base import Stage
from transfer.stage.file_option import DIGITS, OptionFile, option_files
from transfer.utils.formatting import inline_yaml
from transfer.utils.paths import broken_link
from transfer.utils.stamp_cache import StampCache


@dataclass(frozen=True)
class FileInputs:
    """Finds the files of a pipeline file's options.

    Paths start at the folder of the pipeline file; those of `--set` at the working directory.
    """

    base_dir: Path
    digests: StampCache
    faults: Faults
    smoke: bool = False

    def resolve(self, stage: Stage, node: Node, where: str) -> tuple[Stage | None, str]:
        """Return `stage` with its files digested, and a note for the user.

        None, and a fault, where a file cannot be read. In a smoke run the stage's `stand_ins`
        replace a missing file, with a note.

        Args:
            stage: the stage.
            node: its node, for the place of a fault.
            where: its path in the file.
        """
        changes: dict[str, Any] = {}
        notes: list[str] = []
        for name, file in option_files(stage).items():
            mark = node.mark_at((name,))
            start = self.base_dir if mark.line else Path.cwd()
            path = Path(os.path.abspath(start / os.path.expanduser(file.path)))
            try:
                digest = self.digests.digest(path)[:DIGITS]
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                if not (self.smoke and missing and name in stage.stand_ins):
                    problem = f"{path} cannot be read ({error.strerror}){broken_link(path)}"
                    self.faults.add(mark, f"{where}.{name}", problem)
                    return None, ""
                changes |= stage.stand_ins[name]
                stand_ins = [
                    f"`{option}: {inline_yaml(value)}`"
                    for option, value in stage.stand_ins[name].items()
                    if value
                ]
                notes.append(f"{', '.join(stand_ins)} replaces {path}, which is missing")
            else:
                changes[name] = OptionFile(path=str(path), digest=digest)
        return (stage.model_copy(update=changes) if changes else stage), "; ".join(notes)
