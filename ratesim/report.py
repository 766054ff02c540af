"""The report: a study, shown by the notebook `recommendation.ipynb`, rendered to one self-contained HTML file.

All files are made in a temporary directory beside the one asked for and moved into it at the end, so what is there is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ratesim.recommendation.choice import Recommendation
    from ratesim.simulation.profile import Profile
    from ratesim.simulation.scenario import Scenario

__all__ = ["OutputError", "ReportFailed", "check_out", "notebooks", "render", "report"]

Progress = Callable[[int, int, str], None]

KEPT = ("study.json", "results.parquet", "live.parquet")  # what a study finds again


class OutputError(ValueError):
    """A place where no report can be written: one line that names it and the remedy."""


class ReportFailed(RuntimeError):
    """The notebook failed: one line that names the cell, the error, and where its partial output lies."""


def report(
    scenario: Scenario,
    out: Path,
    *,
    profile: Profile | None = None,
    live: bool = True,
    processes: int | None = None,
    progress: Progress | None = None,
    notebook: Path | None = None,
) -> Recommendation:
    """Study a scenario and write into the directory `out`: report.html, report.ipynb (executed), recommendation.json,
    results.parquet, live.parquet, storage.toml, scenario.toml, profile.json and study.json.

    profile: this machine's or the shipped one unless given. processes: as many as cores. notebook: another than the one that
    ships. Other files in `out` stay. Until the report is there its runs are kept in a directory beside it, `out`.runs: one
    that was stopped goes on from there. Raises OutputError, ReportFailed, and what `study` raises.
    """
    from ratesim.recommendation.choice import recommend
    from ratesim.recommendation.study import study
    from ratesim.simulation.kept import discard
    from ratesim.simulation.profile import Profile

    check_out(out)
    out = Path(os.path.abspath(out))
    profile = profile or Profile.load()
    if live:
        _reach_servers()
    runs = out.with_name(f"{out.name}.runs")
    with _workshop(out) as work:
        for name in KEPT:
            if (out / name).is_file():
                shutil.copy(out / name, work / name)
        tell = progress or (lambda done, total, what: None)
        total = 1

        # One step more than the study has: the rendering.
        def told(done: int, of: int, what: str) -> None:
            nonlocal total
            total = of + 1
            tell(done, total, "rendering the report" if done == of else what)

        finished = study(scenario, out=work, runs=runs, profile=profile, live=live, processes=processes, progress=told)
        recommendation = recommend(finished)
        (work / "recommendation.json").write_bytes(recommendation.to_json())
        (work / "storage.toml").write_text(recommendation.storage_toml, "utf-8")
        (work / "scenario.toml").write_text(_portable(scenario, work).to_toml(), "utf-8")
        profile.save(work / "profile.json")
        source = "" if profile.source == "shipped" else str(Path(profile.source).resolve())
        parameters = {"scenario": "scenario.toml", "out": ".", "profile": source, "live": live}
        executed = work / "report.ipynb"
        try:
            _execute(notebook or notebooks() / "recommendation.ipynb", executed, parameters, work)
        except ReportFailed as error:
            partial = out.with_name(f"{out.name}.failed.ipynb")
            shutil.copy(executed, partial)
            raise ReportFailed(f"{error}; what it showed until then: {partial}") from error
        (work / "report.html").write_text(render(executed, scenario.name), "utf-8")
        out.mkdir(exist_ok=True)
        for file in sorted(work.iterdir()):
            if file.is_file():
                file.replace(out / file.name)
        discard(runs / "live")
        discard(runs)
        tell(total, total, "done")
    return recommendation


def _reach_servers() -> None:
    """Raise ServerError where the environment names a server that does not answer, before any time is spent."""
    from ratesim import servers

    for name, use in (("RATESIM_REDIS_URL", servers.valkey), ("RATESIM_POSTGRES_URL", servers.postgres)):
        if os.environ.get(name):
            with use():
                pass


def check_out(out: Path) -> None:
    """Raise OutputError where `out` is no place for a report."""
    try:
        if out.exists() and not out.is_dir():
            raise OutputError(f"--out {out}: is a file; name a directory")
        above = next(folder for folder in (out, *Path(os.path.abspath(out)).parents) if folder.exists())
    except OSError as error:
        raise OutputError(f"--out {out}: {error.strerror}; name another directory") from error
    if not above.is_dir():
        raise OutputError(f"--out {out}: {above} is a file; name another directory")
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(f"--out {out}: {above} may not be written by this user; name another directory")


def notebooks() -> Path:
    """The directory of the notebooks: in a checkout beside the package, installed within it."""
    package = Path(__file__).resolve().parent
    places = [package.parent / "notebooks", package / "notebooks"]
    for place in places:
        if (place / "recommendation.ipynb").is_file():
            return place
    raise OutputError(f"recommendation.ipynb is in none of {', '.join(map(str, places))}; install ratesim again")


def render(executed: Path, name: str) -> str:
    """An executed notebook as one HTML page, without its code: no scripts, nothing that is loaded from elsewhere."""
    import nbformat
    from nbconvert import HTMLExporter

    from ratesim.pages.html import anchor, heading

    exporter = HTMLExporter(
        template_name="report",
        extra_template_basedirs=[str(Path(__file__).resolve().parent / "templates")],
        exclude_anchor_links=True,
    )
    exporter.register_filter("anchor", anchor)
    exporter.register_filter("heading", heading)
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_notebook_node(notebook, resources={"title": f"ratesim: {name}"})
    return str(body)


def _execute(source: Path, target: Path, parameters: dict[str, Any], folder: Path) -> None:
    import papermill
    from papermill.exceptions import PapermillExecutionError

    with _kernel():
        try:
            papermill.execute_notebook(
                str(source),
                str(target),
                parameters=parameters,
                cwd=str(folder),
                kernel_name="python3",
                progress_bar=False,
                start_timeout=120,
            )
        except PapermillExecutionError as error:
            what = str(error.evalue).strip().splitlines() or [""]
            said = f"{error.ename}: {what[0]}"
            raise ReportFailed(f"the report's notebook failed in cell {error.cell_index + 1}: {said}") from error


@contextmanager
def _kernel() -> Iterator[None]:
    """For as long as this lasts, the kernel `python3` is the interpreter that runs now, whatever else is registered, and it
    finds the packages that this one found."""
    package = str(Path(__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory(prefix="ratesim-kernel-") as folder:
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
                "--log-level=40",
            ],
            "display_name": "Python 3",
            "language": "python",
            "env": {
                "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
                "IPYTHONDIR": folder,  # without what the user's own profile would run at the start
            },
        }
        (home / "kernel.json").write_text(json.dumps(spec), "utf-8")
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A temporary directory beside `out`. Directories made above `out` go again if nothing came of it."""
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
            yield Path(work)
    finally:
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _portable(scenario: Scenario, folder: Path) -> Scenario:
    """The scenario with its log named from `folder`, unless the two have nothing but the root in common."""
    log = scenario.workload.log
    if log is None:
        return scenario
    absolute, home = os.path.abspath(log), os.path.realpath(folder)
    shared = os.path.commonpath([absolute, home]) if os.path.splitdrive(absolute)[0] == os.path.splitdrive(home)[0] else ""
    near = len(Path(shared).parts) > 1 if shared else False
    named = Path(os.path.relpath(absolute, home)).as_posix() if near else absolute
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"log": named})})
