"""Words and names that the project does not use, as codespell keeps its list of misspellings.

`python -m tests.wording PATH...` prints each one with its place.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Pattern -> what to write instead. Of prose: comments, docstrings, messages, pages.
WORDS = {
    r"\btold\b|\btells?\b|\btelling\b": "report, print, describe, raise, return, distinguish",
    r"\bsaid\b": "reported, printed, named",
    r"\bstands? on\b|\bstood\b|\bstanding on\b": "depends on",
    r"\bmend(s|ed|ing)?\b": "fix, repair",
    r"\banew\b": "again",
    r"\ba person\b|\bpersons\b": "the user",
    r"\bstrangers?\b": "a plug-in, a third party",
    r"\bthere is: ": "choose from",
    r"what is too many|what there is|that there (is|are)\b": "name it",
    r"\b(is|are|was|were) not there\b|\bnot there yet\b": "is missing, does not exist",
    r"\bcounts with\b": "has no effect unless",
    r"\bcame out\b|\bcomes out\b": "result",
    r"\bare no numbers?\b|\bis no number\b|\bno numbers\b": "are not finite",
    r"\bartifacts whole\b": "intact",
    r"\b1 (entries|threads|images|artifacts|stages|labels|epochs)\b": "the singular",
    r"\bimages images\b": "images",
    r"\bfor people\b|\bas a person reads\b": "say what it is",
    r"\bwhose? (has|have|had)? ?been\b": "a plain clause",
    r"\bof one's own\b|\bones own\b": "own",
    r"\bof nothing\b|\bfor nothing\b": "a plain clause",
    r"\bcolour|\bgrey\b|normalis|\bcentre|neighbour": "American spelling",
    r"optimis(e|er|ing)|\blicence|labelled(?!by)\b": "American spelling",
}
# Of code: names that say nothing of what they hold.
NAMES = {"one", "found", "told", "said", "some", "wanted"}


# Files of former names, which have to be written out.
QUOTING = ("renamed_options.py", "wording.py")


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of all prose in a file: of code its comments and strings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        for number, line in enumerate(text.splitlines(), 1):
            yield number, re.sub(r"`[^`]*`", "", line) if path.suffix == ".md" else line
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line


def faulty_words(path: Path) -> list[str]:
    """Each word of the list in a file's prose, with its place and what to write instead."""
    faults = []
    for number, text in prose(path):
        for pattern, advice in WORDS.items():
            if match := re.search(pattern, text, flags=re.IGNORECASE):
                faults.append(f"{path}:{number}: '{match[0]}'; {advice}")
    return sorted(set(faults))


def bare_names(path: Path) -> list[str]:
    """Each binding of a name that says nothing, with its place."""
    faults = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            name = node.name
        if name in NAMES:
            faults.append(f"{path}:{node.lineno}: the name `{name}`")
    return faults


if __name__ == "__main__":
    roots = [Path(argument) for argument in sys.argv[1:]]
    files = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*"))]
    for file in sorted(files):
        if file.suffix in (".py", ".md", ".yaml", ".html") and file.name not in QUOTING:
            print(*faulty_words(file), sep="\n", end="\n" * bool(faulty_words(file)))
            if file.suffix == ".py":
                print(*bare_names(file), sep="\n", end="\n" * bool(bare_names(file)))
