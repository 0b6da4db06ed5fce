"""What reads the results of a pipeline file needs: its plan, and the store of its artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from transfer.pipeline.plan import Plan
from transfer.storage.store import Store


class OpenPipeline(Protocol):
    """A plan with its store, such as `transfer.api.Pipeline`."""

    @property
    def plan(self) -> Plan:
        """The stages of the file."""
        ...

    @property
    def store(self) -> Store:
        """The folder of the results."""
        ...

    @property
    def flags(self) -> Sequence[str]:
        """The command-line flags with which the file was read, for commands in messages."""
        ...
