"""Write the tables of figures into README.md, from the history of measurements.

    python -m benchmarks.tables

Of runs of a script with the same arguments on the same processor, the latest is shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.history import read_history, shown

README = Path(__file__).resolve().parent / "README.md"
BEGIN = "<!-- figures: written by `python -m benchmarks.tables`, not by hand -->"
END = "<!-- end of figures -->"


def latest(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last record of each script, arguments and processor, ordered by script."""
    chosen: dict[str, dict[str, Any]] = {}
    for record in records:
        if not record["smoke"]:
            key = str([record[name] for name in ("script", "arguments", "processor", "cores")])
            chosen.pop(key, None)
            chosen[key] = record
    return sorted(chosen.values(), key=lambda record: record["script"])


def written(arguments: dict[str, Any]) -> str:
    """Arguments by name; those that are empty are left out."""
    words = []
    for name, value in arguments.items():
        if value not in (None, False, "", []):
            values = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            words.append(name if value is True else f"{name} {values}")
    return "; ".join(words)


def table(record: dict[str, Any]) -> list[str]:
    """The lines of one run: where and how it was measured, its figures, and its remarks."""
    cores = f"{record['cores']} cores" if record["cores"] != 1 else "1 core"
    amx = "with AMX" if record["amx"] else "without AMX"
    where = f"{record['processor']}, {cores}, {amx}; torch {record['versions']['torch']}"
    lines = [f"### {record['script']}", "", f"{record['date']}; {where}."]
    if record["note"]:
        lines.append(f"Note: {record['note']}.")
    if arguments := written(record["arguments"]):
        lines.append(f"Arguments: {arguments}.")
    lines += ["", "| measured | value | unit | alternative | its value | ratio |"]
    lines.append("|---|---|---|---|---|---|")
    for figure in record["figures"]:
        beside = "" if figure["beside"] is None else shown(figure["beside"])
        ratio = "" if figure["ratio"] is None else f"{figure['ratio']:.2f}"
        cells = [figure["measured"], shown(figure["value"]), figure["unit"]]
        lines.append(f"| {' | '.join([*cells, figure['alternative'], beside, ratio])} |")
    if record["remarks"]:
        lines += ["", *(f"- {remark}" for remark in record["remarks"])]
    return [*lines, ""]


def rewritten(text: str, records: list[dict[str, Any]]) -> str:
    """`text` with the tables of the records between its two marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README.name} lacks the mark {BEGIN if not begin else END}")
    lines = [line for record in latest(records) for line in table(record)]
    return "\n".join([before + begin, "", *lines, END]) + after


def main() -> None:
    text = README.read_text(encoding="utf-8")
    README.write_text(rewritten(text, read_history()), encoding="utf-8")


if __name__ == "__main__":
    main()
