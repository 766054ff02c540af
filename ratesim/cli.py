"""The command line, `ratesim`: one function for each command.

Bad input ends in one line on stderr that names the thing and the remedy, and exit status 2. What a command needs is imported
when it runs, so that `ratesim --help` does not wait for it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ratesim.options import (
    AlgorithmOption,
    AlsoOption,
    BusiestOption,
    CandidatesOption,
    CostOption,
    FidelityOption,
    FormatOption,
    KeyOption,
    LimitOption,
    LogOption,
    LossOption,
    Mistake,
    NetworkOption,
    NodesOption,
    OverOption,
    P99Option,
    Pairs,
    ParameterOption,
    PersistenceOption,
    PricesOption,
    ProcessesOption,
    ProfileOption,
    ReplicationsOption,
    RoutingOption,
    RttOption,
    ScaleOption,
    ScenarioOption,
    SchedulerOption,
    SeedOption,
    SeedsOption,
    SpeedOption,
    TimeOption,
    TimeUnitOption,
    UntilOption,
    VariedOption,
    WithoutOption,
    WorkloadOption,
    at_distance,
    in_force,
    pairs_of,
    scenario_of,
)
from ratesim.wording import figure, harmless, seconds, share

if TYPE_CHECKING:
    from ratesim.recommendation.choice import Recommendation
    from ratesim.recommendation.prices import Prices
    from ratesim.simulation.fidelity import Fidelity
    from ratesim.simulation.profile import Profile
    from ratesim.simulation.scenario import Candidate, Scenario

__all__ = ["main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Decide by evidence where the state of your API's rate limiter should live: memory, Redis, PostgreSQL, or memory "
    "backed by Redis.\n\nBegin with:  ratesim report --log access.log --limit 100/minute --nodes 8 --p99 2ms "
    "--max-over-admission 1% --out my-report",
)


def _profile(path: Path | None) -> Profile | None:
    from ratesim.simulation.profile import Profile

    return Profile.load(path) if path else None


def _prices(path: Path | None) -> Prices | None:
    from ratesim.recommendation.prices import Prices

    return Prices.load(path) if path else None


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr, as the `progress` that ratesim's functions take."""
    from ratesim.simulation.progress import shown

    with shown(True) as tell:
        yield tell


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")],
    scenario: ScenarioOption = None,
    log: LogOption = None,
    workload: WorkloadOption = None,
    limit: LimitOption = None,
    algorithm: AlgorithmOption = None,
    also: AlsoOption = None,
    key: KeyOption = None,
    format: FormatOption = None,
    time: TimeOption = None,
    time_unit: TimeUnitOption = None,
    cost: CostOption = None,
    nodes: NodesOption = None,
    routing: RoutingOption = None,
    network: NetworkOption = None,
    rtt: RttOption = None,
    loss: LossOption = None,
    p99: P99Option = None,
    max_over_admission: OverOption = None,
    persistence: PersistenceOption = None,
    without: WithoutOption = None,
    busiest: BusiestOption = None,
    speed: SpeedOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    replications: ReplicationsOption = None,
    processes: ProcessesOption = None,
    profile: ProfileOption = None,
    prices: PricesOption = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Also replay on real servers, started for it.")] = True,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="For a pipeline: exit with 1 when the configuration in force (or, without --current, every candidate) does "
            "not meet the requirements, with 3 when the evidence is too thin, with 2 on bad input.",
        ),
    ] = False,
    current: Annotated[
        Path | None,
        typer.Option("--current", metavar="FILE", help="The storage.toml in force: it competes as `in force`."),
    ] = None,
) -> None:
    """Replay traffic against every storage and write a report whose first line is the recommendation.

    ratesim report --scenario quickstart --out reports/quickstart

    ratesim report --scenario scenario.toml --out reports/weekly --check --current storage.toml
    """
    asked = dict(locals())
    from ratesim.recommendation.checking import check as judge
    from ratesim.report import check_out
    from ratesim.report import report as make

    check_out(out)
    question = scenario_of(asked)
    with _bar() as progress:
        recommendation = make(
            question,
            out,
            profile=_profile(profile),
            prices=_prices(prices),
            current=in_force(current, question) if current else None,
            live=live,
            processes=processes,
            progress=progress,
        )
    print(recommendation.verdict)
    print(out / "report.html")
    if check:
        checked = judge(recommendation)
        print(checked.sentence)
        raise typer.Exit(checked.status)


