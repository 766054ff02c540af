"""`ratesim notebook`: one of the notebooks, executed with parameters of one's own, as a page and as a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ratesim.notebook.catalogue import Value, find, notebooks
from ratesim.notebook.execute import NotebookFailed, execute
from ratesim.notebook.output_dir import OutputError, check_out, workshop
from ratesim.notebook.render import render
from ratesim.progress import Progress

__all__ = ["Made", "make"]


@dataclass(frozen=True)
class Made:
    """Files: the page without code, the executed notebook, and what a run that failed had shown until then."""

    page: Path
    executed: Path
    partial: Path

    @classmethod
    def of(cls, name: str, out: Path) -> Made:
        """out: a directory, or a file whose name ends in .html."""
        folder, stem = (out.parent, out.stem) if out.suffix == ".html" else (out, name)
        return cls(folder / f"{stem}.html", folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb")


def make(
    name: str,
    parameters: Mapping[str, Value],
    out: Path | None = None,
    progress: Progress | None = None,
) -> Made:
    """Execute a notebook by its name and render it. Relative paths in parameters count from the current directory.

    out: a directory, or a file whose name ends in .html; reports/NAME unless given. What an earlier run left there is set
    aside as NAME.earlier.html and NAME.earlier.ipynb before anything runs, so that no page can be taken for this run's, and
    goes when there is a new one. Raises NotebookError, OutputError and NotebookFailed.
    """
    source = find(name)
    made = Made.of(name, Path("reports") / name if out is None else out)
    _check(made)
    folder = Path(os.path.abspath(made.page.parent))
    with workshop(folder) as work:
        executed = work / made.executed.name
        kept = _set_aside(made)
        try:
            execute(source, executed, parameters, Path.cwd(), progress)
            (work / made.page.name).write_text(render(executed, name), "utf-8")
        except NotebookFailed as error:
            folder.mkdir(exist_ok=True)
            executed.replace(made.partial)
            raise NotebookFailed(f"notebook {name} failed {error}; what it showed until then: {made.partial}") from error
        folder.mkdir(exist_ok=True)
        executed.replace(made.executed)
        (work / made.page.name).replace(made.page)
        for each in kept:
            each.unlink(missing_ok=True)
    return made


def _check(made: Made) -> None:
    """Raise OutputError where the files cannot be written, or one of them is a notebook that ships."""
    check_out(made.page.parent)
    for file in (made.page, made.executed, made.partial):
        if file.is_dir():
            raise OutputError(f"--out {file}: is a directory; name another file, or the directory above it")
    if made.executed.exists() and made.executed.resolve().parent == notebooks():
        raise OutputError(f"--out {made.page.parent}: {made.executed.name} there is the notebook itself; name another place")


def _set_aside(made: Made) -> list[Path]:
    """Rename what an earlier run made; a notebook that failed goes. The names that they have now."""
    made.partial.unlink(missing_ok=True)
    kept = [file.with_name(f"{file.stem}.earlier{file.suffix}") for file in (made.page, made.executed)]
    for file, earlier in zip((made.page, made.executed), kept, strict=True):
        if file.exists():
            file.replace(earlier)
    return kept
