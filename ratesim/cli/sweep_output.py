"""What `ratesim sweep` does between its options and its last line: a table in a file, or a directory that keeps the runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ratesim.atomic_write import atomic_write
from ratesim.cli.options import UsageError
from ratesim.formatting import escape_control_chars, format_percent

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.progress import Progress
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["check_target", "is_writable", "sweep_into"]

ENDINGS = (".parquet", ".csv")


def check_target(out: Path) -> None:
    """Mistake for what can hold no table."""
    if out.suffix and out.suffix not in ENDINGS:
        raise UsageError(f"--out {out}: end the name in .parquet or .csv, or name a directory")
    if (out.suffix and out.is_dir()) or (not out.suffix and out.is_file()) or not is_writable(out):
        raise UsageError(f"--out {out}: name a file, or a directory, in a directory that exists and can be written to")


def is_writable(file: Path) -> bool:
    """Tell whether the directory of a file is there and can be written to."""
    return file.absolute().parent.is_dir() and os.access(file.absolute().parent, os.W_OK)


def sweep_into(
    out: Path,
    question: Scenario,
    candidates: Sequence[Candidate] | None,
    *,
    seeds: Sequence[int] | None,
    varied: Sequence[str],
    until: str | None,
    budget: int,
    profile: Profile | None,
    processes: int | None,
    scheduler: str | None,
    progress: Progress | bool,
) -> tuple[str, bool]:
    """Run a sweep and write the table.

    The runs of a file are kept beside it until all are done.

    Returns
    -------
    tuple[str, bool]
        The last lines to print, and whether the sweep was interrupted.
    """
    from ratesim.simulation.experiments.replicate import replicate
    from ratesim.simulation.experiments.result_store import delete
    from ratesim.simulation.experiments.sweep import sweep
    from ratesim.simulation.scenario.grid import parse_grid

    folder = out.with_name(f"{out.name}.runs") if out.suffix else out
    grid = parse_grid(varied)
    said = ""
    if until is None:
        results = sweep(
            question, candidates, seeds, grid=grid, profile=profile, processes=processes, scheduler=scheduler, out=folder,
            progress=progress,
        )  # fmt: skip
    else:
        if seeds is not None:
            raise UsageError("--until and --seeds: give one of them; how many seeds are needed is what --until finds out")
        replicated = replicate(
            question, candidates, share=_share(until), budget=budget, grid=grid, profile=profile, processes=processes,
            scheduler=scheduler, out=folder, progress=progress,
        )  # fmt: skip
        results, said = replicated.results, f"{replicated.verdict}\n"
    partial = bool(results.attrs["partial"])
    where = out if out.suffix else out / "results.parquet"
    if out.suffix:
        _write(results, out)
        if not partial:
            delete(folder)
    marked = ", marked partial; the same command goes on from there" if partial else ""
    return f"{said}{len(results)} rows in {where}{marked}", partial


def _share(text: str) -> float:
    from ratesim.simulation.scenario.scenario import share as read

    try:
        return float(read(text))
    except ValueError as error:
        raise UsageError(
            f"--until {escape_control_chars(text)}: {error}; of a threshold, such as {format_percent(0.1)}"
        ) from error


def _write(results: pd.DataFrame, out: Path) -> None:
    with atomic_write(out) as partial:
        if out.suffix == ".csv":
            results.to_csv(partial, index=False)
        else:
            results.to_parquet(partial)
