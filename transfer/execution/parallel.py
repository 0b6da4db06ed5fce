"""`-j`: stages that do not depend on one another run at once, each in a process of its own.

A child is the same command with one stage, `--only` and `--child`. Locks and keys are the store's,
so nothing else is shared. It writes events to stdout (`child_events.py`); its progress is shown in
this process, and what it writes to stderr is passed on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

from transfer.errors import Interrupted, TransferError
from transfer.execution.child_events import ERROR, PROGRESS, read_event, read_progress
from transfer.execution.run import Run
from transfer.execution.signal_handlers import SIGNALS
from transfer.stage.base import PlannedStage
from transfer.storage.manifest import MANIFEST
from transfer.utils.files import file_stamp
from transfer.utils.paths import CHECKOUT
from transfer.utils.progress_display import bars_hidden, shared_display

POLL_SECONDS = 0.05
CHILD_VARIABLES = {"PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}

Stages = list[PlannedStage[Any]]


def run_parallel(run: Run, pending: Stages) -> None:
    """Run all of `pending`, at most `jobs` at once; failures are collected in `run.failed`."""
    waiting: Stages = list(pending)
    children: dict[PlannedStage[Any], _Child] = {}
    signaled = False
    while waiting or children:
        if run.stop.number:
            # Once only: a second signal would end the children without a checkpoint.
            for child in () if signaled else children.values():
                child.process.send_signal(run.stop.number)
            signaled = True
        elif not run.failed or run.options.keep_going:
            _start_ready(run, waiting, children)
        elif not children:
            break
        time.sleep(POLL_SECONDS)
        for planned in [key for key, child in children.items() if child.has_ended()]:
            children.pop(planned).collect(run)
        if run.stop.number and not children:
            raise Interrupted(run.stop.number, "stopped; checkpoints of running stages are saved")


def _start_ready(run: Run, waiting: Stages, children: dict[PlannedStage[Any], _Child]) -> None:
    """Start stages whose dependencies are done, as far as there are jobs left."""
    unfinished = {*waiting, *children}
    ready = [planned for planned in waiting if not _is_blocked(planned, unfinished)]
    for planned in ready[: run.options.jobs - len(children)]:
        waiting.remove(planned)
        if run.skip_if_upstream_failed(planned):
            continue
        if not planned.is_pack:
            children[planned] = _Child(run, planned)
            continue
        try:
            run.run_stage(planned)  # in this process: packing uses all cores by itself
        except Interrupted:
            if not children:
                raise
            return  # the children must save their checkpoints first


def _is_blocked(planned: PlannedStage[Any], unfinished: set[PlannedStage[Any]]) -> bool:
    return bool(unfinished & set(planned.dependencies.values()))


class _Child:
    """A process that runs one stage."""

    def __init__(self, run: Run, planned: PlannedStage[Any]):
        self.planned, self.error = planned, ""
        self.earlier = _manifest_stamp(run, planned)
        self.place = run.schedule.begin(planned).text
        self.tasks: set[str] = set()  # in the display
        # The parent's own code, whatever folders of the same names are in the working directory.
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            _command(run, planned),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
            env={**os.environ, "PYTHONPATH": paths, **CHILD_VARIABLES},
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.readers = [
            threading.Thread(
                target=self._read_events, args=(self.process.stdout, run), daemon=True
            ),
            threading.Thread(target=_pass_on, args=(self.process.stderr, run), daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def collect(self, run: Run) -> None:
        """Take the outcome of an ended child over into the run."""
        label, code = self.planned.label, self.process.returncode
        if code < 0:
            self._kill_workers()
        for reader in self.readers:
            reader.join()
        for task in self.tasks:
            shared_display().remove(task)
        # A signal may end the child after it has made the artifact, while its process shuts down.
        if code == 0 or _manifest_stamp(run, self.planned) not in (self.earlier, []):
            run.forced.discard(self.planned)
        number = _signal_number(code)
        if number in SIGNALS:
            run.stop.number = run.stop.number or number
        elif code:
            error = TransferError(self.error or f"{label}: {_ending(code)}")
            error.exit_code = code if code > 0 else 128 + number
            run.failed[self.planned.key] = error
            run.report(f"{label}: FAILED: {str(error).removeprefix(f'{label}: ')}")

    def _kill_workers(self) -> None:
        """End what a killed child leaves: its workers would hold its pipes and its lock forever."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read_events(self, stream: IO[str], run: Run) -> None:
        for line in stream:
            kind, text = read_event(line)
            if kind == ERROR:
                self.error = text
            elif kind == PROGRESS:
                with suppress(ValueError, TypeError):  # a plug-in may print such a line
                    self._show(text, run.options.quiet)
            else:
                run.report(text)

    def _show(self, text: str, quiet: bool) -> None:
        """Show the state of a task of the child, with the place of its stage in the whole run."""
        name, snapshot = read_progress(text)
        if quiet:
            return
        task = f"{self.planned.key} {name}"
        if snapshot is None:
            shared_display().remove(task)
            self.tasks.discard(task)
        else:
            self.tasks.add(task)
            shared_display().show(task, replace(snapshot, stage=self.place, run_left=None))


def _manifest_stamp(run: Run, planned: PlannedStage[Any]) -> list[int]:
    """Return the stamp of an artifact's manifest, which is new once it was made again; or []."""
    try:
        return file_stamp(run.store.folder(planned.uses, planned.key) / MANIFEST)
    except OSError:
        return []


def _signal_number(code: int) -> int:
    """The signal that ended a process, or that it answered with exit code 128 + signal; else 0."""
    return -code if code < 0 else max(0, code - 128)


def _ending(code: int) -> str:
    """Describe the end of a child that reported no error."""
    if code > 0:
        return f"its process ended with exit code {code}"
    reason = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"its process was killed by signal {-code}{reason}"


def _command(run: Run, planned: PlannedStage[Any]) -> list[str]:
    """The command that runs one stage in a child."""
    options, runtime = run.options, run.options.runtime
    words = [sys.executable, "-m", "transfer", "run", str(run.plan.file), planned.label]
    words += ["--only", "--child", *run.flags]
    words += ["--device", runtime.device_name, "--precision", runtime.precision_name]
    words += ["--threads", str(max(1, runtime.threads // options.jobs))]
    words += ["--save-every", str(runtime.save_every)]
    switches = {
        "--compile": runtime.compile,
        "--force": planned in run.forced,
        "--restart": options.restart,
        "--no-wait": not options.wait,
    }
    return words + [switch for switch, given in switches.items() if given]


def _pass_on(stream: IO[str], run: Run) -> None:
    for line in stream:
        if run.stop.number:  # a child that had only begun prints where the signal met it
            continue
        with bars_hidden():
            print(line, end="", file=sys.stderr, flush=True)
