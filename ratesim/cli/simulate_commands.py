"""Runs, one and many: `run` and `sweep`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ratesim.cli.app import app, profile_of
from ratesim.cli.options import (
    CandidatesOption,
    EngineOption,
    FidelityOption,
    ProcessesOption,
    ProfileOption,
    ReplicationsOption,
    RttOption,
    SchedulerOption,
    SeedOption,
    SeedsOption,
    ShowKeysOption,
    UntilOption,
    UsageError,
    VariedOption,
    whole_number,
    with_round_trip,
)
from ratesim.cli.sweep_output import is_writable
from ratesim.formatting import format_metric, format_percent
from ratesim.safe_text import shorten_text

if TYPE_CHECKING:
    from ratesim.simulation.engine.backends import Fidelity
    from ratesim.simulation.results.run_result import RunResult
    from ratesim.simulation.runner import Engine
    from ratesim.simulation.scenario.scenario import Scenario

SHARDS_SHOWN = 10  # primaries of a cluster, the busiest


@app.command()
def run(
    candidate: Annotated[
        str | None, typer.Argument(help="Its name in the scenario or the catalogue, or a storage URL.")
    ] = None,
    scenario: Annotated[str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario.")] = "quickstart",
    seed: SeedOption = None,
    fidelity: FidelityOption = "model",
    engine: EngineOption = "auto",
    profile: ProfileOption = None,
    rtt: RttOption = None,
    decisions: Annotated[
        Path | None, typer.Option("--decisions", metavar="FILE", help="Write every decision there, as .parquet.")
    ] = None,
    show_keys: ShowKeysOption = False,
    listed: Annotated[bool, typer.Option("--list", help="List the names of all candidates, and stop.")] = False,
) -> None:
    """Simulate one candidate once and print its figures.

    ratesim run redis --decisions decisions.parquet

    ratesim run postgres --fidelity live

    ratesim run "redis://localhost?pool_size=20"

    All fidelities run in the same simulated time and give the same decisions: a real server is asked what it decides, not
    how long it takes. So `live` shows that the model decides as the server does, also on your own traffic. It is far slower,
    and what it writes on a server of yours is removed.

    The last lines say which engine simulated, and why it was SimPy if it was.

    Of a cluster the busiest primaries are printed as well, with the key that each is asked for most.
    """
    if decisions is not None and (decisions.suffix != ".parquet" or decisions.is_dir() or not is_writable(decisions)):
        raise UsageError(f"--decisions {decisions}: name a .parquet file in a directory that is there and can be written to")
    question = with_round_trip(scenario, rtt)
    if listed:
        _list(question)
        return
    from ratesim.simulation.runner import run as simulate

    if candidate is None:
        raise UsageError("which candidate? Give its name such as redis, or a storage URL; `ratesim run --list` lists them")
    result = simulate(
        question,
        candidate,
        seed,
        fidelity=cast("Fidelity", fidelity),
        engine=cast("Engine", engine),
        profile=profile_of(profile),
        progress=True,
        interruptible=True,
    )
    decided_by = f"{result.fidelity}: {result.server}" if result.server else result.fidelity
    label = _labels(question, show_keys)
    row = {name: label(value) if name == "worst_key" and value else value for name, value in result.row().items()}
    figures = {name: format_metric(name, value) for name, value in row.items()}
    simulated_by = f"{result.engine}: {result.engine_reason}" if result.engine_reason else result.engine
    made = {"fidelity": decided_by, "engine": simulated_by}
    for name, figure in (figures | dict(_shards(result, label)) | made).items():
        print(f"{name:<32}{figure}")
    if decisions is not None:
        result.decisions().to_parquet(decisions)
        print(f"{'decisions':<32}{decisions}")
    if result.partial:
        raise KeyboardInterrupt


def _labels(question: Scenario, show_keys: bool) -> Callable[[str], str]:
    """Return what names keys: those of a log by their labels unless they are to be shown."""
    from traffic.key_labels import key_label

    workload = question.workload
    return str if show_keys or workload.log is None or workload.anonymize else partial(key_label, key=workload.key)


def _shards(result: RunResult, label: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Name the busiest primaries of a cluster, and say what each has to do."""
    table = result.by_shard()
    if len(table) <= 1:
        return
    for row in table.nlargest(SHARDS_SHOWN, "utilization").sort_values("shard").to_dict("records"):
        busy = f"{row['requests']:,} requests for {row['keys']:,} keys, utilization {format_percent(row['utilization'])}"
        if row["hottest_key"] is not None:
            hottest = shorten_text(label(row["hottest_key"]), 40)
            busy += f", hottest key {hottest}: {format_percent(row['hottest_share'])} of all requests"
        yield f"shard_{row['shard']}", busy


def _list(question: Scenario) -> None:
    """Print every candidate that has a name, with its storage."""
    from ratesim.simulation.scenario.names import named_candidates

    for name, each in named_candidates(question).items():
        print(f"{name:<48}{each.storage}")


@app.command("compile")
def compile_engine() -> None:
    """Compile the simulator's engine now, rather than before the first long run or report.

    It takes one to two minutes, once for a version of ratesim. The code is kept in the cache directory of the user. Before,
    SimPy simulates until there is enough to do. The numbers are the same.
    """
    from ratesim.progress import progress_bar
    from ratesim.simulation.kernel.readiness import compile_all, is_compiled

    if not is_compiled():
        with progress_bar(True) as tell:
            compile_all(tell)
    print("the engine is compiled")


@app.command()
def sweep(
    out: Annotated[Path, typer.Option("--out", metavar="FILE|DIR", help="A .parquet or .csv file, or a directory.")],
    scenario: Annotated[str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario.")] = "quickstart",
    varied: VariedOption = None,
    candidate: CandidatesOption = None,
    replications: ReplicationsOption = None,
    seeds: SeedsOption = None,
    until: UntilOption = None,
    budget: Annotated[
        int,
        typer.Option(
            "--budget",
            metavar="INTEGER",
            parser=whole_number(1, 1_000_000),
            help="With --until: runs that may be made in all.",
        ),
    ] = 1000,
    processes: ProcessesOption = None,
    scheduler: SchedulerOption = None,
    profile: ProfileOption = None,
    rtt: RttOption = None,
) -> None:
    """Simulate every candidate over several seeds, and over a grid of the scenario's fields; write one row for each run.

    ratesim sweep --set deployment.nodes=1,8,64 --replications 10 --out results.parquet

    A sweep that was stopped goes on where it was when the command is given again. A directory keeps all its runs, for other
    sweeps as well.
    """
    from ratesim.cli.sweep_output import check_target, sweep_into
    from ratesim.simulation.scenario.grid import parse_seeds
    from ratesim.simulation.scenario.names import find_candidates

    check_target(out)
    question = with_round_trip(scenario, rtt)
    if replications is not None and (seeds is not None or until is not None):
        raise UsageError("--replications, --seeds, --until: give one of them")
    chosen = find_candidates(question, candidate or None)
    runs = range(question.seed, question.seed + (replications or question.replications)) if until is None else None
    said, partial = sweep_into(
        out,
        question,
        chosen,
        seeds=parse_seeds(seeds) if seeds is not None else runs,
        varied=varied or (),
        until=until,
        budget=budget,
        profile=profile_of(profile),
        processes=processes,
        scheduler=scheduler,
        progress=True,
    )
    print(said)
    if partial:
        raise KeyboardInterrupt
