"""The commands: parse, call one function, print."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import traceback

import click

from transfer.cli import manage, run, view
from transfer.errors import TransferError
from transfer.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def cli() -> None:
    """Teach a small network what a deep one learned without labels: pretext, features, clusters, labels, target."""


for command in (
    run.run,
    run.status,
    view.list_,
    view.show,
    view.compare,
    view.report,
    view.graph,
    manage.verify,
    manage.gc,
    manage.export,
    manage.doctor,
    manage.init,
):
    cli.add_command(command)


def main() -> None:
    """The entry point: a person sees messages, never a traceback; the exit code says what kind of end it was."""
    signal.signal(
        signal.SIGTERM, lambda number, frame: sys.exit(128 + number)
    )  # until a run listens itself
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        # Where a library's own `exec` was interrupted, `python -m` would die of the signal after all: this forgets it.
        exec("")
        sys.exit(130)
    except TransferError as error:
        # What has a place starts with it, so that editors and terminals can jump there.
        placed = re.match(r"\S.*?:\d+:\d+: ", str(error))
        click.echo(f"{'' if placed else 'transfer: '}{error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        click.echo(f"transfer: {error}", err=True)
        sys.exit(1)
    except (
        Exception
    ) as error:  # a fault of ours: a person gets the message, and the trace in a file
        with tempfile.NamedTemporaryFile(
            "w", prefix="transfer-", suffix=".txt", delete=False
        ) as file:
            traceback.print_exc(file=file)
        click.echo(
            f"transfer: unexpected {type(error).__name__}: {error} (the whole trace is in {file.name})",
            err=True,
        )
        sys.exit(1)
