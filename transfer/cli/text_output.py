"""Text that commands print, on terminals and files of any encoding."""

from __future__ import annotations

import codecs
import io
import sys

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
LONE_BYTE = range(0xDC80, 0xDD00)  # Python's letters for bytes of a name that are not UTF-8


def configure_streams() -> None:
    """Let stdout and stderr print every text; `substitute` replaces what an encoding lacks."""
    codecs.register_error(READABLE, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # tests and notebooks have others
            stream.reconfigure(errors=READABLE)


def echo(text: str, err: bool = False) -> None:
    """Print a text to stdout, or to stderr, at once.

    Unlike `click.echo`, which writes UTF-8 where ASCII is asked for, it respects the encoding.
    """
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


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
