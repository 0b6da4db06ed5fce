"""Keeps the signal handlers of a program that calls a run or an export."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signal_handlers_kept() -> Generator[None]:
    """Give Ctrl-C and SIGTERM back to the caller after a block that listens to them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # None: not set from Python, which cannot set it again
                signal.signal(number, handler)
