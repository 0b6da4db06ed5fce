"""How long a command takes that finds nothing to do, beside `dvc repro` on a chain of six stages.

    python benchmarks/nothing_to_do.py [--rounds 10]

The commands take turns, round by round. Without dvc on the PATH ours are measured alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.common import SHIPPED, SMALL
from benchmarks.history import Report, options_parser, parsed
from benchmarks.rounds import seconds_of, take_turns


def run_quietly(words: list[str], folder: Path) -> None:
    silent = subprocess.DEVNULL
    subprocess.run(words, cwd=folder, check=True, stdout=silent, stderr=silent)


def dvc_chain(folder: Path) -> list[str] | None:
    """Six stages that copy a file on, made already; None where dvc is not installed."""
    if shutil.which("dvc") is None:
        return None
    folder.mkdir()
    stages = "".join(
        f"  s{i}:\n    cmd: cp f{i - 1} f{i}\n    deps: [f{i - 1}]\n    outs: [f{i}]\n"
        for i in range(1, 7)
    )
    (folder / "f0").write_text("0", encoding="utf-8")
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}", encoding="utf-8")
    run_quietly(["dvc", "init", "--no-scm", "-q"], folder)
    run_quietly(["dvc", "repro", "-q"], folder)
    return ["dvc", "repro"]


def own_command() -> list[str]:
    """The installed command where there is one, else the module."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = shutil.which("transfer", path=places)
    return [command] if command else [sys.executable, "-m", "transfer"]


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    options = parsed(parser, rounds=1)
    with Report(__file__, options) as report, tempfile.TemporaryDirectory() as place:
        folder, transfer = Path(place), own_command()
        where = [str(SHIPPED), *SMALL, "--store", str(folder / "store")]
        run_quietly([*transfer, "run", *where, "--threads", "1"], folder)
        commands = {name: [*transfer, name, *where] for name in ("run", "status")}
        commands["--help"] = [*transfer, "--help"]
        folders = dict.fromkeys(commands, folder)
        if dvc := dvc_chain(folder / "dvc"):
            commands["dvc repro"], folders["dvc repro"] = dvc, folder / "dvc"
        else:
            report.remark("dvc is not installed: nothing is beside `dvc repro`")
        sides = {
            name: partial(seconds_of, partial(run_quietly, words, folders[name]))
            for name, words in commands.items()
        }
        rounds = take_turns(sides, options.rounds)
        for name in ("run", "status", "--help"):
            if dvc:
                report.compare(name, "s", rounds, name, "dvc repro")
            else:
                report.add(name, rounds.median(name), "s")


if __name__ == "__main__":
    main()
