"""Executing a notebook by papermill, with this interpreter, parameters as data, and a failure that names its cell."""

from __future__ import annotations

import json
import keyword
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ratesim.errors import RatesimError
from ratesim.notebook.catalogue import Value, literally
from ratesim.progress import STATIC, Progress, no_progress

if TYPE_CHECKING:
    from traitlets.config import Config

__all__ = ["NotebookExecutionError", "execute"]


class NotebookExecutionError(RatesimError):
    """A notebook that did not get to its end: one line that names the cell and the error."""

    exit_code = 1


def execute(
    source: Path,
    target: Path,
    parameters: Mapping[str, Value],
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Execute the notebook `source` into the file `target`; relative paths in it count from `folder`.

    What it shows is static: no widgets, no bars. progress: told of the cells. Raises NotebookExecutionError; then
    `target` has what it showed until then. Raises TypeError for parameters that are no plain values.
    """
    with _without("rfc3987_syntax"):  # a grammar for IRIs, which jsonschema would take two seconds to load
        import papermill
        from papermill.exceptions import PapermillExecutionError

    _check(parameters)
    cells = json.loads(source.read_text("utf-8"))["cells"]
    total = len(cells) + bool(parameters)
    tell, at = progress or no_progress, _Place()

    def begun(cell: Any, cell_index: int) -> None:
        at.index, at.source = cell_index, cell.source
        tell(cell_index, total, _first_line(cell.source))

    with _kernel(target.parent):
        try:
            papermill.execute_notebook(
                literally(source),
                literally(target),
                parameters=dict(parameters),
                cwd=str(folder),
                kernel_name="python3",
                progress_bar=False,
                start_timeout=120,
                on_cell_start=begun,
                config=_connection(),
            )
        except PapermillExecutionError as error:
            if error.ename == "KeyboardInterrupt":  # a terminal sends Ctrl-C to the kernel as well
                raise KeyboardInterrupt from error
            what = str(error.evalue).strip().splitlines() or [""]
            raise NotebookExecutionError(f"{_named(error.cell_index, error.source)}: {error.ename}: {what[0]}") from error
        except RuntimeError as error:  # nbclient's
            where = "before its first cell" if at.index < 0 else _named(at.index, at.source)
            raise NotebookExecutionError(f"{where}: its process ended ({error}); was there enough memory?") from error
    _forget_places(target)
    if at.index < total - 1:
        raise NotebookExecutionError(
            f"{_named(at.index, at.source)}: it ended the process, and the cells after it did not run"
        )
    tell(total, total, "done")


def _forget_places(target: Path) -> None:
    """Papermill notes where notebooks lay: nobody's business where they go."""
    told = json.loads(target.read_text("utf-8"))
    for name in ("input_path", "output_path"):
        if name in (about := told["metadata"].get("papermill", {})):
            about[name] = Path(about[name]).name
    target.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Let what is imported in the block do without a module, as if that were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # importing it is an ImportError
    try:
        yield
    finally:
        del sys.modules[module]


class _Place:
    """How far it is."""

    index = -1  # of the cell that was begun last
    source = ""


def _named(index: int, source: str) -> str:
    return f"in cell {index + 1} ({_first_line(source)})"


def _first_line(source: str) -> str:
    return next(iter(source.strip().splitlines()), "")


def _check(parameters: Mapping[str, Value]) -> None:
    """Papermill writes names as they are, and what is no plain value too: neither may be more than a name and a value."""
    for name, value in parameters.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise TypeError(f"parameter {name!r}: is no name")
        if type(value) not in (str, bool, int, float, type(None)):
            raise TypeError(f"parameter {name}: {type(value).__name__} is no plain value")


def _connection() -> Config:
    """Configure how the kernel is reached: on Linux by sockets that have a name and neither a port nor a file.

    The ports of TCP are chosen before the kernel takes them, and another process may be first.
    """
    from traitlets.config import Config

    return Config(KernelManager={"transport": "ipc", "ip": f"@ratesim-{uuid4()}"} if sys.platform == "linux" else {})


@contextmanager
def _kernel(parent: Path) -> Iterator[None]:
    """Make the kernel `python3` this very interpreter for the duration of the block.

    It finds the packages that this interpreter found, whatever other kernels are registered. Its files lie in a directory of
    their own in `parent`, and go with that if this process is killed.
    """
    package = str(Path(__file__).resolve().parent.parent.parent)
    with tempfile.TemporaryDirectory(prefix="ratesim-kernel-", dir=parent.resolve()) as folder:
        home = Path(folder) / "kernels" / "python3"
        home.mkdir(parents=True)
        spec = {
            "argv": [
                sys.executable,
                "-Xfrozen_modules=off",
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--log-level=50",  # the interrupt with which it is ended is an error to it
            ],
            "display_name": "Python 3",
            "language": "python",
            "env": {
                "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                "IPYTHONDIR": folder,  # without what the user's own profile would run at the start
                STATIC: "1",
            },
        }
        (home / "kernel.json").write_text(json.dumps(spec), "utf-8")
        names = ("JUPYTER_PATH", "JUPYTER_RUNTIME_DIR")
        before = {name: os.environ[name] for name in names if name in os.environ}
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before.get("JUPYTER_PATH")]))
        os.environ["JUPYTER_RUNTIME_DIR"] = str(Path(folder) / "runtime")
        try:
            yield
        finally:
            for name in names:
                del os.environ[name]
            os.environ.update(before)
