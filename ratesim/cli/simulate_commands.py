"""Runs, one and many: `run` and `sweep`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ratesim.cli.app import app, profile_of
from ratesim.cli.options import (
    CandidatesOption,
    FidelityOption,
    ProcessesOption,
    ProfileOption,
    ReplicationsOption,
    RttOption,
    SchedulerOption,
    SeedOption,
    SeedsOption,
    UntilOption,
    UsageError,
    VariedOption,
    whole_number,
    with_round_trip,
)
from ratesim.formatting import format_metric, format_percent
from ratesim.safe_text import redact, shorten_repr, shorten_text

if TYPE_CHECKING:
    from ratesim.simulation.engine.backends import Fidelity
    from ratesim.simulation.results.run_result import RunResult
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

SHARDS_SHOWN = 10  # primaries of a cluster, the busiest


@app.command()
def run(
    candidate: Annotated[str, typer.Argument(help="Its name in the scenario or the catalogue, or a storage URL.")],
    scenario: Annotated[str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario.")] = "quickstart",
    seed: SeedOption = None,
    fidelity: FidelityOption = "model",
    profile: ProfileOption = None,
    rtt: RttOption = None,
    decisions: Annotated[
        Path | None, typer.Option("--decisions", metavar="FILE", help="Write every decision there, as .parquet.")
    ] = None,
) -> None:
    """Simulate one candidate once and print its figures.

    ratesim run redis --decisions decisions.parquet

    ratesim run postgres --fidelity live

    All fidelities run in the same simulated time and give the same decisions: a real server is asked what it decides, not
    how long it takes. So `live` shows that the model decides as the server does, also on your own traffic. It is far slower,
    and what it writes on a server of yours is removed.

    Of a cluster the busiest primaries are printed as well, with the key that each is asked for most.
    """
    if decisions is not None and (decisions.suffix != ".parquet" or decisions.is_dir() or not decisions.parent.is_dir()):
        raise UsageError(f"--decisions {decisions}: name a .parquet file in a directory that is there")
    from ratesim.simulation.engine.run import run as simulate

    question = with_round_trip(scenario, rtt)
    chosen = _candidate(question, candidate)
    result = simulate(
        question,
        chosen,
        seed,
        fidelity=cast("Fidelity", fidelity),
        profile=profile_of(profile),
        progress=True,
        interruptible=True,
    )
    decided_by = f"{result.fidelity}: {result.server}" if result.server else result.fidelity
    figures = {name: format_metric(name, value) for name, value in result.row().items()}
    for name, figure in (figures | dict(_shards(result)) | {"fidelity": decided_by}).items():
        print(f"{name:<32}{figure}")
    if decisions is not None:
        result.decisions().to_parquet(decisions)
        print(f"{'decisions':<32}{decisions}")
    if result.partial:
        raise KeyboardInterrupt


def _shards(result: RunResult) -> Iterator[tuple[str, str]]:
    """Name the busiest primaries of a cluster, and say what each has to do."""
    table = result.by_shard()
    if len(table) <= 1:
        return
    for row in table.nlargest(SHARDS_SHOWN, "utilization").sort_values("shard").to_dict("records"):
        busy = f"{row['requests']:,} requests for {row['keys']:,} keys, utilization {format_percent(row['utilization'])}"
        if row["hottest_key"] is not None:
            hottest = shorten_text(row["hottest_key"], 40)
            busy += f", hottest key {hottest}: {format_percent(row['hottest_share'])} of all requests"
        yield f"shard_{row['shard']}", busy


def _candidate(question: Scenario, name: str) -> Candidate:
    from pydantic import ValidationError

    from ratesim.simulation.scenario.candidates import default_candidates
    from ratesim.simulation.scenario.scenario import Candidate
    from ratesim.storage import StorageURL

    if "://" in name:
        StorageURL.parse(name)
        try:
            return Candidate(name="asked", storage=name)
        except ValidationError as error:  # its text quotes the URL
            raise UsageError(f"candidate: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    # The catalogue whole: with Sentinel and clusters, which compete only where they are asked for.
    available = question.deployment.model_copy(update={"type": "high_availability"})
    known = {each.name: each for each in default_candidates(question.model_copy(update={"deployment": available}))}
    if name not in known:
        raise UsageError(
            f"candidate {shorten_repr(redact(name, name))}: known are {', '.join(map(repr, known))}, or give a storage URL"
        )
    return known[name]


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

    check_target(out)
    question = with_round_trip(scenario, rtt)
    if replications is not None and (seeds is not None or until is not None):
        raise UsageError("--replications, --seeds, --until: give one of them")
    chosen = [_candidate(question, name) for name in candidate or ()]
    chosen = [
        each.model_copy(update={"name": f"asked {i}"}) if each.name == "asked" else each for i, each in enumerate(chosen)
    ]
    runs = range(question.seed, question.seed + (replications or question.replications)) if until is None else None
    said, partial = sweep_into(
        out,
        question,
        chosen or None,
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