@app.command()
def recommend(
    scenario: ScenarioOption = None,
    log: LogOption = None,
    workload: WorkloadOption = None,
    limit: LimitOption = None,
    algorithm: AlgorithmOption = None,
    also: AlsoOption = None,
    key: KeyOption = None,
    format: FormatOption = None,
    time: TimeOption = None,
    time_unit: TimeUnitOption = None,
    cost: CostOption = None,
    nodes: NodesOption = None,
    routing: RoutingOption = None,
    network: NetworkOption = None,
    rtt: RttOption = None,
    loss: LossOption = None,
    p99: P99Option = None,
    max_over_admission: OverOption = None,
    persistence: PersistenceOption = None,
    without: WithoutOption = None,
    busiest: BusiestOption = None,
    speed: SpeedOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    replications: ReplicationsOption = None,
    processes: ProcessesOption = None,
    profile: ProfileOption = None,
    prices: PricesOption = None,
) -> None:
    """Print the recommendation and a small table; simulated only, and no files are written."""
    asked = dict(locals())
    question = scenario_of(asked)
    from ratesim.recommendation.choice import recommend as choose
    from ratesim.recommendation.study import study

    with _bar() as progress:
        finished = study(
            question,
            live=False,
            profile=_profile(profile),
            prices=_prices(prices),
            processes=processes,
            progress=progress,
        )
    chosen = choose(finished)
    print(chosen.verdict)
    for line in (chosen.confidence.sentence, f"But: {chosen.caveat}", *(each.sentence for each in chosen.relaxations)):
        print(line)
    print()
    print(_small_table(chosen))
    origin = finished.origin
    if origin.skipped:
        print(f"\n{origin.skipped:,} of {origin.lines:,} lines did not parse; the first of them:")
        print("\n".join(f"  {harmless(line)}" for line in origin.examples))


