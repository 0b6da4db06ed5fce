"""`-j`: stages that do not stand on one another run at the same time, each in a process of its own.

A child is the same command with one stage and `--only`; locks and keys are the store's, so nothing else is shared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from transfer.errors import Interrupted, TransferError
from transfer.utils.paths import CHECKOUT

if TYPE_CHECKING:
    from transfer.execution.run import Run
    from transfer.pipeline.plan import PlannedStage

INTERRUPTED = (130, 143)


def run_parallel(run: Run, pending: list[PlannedStage]) -> None:
    """Make all of `pending`, at most `jobs` at a time; failures are collected in `run.failed`."""
    waiting, children, told = list(pending), {}, False
    while waiting or children:
        if run.stop.number:
            for child in (
                () if told else children.values()
            ):  # once: a second signal would end them unsaved
                child.process.send_signal(run.stop.number)
            told = True
        elif not run.failed or run.options.keep_going:
            for one in [one for one in waiting if not _blockers(one, waiting, children)][
                : run.options.jobs - len(children)
            ]:
                waiting.remove(one)
                if run.skip_if_upstream_failed(one):
                    continue
                if one.uses == "images":
                    run.run_stage(one)  # packing uses all cores by itself
                else:
                    children[one] = _Child(run, one)
        elif not children:
            break
        time.sleep(0.05)
        for one in [one for one, child in children.items() if child.process.poll() is not None]:
            _finish(run, one, children.pop(one))
        if run.stop.number and not children:
            raise Interrupted(run.stop.number, "stopped; what was running saved what it had")


def _blockers(
    one: PlannedStage, waiting: list[PlannedStage], children: dict[PlannedStage, _Child]
) -> bool:
    return any(other in waiting or other in children for other in one.dependencies.values())


def _finish(run: Run, one: PlannedStage, child: _Child) -> None:
    child.reader.join()
    code = child.process.returncode
    if code in INTERRUPTED or code < 0:
        run.stop.number = run.stop.number or (code - 128 if code > 0 else -code)
    elif code:
        error = TransferError(
            "\n".join(child.errors).removeprefix("transfer: ").partition("\nTo go on:")[0]
            or f"{one.label} failed"
        )
        error.exit_code = code
        run.failed[one.key] = error
        run.report(f"{one.label}: FAILED: {str(error).removeprefix(f'{one.label}: ')}")
    else:
        run.forced.discard(one)


class _Child:
    def __init__(self, run: Run, one: PlannedStage):
        options = run.options
        words = [
            sys.executable,
            "-m",
            "transfer",
            "run",
            str(run.plan.file),
            one.label,
            "--only",
            *run.words,
        ]
        words += [
            "--device",
            options.machine.device_name,
            "--precision",
            options.machine.precision_name,
        ]
        words += ["--threads", str(max(1, options.machine.threads // options.jobs))]
        words += ["--save-every", str(options.machine.save_every)]
        flags = {
            "--compile": options.machine.compile,
            "--force": one in run.forced,
            "--restart": options.restart,
            "--no-wait": not options.wait,
        }
        words += [flag for flag, wanted in flags.items() if wanted]
        # The parent's own code, whatever folders of the same names lie in the working directory.
        paths = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )
        self.errors: list[str] = []
        self.reader = threading.Thread(target=self._read, args=(run, one.label), daemon=True)
        self.reader.start()

    def _read(self, run: Run, label: str) -> None:
        def progress() -> None:
            for line in self.process.stderr:
                if line.startswith("  "):
                    print(line, end="", file=sys.stderr, flush=True)
                else:
                    self.errors.append(line.rstrip("\n"))

        other = threading.Thread(target=progress, daemon=True)
        other.start()
        for line in self.process.stdout:
            note = line.startswith("  ") and not line.startswith("   ")
            if (
                note
                or line.startswith(f"{label}: ")
                or ": damaged (" in line
                or ": waiting for " in line
            ):
                run.report(line.rstrip("\n"))
        other.join()
