"""The command line: each command parses its arguments, calls one function and prints the result."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import traceback

import click

from transfer.cli import completion, history, manage, run, view
from transfer.cli.text_output import READABLE, configure_streams, echo
from transfer.errors import TransferError
from transfer.version import __version__

COMPLETE = "_TRANSFER_COMPLETE"  # the variable with which a shell asks for completions
PLACE = re.compile(r"\S.*?:\d+:\d+: ")  # FILE:LINE:COLUMN


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Transfer what a deep network learned without labels to a small network.

    A pipeline file names the steps: a pretext task, features, clusters, pseudo-labels, a small
    network that learns them, and its evaluation.
    """


for command in (
    run.run,
    run.status,
    view.list_,
    view.show,
    view.compare,
    view.report,
    view.graph,
    history.history,
    manage.verify,
    manage.gc,
    manage.export,
    manage.doctor,
    manage.init,
    manage.docs,
):
    cli.add_command(command)


def main() -> None:
    """Run a command; every error becomes a message without a traceback, and an exit code."""
    configure_streams()
    # Until a run listens to signals itself.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if COMPLETE in os.environ:
        completion.install()
    try:
        _run_command()
    except BrokenPipeError:  # who reads the output, such as `head`, has gone
        for number in (1, 2):  # for what is still to be flushed
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        sys.exit(1)


def _run_command() -> None:
    try:
        cli.main(standalone_mode=False, complete_var=COMPLETE)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        echo("stopped", err=True)
        # Where a library's own `exec` was interrupted, Python remembers it and `python -m` would
        # die of the signal after all. This `exec` makes it forget.
        exec("")
        sys.exit(130)
    except TransferError as error:
        # A message with a place starts with it, so that editors and terminals can jump there.
        prefix = "" if PLACE.match(str(error)) else "transfer: "
        echo(f"{prefix}{error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        echo(f"transfer: {text}", err=True)
        sys.exit(1)
    except Exception as error:
        echo(f"transfer: {_unexpected(error)}", err=True)
        sys.exit(1)


def _unexpected(error: Exception) -> str:
    """Describe an error that is being handled and that no code foresaw; its traceback is kept."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="transfer-", suffix=".txt", delete=False, encoding="utf-8", errors=READABLE
    ) as file:
        traceback.print_exc(file=file)
    return f"unexpected {type(error).__name__}: {error} (traceback in {file.name})"
