"""The report: a study, shown by the notebook `recommendation.ipynb`, rendered to one self-contained HTML file.

All files are made in a temporary directory beside the one asked for and moved into it at the end, so what is there is whole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ratesim.errors import RatesimError
from ratesim.notebook import (
    NotebookExecutionError,
    OutputError,
    Value,
    ensure_writable,
    execute,
    notebooks,
    publish,
    render,
    staging_directory,
)
from ratesim.pages.recommendation.portable import lasting, portable
from ratesim.progress import Progress, no_progress

if TYPE_CHECKING:
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["OutputError", "PartialReportError", "ReportError", "ensure_writable", "notebooks", "render", "report"]

READY = (
    "storage.toml",
    "open_storage.py",
    "alerts.yaml",
    "redis.conf",
    "create_cluster.sh",
    "sentinel.conf",
    "postgresql.conf",
    "pg_hba.conf",
    "pgbouncer.ini",
    "create_standby.sh",
    "schema.sql",
)


class ReportError(RatesimError):
    """The notebook failed: one line that names the cell, the error, and where its partial output lies."""

    exit_code = 70


class PartialReportError(RatesimError):
    """The report is written, but some candidates were not measured live: one line that names the server that died.

    Attributes
    ----------
    recommendation
        What the report says.
    """

    exit_code = 1

    def __init__(self, message: str, recommendation: Recommendation) -> None:
        super().__init__(message)
        self.recommendation = recommendation


def report(
    scenario: Scenario,
    out: Path,
    *,
    profile: Profile | None = None,
    prices: Prices | None = None,
    current: Candidate | None = None,
    live: bool = True,
    show_keys: bool = False,
    seconds: float | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    notebook: Path | None = None,
) -> Recommendation:
    """Study a scenario and write its report into a directory.

    The files are report.html, report.ipynb (executed), recommendation.json and .md, report.junit.xml, files that are ready
    to use (storage.toml and others), scenario.toml, profile.json, prices.toml, and the study (study.json, details.json,
    results.parquet, runs.parquet, live.parquet). Other files in the directory stay. Until the report is there, its runs are
    kept in a directory beside it, `out`.runs: a report that was stopped goes on from there. Two reports into one directory
    are made one after the other.

    Parameters
    ----------
    scenario
        The question.
    out
        The directory.
    profile
        Measured costs; this machine's or the shipped ones unless given.
    prices
        Unit prices; the example that ships unless given.
    current
        The configuration in force, which then competes.
    live
        Whether candidates are also replayed on real servers.
    show_keys
        Whether clients are named in full, in all files; else none of them holds an address or another key.
    seconds
        As for `study`.
    processes
        As many as cores unless given.
    progress
        Called with (done, total, what is next).
    notebook
        Another notebook than the one that ships.

    Raises
    ------
    OutputError
        If the directory cannot be written to.
    PartialReportError
        If the report is written without some live measurements, because a server died or did not start.
    ReportError
        If the notebook fails. What `study` raises passes through.
    """
    from ratesim.recommendation import recommend
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.recommendation.decide.junit import junit
    from ratesim.recommendation.decide.markdown import markdown
    from ratesim.recommendation.decide.rejection_groups import screened_groups
    from ratesim.recommendation.investigate.budget import checked_seconds
    from ratesim.recommendation.investigate.study import FILES, study
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.experiments.result_store import delete

    ensure_writable(out)
    scenario = scenario.model_copy(update={"workload": scenario.workload.with_secret()})
    out = Path(os.path.realpath(out))
    profile, prices = profile or Profile.load(), prices or Prices.load()
    if live:
        _reach_servers()
    runs = out.with_name(f"{out.name}.runs")
    tell = progress or no_progress
    with staging_directory(out, waiting=lambda: tell(0, 1, f"waiting for another report into {out}")) as work:
        for name in FILES:
            if (out / name).is_file():
                shutil.copy(out / name, work / name)
        total = 1

        # One step more than the study has: the rendering.
        def show(done: int, of: int, what: str) -> None:
            nonlocal total
            total = of + 1
            tell(done, total, "rendering the report" if done == of else what)

        finished = study(
            scenario,
            current=current,
            out=work,
            runs=runs,
            profile=profile,
            prices=prices,
            live=live,
            retry_live=True,
            show_keys=show_keys,
            seconds=seconds,
            processes=processes,
            progress=show,
        )
        recommendation = recommend(finished)
        (work / "recommendation.json").write_bytes(recommendation.to_json())
        (work / "recommendation.md").write_text(markdown(recommendation, screened_groups(finished, recommendation)), "utf-8")
        (work / "report.junit.xml").write_text(junit(recommendation), "utf-8")
        for name, text in ({"storage.toml": recommendation.storage_toml} | recommendation.files).items():
            (work / name).write_text(text, "utf-8")
        (work / "scenario.toml").write_text(portable(finished.asked, work).to_toml(), "utf-8")
        profile.save(work / "profile.json")
        (work / "prices.toml").write_text(prices.to_toml(), "utf-8")
        source = "" if profile.source == "shipped" else str(Path(profile.source).resolve())
        parameters: dict[str, Value] = {
            "scenario": "scenario.toml",
            "out": ".",
            "profile": source,
            "prices": "prices.toml",
            "live": live,
            "show_keys": show_keys,
            "seconds": checked_seconds(seconds),
        }
        executed = work / "report.ipynb"
        try:
            execute(notebook or notebooks() / "recommendation.ipynb", executed, parameters, work)
        except NotebookExecutionError as error:
            partial = out.with_name(f"{out.name}.failed.ipynb")
            shutil.copy(executed, partial)
            raise ReportError(f"the report's notebook failed {error}; what it showed until then: {partial}") from error
        (work / "scenario.toml").write_text(lasting(portable(finished.asked, work)).to_toml(), "utf-8")
        (work / "report.html").write_text(render(executed, scenario.name), "utf-8")
        publish(work, out, obsolete=READY, last="report.html")  # the files of an earlier choice go
        delete(runs / "live")
        delete(runs)
        tell(total, total, "done")
    if finished.live_failures:
        why = "; ".join(f"{name}: {' '.join(text.split())}" for name, text in finished.live_failures.items())
        message = f"the report is written without some live measurements ({why}): give the command again, or --no-live"
        raise PartialReportError(message, recommendation)
    return recommendation


def _reach_servers() -> None:
    """Raise ServerError where the environment names a server that does not answer, before any time is spent."""
    from ratesim import servers

    for name, use in (("RATESIM_REDIS_URL", servers.valkey), ("RATESIM_POSTGRES_URL", servers.postgres)):
        if os.environ.get(name):
            with use():
                pass