def _small_table(chosen: Recommendation) -> str:
    rows = [("candidate", "p99", "over-admission", "a month", "")]
    for each in chosen.assessments:
        state = "chosen" if each.candidate == chosen.choice else "passes" if each.passes else ""
        missed = ", ".join(check.label for check in each.missed)
        cost = f"{each.cost:,.2f} {chosen.currency}"
        rows.append(
            (each.candidate, seconds(each.p99.mean), share(each.over_admission.mean), cost, state or f"misses {missed}")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A recommendation.json, or the directory of a report.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
) -> None:
    """Compare two recommendations: what was asked otherwise, what moved, and whether that is noise.

    Exits with 0 when nothing but noise moved, with 1 when something did, with 2 on bad input.
    """
    from ratesim.recommendation.difference import difference, load, text

    files = [path / "recommendation.json" if path.is_dir() else path for path in (before, after)]
    found = difference(*map(load, files))
    print(text(found))
    raise typer.Exit(int(found.moved))


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
    """
    if decisions is not None and (decisions.suffix != ".parquet" or decisions.is_dir() or not decisions.parent.is_dir()):
        raise Mistake(f"--decisions {decisions}: name a .parquet file in a directory that is there")
    from ratesim.simulation.run import run as simulate

    question = at_distance(scenario, rtt)
    chosen = _candidate(question, candidate)
    result = simulate(
        question,
        chosen,
        seed,
        fidelity=cast("Fidelity", fidelity),
        profile=_profile(profile),
        progress=True,
        interruptible=True,
    )
    decided_by = f"{result.fidelity}: {result.server}" if result.server else result.fidelity
    for name, value in (result.row() | {"fidelity": decided_by}).items():
        print(f"{name:<32}{figure(name, value)}")
    if decisions is not None:
        result.decisions().to_parquet(decisions)
        print(f"{'decisions':<32}{decisions}")
    if result.partial:
        raise KeyboardInterrupt


def _candidate(question: Scenario, name: str) -> Candidate:
    from ratesim.simulation.catalogue import catalogue
    from ratesim.simulation.scenario import Candidate
    from ratesim.storage import StorageURL

    if "://" in name:
        StorageURL.parse(name)
        return Candidate(name="asked", storage=name)
    known = {each.name: each for each in catalogue(question)}
    if name not in known:
        raise Mistake(f"candidate {harmless(name)!r}: known are {', '.join(map(repr, known))}, or give a storage URL")
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
    budget: Annotated[int, typer.Option("--budget", help="With --until: runs that may be made in all.")] = 1000,
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
    from ratesim.simulation.grid import seeds_of
    from ratesim.sweeping import check_target, sweep_into

    check_target(out)
    question = at_distance(scenario, rtt)
    if replications is not None and (seeds is not None or until is not None):
        raise Mistake("--replications, --seeds, --until: give one of them")
    chosen = [_candidate(question, name) for name in candidate or ()]
    chosen = [
        each.model_copy(update={"name": f"asked {i}"}) if each.name == "asked" else each for i, each in enumerate(chosen)
    ]
    runs = range(question.seed, question.seed + (replications or question.replications)) if until is None else None
    said, partial = sweep_into(
        out,
        question,
        chosen or None,
        seeds=seeds_of(seeds) if seeds is not None else runs,
        varied=varied or (),
        until=until,
        budget=budget,
        profile=_profile(profile),
        processes=processes,
        scheduler=scheduler,
        progress=True,
    )
    print(said)
    if partial:
        raise KeyboardInterrupt


@app.command(cls=Pairs)
def notebook(
    name: Annotated[str | None, typer.Argument(help="Which; without it they are listed.")] = None,
    parameter: ParameterOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR|FILE.html", help="Where it goes; reports/NAME unless given.")
    ] = None,
    parameters: Annotated[bool, typer.Option("--parameters", help="List what can be set in it, and stop.")] = False,
) -> None:
    """Execute a notebook with parameters of your own; write it as a page without code, and as a notebook.

    ratesim notebook consistency -p limit 100/second -p nodes 4

    A notebook that fails leaves NAME.failed.ipynb, with what it showed until then, and no page.
    """
    from ratesim.notebook import find, given, make, parameters_of, questions

    if name is None:
        for listed, question in questions().items():
            print(f"{listed:<18}{question}")
        print("\n`ratesim notebook NAME --parameters` lists what can be set in one, `-p KEY VALUE` sets it.")
        return
    known = parameters_of(find(name))
    values = given(pairs_of(parameter or []), known)
    if parameters:
        for each in known:
            print(f"{each.name:<18}{json.dumps(each.default, ensure_ascii=False):<22}{each.comment}".rstrip())
        return
    with _bar() as progress:
        made = make(name, values, out, progress)
    print(made.page)


@app.command()
def calibrate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Elsewhere than where the simulation looks.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Measure this Redis or PostgreSQL; its data stays as it is."),
    ] = None,
    rtt: Annotated[
        str | None, typer.Option("--rtt", metavar="TIME", help="To the server and back, kept in the profile: 0.4ms.")
    ] = None,
) -> None:
    """Measure the storages on this machine (about 30 seconds); the simulation uses the result from then on."""
    from ratesim.simulation.calibrate import calibrate as measure
    from ratesim.simulation.profile import stored_path
    from ratesim.simulation.scenario import seconds as of_text

    if out is not None and out.is_dir():
        raise Mistake(f"--out {out}: is a directory; name a file")
    try:
        there_and_back = None if rtt is None else float(of_text(rtt))
    except ValueError as error:
        raise Mistake(f"--rtt: {error}") from error
    with _bar() as progress:
        profile = measure(out, progress, url, there_and_back)
    for name, backend in profile.backends.items():
        print(f"{name:<10} p50 {seconds(backend.latency_p50)}, p99 {seconds(backend.latency_p99)}  {backend.server}")
    print(f"stored in {out or stored_path()}")


@app.command()
def validate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the table there, as Markdown.")
    ] = None,
    budget: Annotated[float, typer.Option("--budget", help="Seconds that it may take, about.")] = 200.0,
) -> None:
    """Print the simulation beside queueing theory, and the same requests on real servers and simulated, side by side."""
    from ratesim.simulation import theory
    from ratesim.simulation.validate import validate as compare

    if out is not None and out.is_dir():
        raise Mistake(f"--out {out}: is a directory; name a file")
    waits = theory.markdown()
    print(waits)
    with _bar() as progress:
        found = compare(out, progress, budget=budget, heading=f"{waits}\n")
    print(found.markdown())


@app.command()
def bench() -> None:
    """Measure ratesim itself, beside other limiters where they are installed (ratesim[bench])."""
    from ratesim.simulation.bench import main as measure

    print(measure())


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks, with a Valkey and a PostgreSQL running; both stop with it."""
    from ratesim.notebook import notebooks

    with _both_servers() as urls:
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={notebooks()}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        process = subprocess.Popen(command, env={**os.environ, **urls})  # noqa: S603 (our own interpreter)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status:
        raise typer.Exit(status)


