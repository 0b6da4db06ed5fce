"""Lines of text files by templates: `{image} {number}` says what stands in a line and what it is called."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from transfer.errors import UsageError

FIELD = re.compile(r"\{(\w+)(?::(\d+))?\}")


class Lines:
    """The lines of a text file, taken apart. `{_}` is passed over, a blank stands for one or more blanks or tabs."""

    def __init__(self, template: str, header: bool = False):
        self._template, self._header = template, header
        pattern, end = "", 0
        for field in FIELD.finditer(template):
            name = field[1]
            pattern += _literal(template[end : field.start()]) + (
                ".*?" if name == "_" else f"(?P<{name}>.+?)"
            )
            end = field.end()
        try:
            self._pattern = re.compile(pattern + _literal(template[end:]))
        except re.error as error:
            raise UsageError(f"line: {template!r} cannot be read: {error}") from error

    def read(self, data: bytes, name: str) -> Iterator[tuple[int, dict[str, str]]]:
        """(number of the line from 1, field -> text) of every line but empty ones; UsageError names the file `name`."""
        try:
            lines = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} is not a text file in UTF-8 (byte {error.start})") from error
        for number, line in enumerate(lines, 1):
            if (number == 1 and self._header) or not line.strip():
                continue
            found = self._pattern.fullmatch(line.strip())
            if found is None:
                raise UsageError(
                    f"{name}, line {number}: {line[:80]!r} is not as expected: {self._template!r}"
                )
            yield number, found.groupdict()


def fill(template: str, values: Mapping[str, str | int]) -> str:
    """The template with its fields replaced; `{row:08}` fills up with zeros. UsageError for a field without a value."""

    def one(field: re.Match[str]) -> str:
        if field[1] not in values:
            raise UsageError(
                f"image: {template!r} asks for '{field[1]}', which `line` does not have"
            )
        return str(values[field[1]]).rjust(int(field[2] or 0), "0")

    return FIELD.sub(one, template)


def folder_of(template: str) -> str:
    """The folder that a filled template lies in, as far as it is the same for all."""
    return template.partition("{")[0].rpartition("/")[0]


def _literal(text: str) -> str:
    return re.escape(text).replace(r"\ ", r"[ \t]+")
