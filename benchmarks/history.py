"""What every script has: shared options, and figures that are kept in a history."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from transfer.utils.runtime import versions

if TYPE_CHECKING:
    from benchmarks.rounds import Rounds

HISTORY = Path(__file__).resolve().parent / "history.jsonl"
SHARED_OPTIONS = ("smoke", "note", "history")


@dataclass(frozen=True)
class Figure:
    """A measured value, with its alternative's where there is one."""

    measured: str
    value: float
    unit: str
    alternative: str = ""
    beside: float | None = None
    ratio: float | None = None

    def __str__(self) -> str:
        text = f"{self.measured}: {shown(self.value)} {self.unit}"
        if self.beside is not None:
            text += f"; {self.alternative} {shown(self.beside)}"
        return text if self.ratio is None else f"{text}; ratio {self.ratio:.2f}"


def shown(value: float) -> str:
    """A number with three digits or more, as far as they mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def options_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose help is a script's docstring, with the options that all scripts have."""
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--smoke", action="store_true", help="show in seconds that all works; measures nothing"
    )
    parser.add_argument("--note", default="", help="what to know of the machine; kept with figures")
    parser.add_argument(
        "--history",
        type=Path,
        help=f"file that figures are added to; {HISTORY.name} by default, none with --smoke",
    )
    return parser


def parsed(parser: argparse.ArgumentParser, **smoke: Any) -> argparse.Namespace:
    """The options; `smoke` replaces defaults where `--smoke` is given."""
    if "--smoke" in sys.argv[1:]:
        parser.set_defaults(**smoke)
    options = parser.parse_args()
    if options.history is None and not options.smoke:
        options.history = HISTORY
    return options


class Report:
    """The figures of one run of a script: printed at once, and added to the history at the end.

    with Report(__file__, options) as report:
        report.add("prepare", 12.9, "s")
    """

    def __init__(self, script: str, options: argparse.Namespace):
        self.script, self.options = Path(script).stem, options
        self.figures: list[Figure] = []
        self.remarks: list[str] = []

    def add(self, measured: str, value: float, unit: str) -> None:
        """Keep a value that has no alternative.

        Args:
            measured: What was measured.
            value: The value.
            unit: Its unit.
        """
        self._keep(Figure(measured, value, unit))

    def compare(self, measured: str, unit: str, rounds: Rounds, name: str, *beside: str) -> None:
        """Keep a side's median, that of the sum of its alternatives, and their ratio.

        Args:
            measured: What was measured.
            unit: The unit of both.
            rounds: The values of all sides.
            name: The side.
            beside: The sides that it is compared with.
        """
        value, other = rounds.median(name), rounds.median(*beside)
        ratio = rounds.ratio(name, *beside)
        self._keep(Figure(measured, value, unit, " + ".join(beside), other, ratio))

    def remark(self, text: str) -> None:
        """Keep what a reader must know, such as what could not be measured."""
        print(text, flush=True)
        self.remarks.append(text)

    def record(self) -> dict[str, Any]:
        """All that is kept of this run."""
        arguments = {
            name: plain(value)
            for name, value in vars(self.options).items()
            if name not in SHARED_OPTIONS
        }
        return {
            "script": self.script,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "arguments": arguments,
            **this_machine(),
            "smoke": self.options.smoke,
            "note": self.options.note,
            "remarks": self.remarks,
            "figures": [asdict(figure) for figure in self.figures],
        }

    def _keep(self, figure: Figure) -> None:
        print(figure, flush=True)
        self.figures.append(figure)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self.figures and self.options.history is not None:
            with open(self.options.history, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.record()) + "\n")


def plain(value: Any) -> Any:
    """An option's value for JSON; of a path only the name."""
    if isinstance(value, Path):
        return value.name
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def read_history(path: Path = HISTORY) -> list[dict[str, Any]]:
    """All records, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def this_machine() -> dict[str, Any]:
    """The processor, whether it has AMX, the cores that this process may use, and versions."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "processor": lines[0] if lines else platform.processor() or platform.machine(),
        "amx": "amx_bf16" in text,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "versions": {"python": platform.python_version(), **versions()},
    }