@app.command()
def servers() -> None:
    """Start a Valkey and a PostgreSQL, print how to use them, and stop them at Ctrl-C."""
    with _both_servers() as urls:
        for name, url in urls.items():
            print(f"export {name}={url!r}", flush=True)
        print("Ctrl-C stops them", file=sys.stderr)
        threading.Event().wait()


@contextmanager
def _both_servers() -> Iterator[dict[str, str]]:
    from ratesim.servers import postgres, valkey

    with valkey() as redis_server, postgres() as postgres_server:
        yield {"RATESIM_REDIS_URL": redis_server.url, "RATESIM_POSTGRES_URL": postgres_server.url}


def _expected() -> tuple[type[Exception], ...]:
    """The errors that are somebody's input, or the world: their messages name the thing and the remedy."""
    from ratesim.errors import StorageError
    from ratesim.limit import InvalidLimit
    from ratesim.notebook import NotebookError, NotebookFailed
    from ratesim.recommendation.difference import DifferenceError
    from ratesim.recommendation.prices import PriceError
    from ratesim.report import OutputError, ReportFailed
    from ratesim.servers import ServerError
    from ratesim.simulation.inquiry import InquiryError
    from ratesim.simulation.kept import KeptError
    from ratesim.simulation.scenario import ScenarioError
    from ratesim.simulation.sweep import SweepError
    from ratesim.simulation.workers import ClusterError
    from traffic import LogError, TraceError

    ours = (Mistake, InvalidLimit, LogError, TraceError, ScenarioError, OutputError, ReportFailed, ServerError, StorageError)
    return (
        *ours,
        NotebookError,
        NotebookFailed,
        ClusterError,
        KeptError,
        SweepError,
        DifferenceError,
        InquiryError,
        PriceError,
        OSError,
    )


def _complain(message: str) -> None:
    print(f"ratesim: {harmless(' '.join(message.split()))}", file=sys.stderr)


def main() -> None:
    """The console script: run a command, and turn what went wrong into one line and an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers are stopped
    command = typer.main.get_command(app)
    try:
        status = command.main(prog_name="ratesim", standalone_mode=False)
    except KeyboardInterrupt:
        _complain("interrupted")
        sys.exit(130)
    except Exception as error:
        name = type(error).__name__
        if hasattr(error, "format_message"):  # click's: an unknown command or option, a value of the wrong type
            said = error.format_message()
            if said:
                _complain(f"{said.rstrip('.')}; see `ratesim --help`" if name != "NoArgsIsHelpError" else said)
            sys.exit(2)
        if name == "Abort":
            _complain("interrupted")
            sys.exit(130)
        if not isinstance(error, _expected()):
            raise
        _complain(str(error) or name)
        sys.exit(1 if name in ("InquiryError", "ReportFailed", "NotebookFailed", "SweepError") else 2)
    if status == 130:  # how typer reports a Ctrl-C
        _complain("interrupted")
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
