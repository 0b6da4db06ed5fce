"""Completes words of a command in bash, zsh and fish: stages, names of `list`, paths of `--set`.

The shells call `transfer` for each completion, so nothing here imports torch, or looks at images.
A file that cannot be read has no completions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
)
from click.shell_completion import split_arg_string as split_words

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
Words = Callable[[list[Path], click.Context, str], Iterable[str]]

BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            nospace) compopt -o nospace; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(IFS=$'\\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \\
        %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local kind value help
    local -a words_only described open answer
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    for kind value help in $answer; do
        case $kind in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            nospace) open+=("$value") ;;
            plain) [[ $help == _ ]] && words_only+=("$value") || described+=("$value:$help") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#words_only )) && compadd -U -V unsorted -a words_only
    (( $#open )) && compadd -U -S '' -V unsorted -a open
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class BashWords(BashComplete):
    """Completion in bash, which splits words at `=` and `:` and completes the last piece alone."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the word at the cursor."""
        cursor = int(os.environ["COMP_CWORD"])
        pieces = split_words(os.environ["COMP_WORDS"])
        pieces = [*pieces[:cursor], pieces[cursor] if cursor < len(pieces) else ""]
        words, joins = [pieces[0]], False
        for piece in pieces[1:]:
            separates = bool(piece) and not piece.strip("=:")
            if (separates or joins) and len(words) > 1:
                words[-1] += piece
            else:
                words.append(piece)
            joins = separates
        word, last = words[-1], pieces[-1]
        completed = word if joins else word[: len(word) - len(last)]
        self._option = _option_before_value(word)
        self._completed = max(completed, self._option, key=len)
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line for the script, without what bash has completed already."""
        kind = "nospace" if item.nospace else item.type
        return f"{kind},{(self._option + item.value).removeprefix(self._completed)}"


class ZshWords(ZshComplete):
    """Completion in zsh."""

    source_template = ZSH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the word at the cursor."""
        words, word = super().get_completion_args()
        self._option = _option_before_value(word)
        return words, word

    def format_completion(self, item: CompletionItem) -> str:
        """Return three lines for the script: the kind, the word and its help."""
        kind = "nospace" if item.nospace else item.type
        # `_describe` splits a word from its help at the first colon.
        value = item.value.replace(":", r"\:") if item.help else item.value
        return f"{kind}\n{self._option}{value}\n{item.help or '_'}"


class FishWords(FishComplete):
    """Completion in fish."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the word at the cursor."""
        words, word = super().get_completion_args()
        self._option = _option_before_value(word)
        return words, word

    def format_completion(self, item: CompletionItem) -> str:
        """Return a line for the script of click: the kind, the word and its help."""
        item.value = self._option + item.value
        return super().format_completion(item)


def install() -> None:
    """Let click use this module's completion."""
    add_completion_class(BashWords, "bash")
    add_completion_class(ZshWords, "zsh")
    add_completion_class(FishWords, "fish")


def _option_before_value(word: str) -> str:
    """Return `--set=` of `--set=seed=1`; click completes the value alone."""
    option, equals, _ = word.partition("=")
    return option + equals if word.startswith("-") and equals else ""


def _completion(words: Words) -> Complete:
    """Return the completion that offers those of `words` that begin like the incomplete one.

    A word that ends with `.` or `=` gets no space after it.
    """

    @wraps(words)
    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        with suppress(Exception):  # an error would be printed into the line that the user types
            files = _files(context, parameter)
            return [
                CompletionItem(word, nospace=word.endswith((".", "=")))
                for word in dict.fromkeys(words(files, context, incomplete))
                if word.startswith(incomplete)
            ]
        return []

    return complete


@_completion
def complete_stages(files: list[Path], context: click.Context, incomplete: str) -> Iterable[str]:
    """The stages of the files on the command line, and their members: `clusters[k=200]`."""
    from transfer.pipeline.file_words import stage_words

    return (word for file in files for word in stage_words(file, incomplete))


@_completion
def complete_sets(files: list[Path], context: click.Context, incomplete: str) -> Iterable[str]:
    """The paths that `--set` can replace, a step at a time."""
    from transfer.pipeline.file_words import set_words

    return (word for file in files for word in set_words(file, incomplete))


@_completion
def complete_listed(files: list[Path], context: click.Context, incomplete: str) -> Iterable[str]:
    """The names that `transfer list WHAT` lists."""
    from transfer.inspection.listing import listed_names

    return listed_names(context.params.get("what") or "stages")


@_completion
def complete_pages(files: list[Path], context: click.Context, incomplete: str) -> Iterable[str]:
    """The pages of the docs."""
    from transfer.inspection.shipped_files import page_titles

    return page_titles()


def _files(context: click.Context, parameter: click.Parameter) -> list[Path]:
    """The pipeline files on the command line."""
    params = context.params
    if isinstance(parameter, click.Option):
        # click stops at an option without its value, so the line is read again without it.
        words = split_words(os.environ["COMP_WORDS"])[2:]
        for name in parameter.opts:
            while name in words:
                position = words.index(name)
                del words[position : position + 2]
        again = context.command.make_context(context.info_name, words, resilient_parsing=True)
        params = again.params
    given = [params.get("file"), *(params.get("files") or ())]
    return [Path(file).expanduser() for file in given if file]
