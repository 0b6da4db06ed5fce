"""Templates for the lines of text files: `{image} {number}` names the fields of a line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from transfer.errors import UsageError

FIELD = re.compile(r"\{(\w+)(?::(\d+))?\}")
SHOWN = 80  # characters of a line in a message


class LineTemplate:
    """Splits lines into fields. `{_}` is ignored; a blank matches one or more blanks or tabs.

    UsageError for a template with an invalid or repeated field.
    """

    def __init__(self, template: str, header: bool = False):
        self._template, self._header = template, header
        pattern, end = "", 0
        for field in FIELD.finditer(template):
            name = field[1]
            pattern += _literal(template[end : field.start()])
            pattern += ".*?" if name == "_" else f"(?P<{name}>.+?)"
            end = field.end()
        try:
            self._pattern = re.compile(pattern + _literal(template[end:]))
        except re.error as error:
            raise UsageError(f"line: invalid template {template!r} ({error})") from error

    def parse(self, data: bytes, name: str) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line number from 1, text of each field) for the lines that are not empty.

        UsageError where the text is not UTF-8 or a line does not match.

        Args:
            data: content of the file.
            name: the file's name, for messages.
        """
        try:
            lines = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is not a text file in UTF-8 (byte {error.start})") from error
        for number, line in enumerate(lines, 1):
            if (number == 1 and self._header) or not line.strip():
                continue
            match = self._pattern.fullmatch(line.strip())
            if match is None:
                raise UsageError(
                    f"{name}, line {number}: {line[:SHOWN]!r} does not match {self._template!r}"
                )
            yield number, match.groupdict()


def fill(template: str, values: Mapping[str, str | int]) -> str:
    """Replace the fields of a template by their values; `{row:08}` is padded with zeros.

    UsageError for a field without a value.
    """

    def value(field: re.Match[str]) -> str:
        if field[1] not in values:
            raise UsageError(f"image: {template!r} needs '{field[1]}', which `line` does not have")
        return str(values[field[1]]).rjust(int(field[2] or 0), "0")

    return FIELD.sub(value, template)


def folder_of(template: str) -> str:
    """Return the folder that all names made from a template have in common."""
    return template.partition("{")[0].rpartition("/")[0]


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\ ", r"[ \t]+")
