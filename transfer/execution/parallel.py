"""`-j`: stages that do not depend on one another run at once, each in a process of its own.

A child is the same command with one stage, `--only` and `--child`. Locks and keys are the store's, so
nothing else is shared. A child writes JSON lines to stdout: `{"report": ...}` while it runs, and
`{"error": ...}` when it fails. Its progress lines go to stderr, and are passed on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from typing import IO, Any

from transfer.errors import Interrupted, TransferError
from transfer.execution.run import Run
from transfer.stage.base import PlannedStage
from transfer.utils.paths import CHECKOUT

INTERRUPTED = (130, 143)  # exit codes
POLL_SECONDS = 0.05

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
    ready = [one for one in waiting if not _is_blocked(one, [*waiting, *children])]
    for planned in ready[: run.options.jobs - len(children)]:
        waiting.remove(planned)
        if run.skip_if_upstream_failed(planned):
            continue
        if planned.is_pack:
            run.run_stage(planned)  # packing uses all cores by itself
        else:
            children[planned] = _Child(run, planned)


def _is_blocked(planned: PlannedStage[Any], unfinished: Iterable[PlannedStage[Any]]) -> bool:
    return bool(set(planned.dependencies.values()) & set(unfinished))


class _Child:
    """A process that runs one stage."""

    def __init__(self, run: Run, planned: PlannedStage[Any]):
        self.planned, self.error = planned, ""
        # The parent's own code, whatever folders of the same names are in the working directory.
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            _command(run, planned),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.readers = [
            threading.Thread(
                target=self._read_events, args=(self.process.stdout, run), daemon=True
            ),
            threading.Thread(target=_pass_on, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def collect(self, run: Run) -> None:
        """Take the outcome of an ended child over into the run."""
        for reader in self.readers:
            reader.join()
        code, label = self.process.returncode, self.planned.label
        if code in INTERRUPTED or code < 0:
            run.stop.number = run.stop.number or (code - 128 if code > 0 else -code)
        elif code:
            error = TransferError(self.error or f"{label}: its process ended with exit code {code}")
            error.exit_code = code
            run.failed[self.planned.key] = error
            run.report(f"{label}: FAILED: {str(error).removeprefix(f'{label}: ')}")
        else:
            run.forced.discard(self.planned)

    def _read_events(self, stream: IO[str], run: Run) -> None:
        for line in stream:
            event = json.loads(line)
            if "report" in event:
                run.report(event["report"])
            self.error = event.get("error", self.error)


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


def _pass_on(stream: IO[str]) -> None:
    for line in stream:
        print(line, end="", file=sys.stderr, flush=True)
