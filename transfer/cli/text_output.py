"""Text that commands print, on terminals and files of any encoding."""

from __future__ import annotations

import codecs
import io
import re
import shutil
import sys
import textwrap

READABLE = "transfer_readable"  # how the streams treat signs that their encoding lacks
SUBSTITUTES = {
    "→": "->",
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "-",
    "±": "+-",
    "×": "x",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "‘": "'",
    "’": "'",
    "•": "*",
    "\N{NO-BREAK SPACE}": " ",
}
COLUMN = re.compile(r"(?<=\S) {2,}(?=\S)")  # the gap before a column of a table
COMMAND = re.compile(r"(^|[ `:])(transfer|pip) [a-z]")
LONE_BYTE = range(0xDC80, 0xDD00)  # Python's letters for bytes of a name that are not UTF-8


def configure_streams() -> None:
    """Let stdout and stderr print every text; `substitute` replaces what an encoding lacks."""
    codecs.register_error(READABLE, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests and notebooks have others
            stream.reconfigure(errors=READABLE)


def echo(text: str, err: bool = False, wrap: bool = True) -> None:
    """Print a text to stdout, or to stderr, at once.

    Unlike `click.echo`, which writes UTF-8 where ASCII is asked for, it respects the encoding.

    Args:
        text: one or more lines.
        err: print to stderr.
        wrap: on a terminal, break lines that are too long for it; see `wrapped`.
    """
    stream = sys.stderr if err else sys.stdout
    if wrap and stream.isatty():
        text = wrapped(text, shutil.get_terminal_size().columns)
    print(text, file=stream, flush=True)


def wrapped(text: str, width: int) -> str:
    """Break lines of more than `width` characters at spaces.

    What follows stands below the last column of the line, or is indented. A line with a command
    stays whole, so that it can be copied.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        if len(line) <= width or COMMAND.search(line):
            lines.append(line)
            continue
        columns = [gap.end() for gap in COLUMN.finditer(line) if gap.end() <= width * 3 // 5]
        indent = columns[-1] if columns else len(line) - len(line.lstrip()) + 2
        broken = textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        lines += broken or [line]
    return "\n".join(lines)


def is_printable(text: str) -> bool:
    """Whether the encoding of stdout has every sign of `text`."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def substitute(sign: str) -> str:
    r"""Return ASCII for a sign: `->` for an arrow, else its escape, such as `\u5199`."""
    if ord(sign) in LONE_BYTE:
        return f"\\x{ord(sign) - LONE_BYTE.start + 0x80:02x}"
    return SUBSTITUTES.get(sign) or sign.encode("ascii", "backslashreplace").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(substitute, error.object[error.start : error.end])), error.end
