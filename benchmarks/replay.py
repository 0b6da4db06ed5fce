"""A bare loop's means: inputs that are prepared once and then answered from memory, and a clock."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from transfer.training.pretext_task import Pretext

# What makes a task's inputs: its methods, and names in the module where its loss is.
PREPARES = {
    "autoencoder": ["pair"],
    "bigan": ["views"],
    "byol": ["views"],
    "colorization": ["crop_of", "ab", "soft_bins"],
    "counting": ["wholes_and_quarters"],
    "deepcluster": ["augment"],
    "distortion": ["changed"],
    "exemplar": ["transform"],
    "inpainting": ["puzzle"],
    "jigsaw": ["tiles"],
    "jigsawpp": ["tiles"],
    "relational": ["see"],
    "relative_position": ["patches", "disguised"],
    "rotation": ["copies"],
    "simclr": ["views"],
    "supervised": ["augment"],
}


class Recorded:
    """A function that is called through at first, and then answers what it answered, in order."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.answers = function, []
        self.replayed: int | None = None

    def __call__(self, *values: Any, **named: Any) -> Any:
        if self.replayed is None:
            self.answers.append(self.function(*values, **named))
            return self.answers[-1]
        self.replayed += 1
        return self.answers[(self.replayed - 1) % len(self.answers)]

    def method(self) -> Callable[..., Any]:
        """The same as a method, whose object does not count."""
        return lambda task, *values, **named: self(*values, **named)


@contextmanager
def recorded(name: str, task: Pretext) -> Iterator[list[Recorded]]:
    """Within, what prepares the task's inputs is recorded."""
    module, functions = importlib.import_module(type(task).loss.__module__), []
    with ExitStack() as stack:
        for prepares in [*PREPARES.get(name, []), "normalize"]:
            if hasattr(type(task), prepares):
                functions.append(Recorded(getattr(task, prepares)))
                stack.enter_context(patch.object(type(task), prepares, functions[-1].method()))
            elif hasattr(module, prepares):
                functions.append(Recorded(getattr(module, prepares)))
                stack.enter_context(patch.object(module, prepares, functions[-1]))
        yield functions


class Clock:
    """The rate between the first and the last of its ticks, each of which is a batch."""

    def __init__(self, batch: int):
        self.batch, self.first, self.last, self.ticks = batch, 0.0, 0.0, 0

    def tick(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.last = time.perf_counter()
        self.first = self.first or self.last
        self.ticks += 1

    @property
    def rate(self) -> float:
        return (self.ticks - 1) * self.batch / (self.last - self.first)
