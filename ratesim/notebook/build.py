"""`ratesim notebook`: one of the notebooks, executed with parameters of one's own, as a page and as a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ratesim.notebook.catalogue import Value, find, notebooks
from ratesim.notebook.execute import NotebookExecutionError, execute
from ratesim.notebook.output_dir import OutputError, ensure_writable, staging_directory
from ratesim.notebook.render import render
from ratesim.progress import Progress, no_progress

__all__ = ["BuiltPage", "build"]


@dataclass(frozen=True)
class BuiltPage:
    """Files: the page without code, the executed notebook, and what a run that failed had shown until then."""

    page: Path
    executed: Path
    partial: Path

    @classmethod
    def of(cls, name: str, out: Path) -> BuiltPage:
        """out: a directory, or a file whose name ends in .html."""
        folder, stem = (out.parent, out.stem) if out.suffix == ".html" else (out, name)
        return cls(folder / f"{stem}.html", folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb")


def build(
    name: str,
    parameters: Mapping[str, Value],
    out: Path | None = None,
    progress: Progress | None = None,
) -> BuiltPage:
    """Execute a notebook by its name and render it. Relative paths in parameters count from the current directory.

    out: a directory, or a file whose name ends in .html; reports/NAME unless given. What an earlier run left there is set
    aside as NAME.earlier.html and NAME.earlier.ipynb before anything runs, so that no page can be taken for this run's, and
    goes when there is a new one. Raises NotebookError, OutputError and NotebookExecutionError.
    """
    source = find(name)
    made = BuiltPage.of(name, Path("reports") / name if out is None else out)
    _check(made)
    folder = Path(os.path.realpath(made.page.parent))
    tell = progress or no_progress

    def waiting() -> None:
        tell(0, 1, f"waiting for another run of {name} into {folder}")

    with staging_directory(folder, made.page.stem, waiting) as work:
        executed = work / made.executed.name
        kept = _set_aside(made)
        try:
            execute(source, executed, parameters, Path.cwd(), progress)
            (work / made.page.name).write_text(render(executed, name), "utf-8")
        except NotebookExecutionError as error:
            folder.mkdir(exist_ok=True)
            executed.replace(made.partial)
            raise NotebookExecutionError(
                f"notebook {name} failed {error}; what it showed until then: {made.partial}"
            ) from error
        folder.mkdir(exist_ok=True)
        executed.replace(made.executed)
        (work / made.page.name).replace(made.page)
        for each in kept:
            each.unlink(missing_ok=True)
    return made


def _check(made: BuiltPage) -> None:
    """Raise OutputError where the files cannot be written, or one of them is a notebook that ships."""
    ensure_writable(made.page.parent)
    for file in (made.page, made.executed, made.partial):
        if file.is_dir():
            raise OutputError(f"--out {file}: is a directory; name another file, or the directory above it")
    if made.executed.exists() and made.executed.resolve().parent == notebooks():
        raise OutputError(f"--out {made.page.parent}: {made.executed.name} there is the notebook itself; name another place")


def _set_aside(made: BuiltPage) -> list[Path]:
    """Rename what an earlier run made; a notebook that failed goes. The names that they have now."""
    made.partial.unlink(missing_ok=True)
    kept = [file.with_name(f"{file.stem}.earlier{file.suffix}") for file in (made.page, made.executed)]
    for file, earlier in zip((made.page, made.executed), kept, strict=True):
        if file.exists():
            file.replace(earlier)
    return kept
