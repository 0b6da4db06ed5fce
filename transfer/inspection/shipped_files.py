"""What ships with the package for its users: example pipeline files, and pages of the docs."""

from __future__ import annotations

from pathlib import Path

from transfer.errors import UsageError, did_you_mean
from transfer.utils.output_file import write_output
from transfer.utils.paths import shipped_folder

FIRST_FILE = "jigsawpp_vgg_to_alexnet.yaml"


def copy_pipelines(folder: Path, force: bool) -> list[str]:
    """Copy the example pipeline files into `folder`/pipelines; return a line for each.

    Args:
        folder: is made where it does not exist.
        force: replace files that exist.
    """
    target = folder / "pipelines"
    for path in (folder, target):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path}: is a file; name a folder")
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(shipped_folder("pipelines").glob("*.yaml"))
    width = max(len(source.name) for source in sources)
    lines = [f"{target}:"]
    for source in sources:
        copy, content = target / source.name, source.read_bytes()
        if not copy.exists() or force:
            write_output(copy, content)
            state = audience(source)
        elif copy.is_file() and copy.read_bytes() == content:
            state = "exists; not changed"
        else:
            state = "exists; not changed (--force replaces it)"
        lines.append(f"  {source.name:<{width}}  {state}")
    lines.append("docs: transfer docs")
    lines.append(f"next: transfer run {target / FIRST_FILE}")
    return lines


def audience(pipeline: Path) -> str:
    """Return the first line of an example's head: for whom it is, and for what."""
    with pipeline.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip()


def page_titles() -> dict[str, str]:
    """Return name -> title of each page of the docs."""
    pages = sorted(shipped_folder("docs").glob("*.md"))
    return {page.stem: page.read_text(encoding="utf-8").partition("\n")[0][2:] for page in pages}


def find_page(name: str) -> Path:
    """Return the file of a page: `run`, `run.md` or `docs/run.md`; UsageError if it is missing."""
    folder = shipped_folder("docs")
    stem = Path(name.partition("#")[0]).name.removesuffix(".md")
    titles = page_titles()
    if stem not in titles:
        raise UsageError(f"no page '{name}'{did_you_mean(stem, titles)}")
    return folder / f"{stem}.md"


def titles_text(titles: dict[str, str]) -> str:
    """Return what `page_titles` returns, as lines, and where the files are."""
    width = max(len(name) for name in titles)
    lines = [f"{name:<{width}}  {title}" for name, title in titles.items()]
    return "\n".join([*lines, "", f"The files are in {shipped_folder('docs')}"])
