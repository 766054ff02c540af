"""The command line, `ratesim`: one function for each command.

Bad input ends in one line on stderr that names the thing and the remedy, and exit status 2. What a command needs is imported
when it runs, so that `ratesim --help` does not wait for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratesim.wording import harmless, seconds, share

if TYPE_CHECKING:
    from ratesim.recommend import Recommendation
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

# What a person asks for. Each option is None until it is given: then it changes the scenario.
ScenarioOption = Annotated[
    str | None, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario file, or `quickstart`.")
]
LogOption = Annotated[str | None, typer.Option("--log", metavar="FILE", help="An access log (common, combined; .gz, .zst).")]
LimitOption = Annotated[str | None, typer.Option("--limit", metavar="RATE", help="Such as 100/minute or 10 per 5 seconds.")]
AlgorithmOption = Annotated[str | None, typer.Option("--algorithm", help="sliding_window, fixed_window or token_bucket.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="What is limited: client, user or endpoint.")]
NodesOption = Annotated[int | None, typer.Option("--nodes", help="API nodes that share the limit.")]
RoutingOption = Annotated[str | None, typer.Option("--routing", help="round_robin or sticky.")]
NetworkOption = Annotated[
    str | None, typer.Option("--network", help="loopback, same_zone, cross_zone, cross_region or mobile_edge.")
]
P99Option = Annotated[str | None, typer.Option("--p99", metavar="TIME", help="Latency to keep in 99 % of decisions: 2ms.")]
OverOption = Annotated[
    str | None, typer.Option("--max-over-admission", metavar="SHARE", help="Admitted too much, at most: 1%; 0 means never.")
]
PersistenceOption = Annotated[str | None, typer.Option("--persistence", help="What survives: none, session or durable.")]
BusiestOption = Annotated[str | None, typer.Option("--busiest", metavar="TIME", help="Cut the log to its busiest 1h.")]
SpeedOption = Annotated[float | None, typer.Option("--speed", help="Replay the traffic so many times as fast.")]
ScaleOption = Annotated[int | None, typer.Option("--scale", help="So many copies of the traffic, under distinct keys.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Where the random draws begin.")]
ReplicationsOption = Annotated[int | None, typer.Option("--replications", help="Runs of each candidate, by seed.")]
ProfileOption = Annotated[Path | None, typer.Option("--profile", metavar="FILE", help="A profile of `ratesim calibrate`.")]


class Mistake(ValueError):
    """Options that make no sense together: one line with the remedy."""


def _scenario(asked: dict[str, Any]) -> Scenario:
    """The scenario of the options: that of --scenario, or one for --log, with what else was given in its place."""
    from ratesim.limit import Limit
    from ratesim.simulation.network import PRESETS
    from ratesim.simulation.scenario import Scenario

    if asked["log"] is None and asked["scenario"] is None:
        raise Mistake("what shall be studied? Give --log FILE with --limit RATE, or --scenario quickstart")
    if asked["log"] is not None and asked["scenario"] is not None:
        raise Mistake("--log and --scenario: give one of them; a scenario names its own log")
    if asked["scenario"] is not None:
        data = Scenario.load(asked["scenario"]).model_dump(exclude_none=True)
    else:
        if asked["limit"] is None:
            raise Mistake("--limit is missing: say what is allowed, such as --limit 100/minute")
        log = Path(asked["log"]).absolute()
        name = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in log.name) or "log"
        data = {"name": name, "workload": {"log": str(log)}, "limit": {}}
    places = {
        "limit": ("limit", "rate"),
        "algorithm": ("limit", "algorithm"),
        "key": ("workload", "key"),
        "busiest": ("workload", "busiest"),
        "speed": ("workload", "speed"),
        "scale": ("workload", "scale"),
        "nodes": ("deployment", "nodes"),
        "routing": ("deployment", "routing"),
        "network": ("deployment", "network"),
        "p99": ("requirements", "p99"),
        "max_over_admission": ("requirements", "max_over_admission"),
        "persistence": ("requirements", "persistence"),
    }
    for option, (part, key) in places.items():
        if asked[option] is not None:
            data.setdefault(part, {})[key] = asked[option]
    for option in ("seed", "replications"):
        if asked[option] is not None:
            data[option] = asked[option]
    if asked["limit"] is not None:
        Limit.parse(asked["limit"])  # its own message is plainer than the scenario's
    scenario = Scenario.of(data, asked["scenario"] or "options")
    if scenario.deployment.network not in PRESETS:
        raise Mistake(f"network {scenario.deployment.network!r}: known are {', '.join(PRESETS)}")
    return scenario


def _profile(path: Path | None) -> Profile | None:
    from ratesim.simulation.profile import Profile

    return Profile.load(path) if path else None


@contextmanager
def _bar() -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr, as the `progress` that ratesim's functions take."""
    from tqdm import tqdm

    with tqdm(total=1, file=sys.stderr, bar_format="{l_bar}{bar:24}| {n}/{total} {elapsed} {postfix}", leave=False) as bar:

        def tell(done: int, total: int, what: str) -> None:
            bar.total, bar.n = total, done
            bar.set_postfix_str(what, refresh=True)

        yield tell


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")],
    scenario: ScenarioOption = None,
    log: LogOption = None,
    limit: LimitOption = None,
    algorithm: AlgorithmOption = None,
    key: KeyOption = None,
    nodes: NodesOption = None,
    routing: RoutingOption = None,
    network: NetworkOption = None,
    p99: P99Option = None,
    max_over_admission: OverOption = None,
    persistence: PersistenceOption = None,
    busiest: BusiestOption = None,
    speed: SpeedOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    replications: ReplicationsOption = None,
    profile: ProfileOption = None,
    live: Annotated[bool, typer.Option("--live/--no-live", help="Also replay on real servers, started for it.")] = True,
) -> None:
    """Replay traffic against every storage and write a report whose first line is the recommendation.

    ratesim report --scenario quickstart --out reports/quickstart
    """
    asked = dict(locals())
    from ratesim.report import check_out
    from ratesim.report import report as make

    check_out(out)
    question = _scenario(asked)
    with _bar() as progress:
        recommendation = make(question, out, profile=_profile(profile), live=live, progress=progress)
    print(recommendation.verdict)
    print(out / "report.html")


@app.command()
def recommend(
    scenario: ScenarioOption = None,
    log: LogOption = None,
    limit: LimitOption = None,
    algorithm: AlgorithmOption = None,
    key: KeyOption = None,
    nodes: NodesOption = None,
    routing: RoutingOption = None,
    network: NetworkOption = None,
    p99: P99Option = None,
    max_over_admission: OverOption = None,
    persistence: PersistenceOption = None,
    busiest: BusiestOption = None,
    speed: SpeedOption = None,
    scale: ScaleOption = None,
    seed: SeedOption = None,
    replications: ReplicationsOption = None,
    profile: ProfileOption = None,
) -> None:
    """Print the recommendation and a small table; simulated only, and no files are written."""
    asked = dict(locals())
    question = _scenario(asked)
    from ratesim.recommend import recommend as choose
    from ratesim.simulation.study import study

    with _bar() as progress:
        finished = study(question, live=False, profile=_profile(profile), progress=progress)
    chosen = choose(finished)
    print(chosen.verdict)
    for line in (chosen.binding, chosen.confidence):
        if line:
            print(line)
    print()
    print(_small_table(chosen))
    origin = finished.origin
    if origin.skipped:
        print(f"\n{origin.skipped:,} of {origin.lines:,} lines did not parse; the first {len(origin.examples)}:")
        print("\n".join(f"  {harmless(line)}" for line in origin.examples))


def _small_table(chosen: Recommendation) -> str:
    rows = [("candidate", "p99", "over-admission", "store per request", "")]
    for each in chosen.assessments:
        state = "chosen" if each.candidate == chosen.choice else "passes" if each.passes else ""
        missed = ", ".join(check.label for check in each.missed)
        busy = seconds(each.l2_busy_per_request) if each.l2_busy_per_request else "none"
        rows.append(
            (each.candidate, seconds(each.p99.mean), share(each.over_admission.mean), busy, state or f"misses {missed}")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{wide}}" for cell, wide in zip(row, widths, strict=True)).rstrip() for row in rows)


@app.command()
def run(
    candidate: Annotated[str, typer.Argument(help="Its name in the scenario or the catalogue, or a storage URL.")],
    scenario: Annotated[str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario.")] = "quickstart",
    seed: SeedOption = None,
    profile: ProfileOption = None,
) -> None:
    """Simulate one candidate once and print its figures.

    ratesim run redis
    """
    from ratesim.simulation.run import run as simulate
    from ratesim.simulation.scenario import Scenario

    question = Scenario.load(scenario)
    row = simulate(question, _candidate(question, candidate), seed, profile=_profile(profile)).row()
    for name, value in row.items():
        print(f"{name:<28}{value}")


def _candidate(question: Scenario, name: str) -> Candidate:
    from ratesim.simulation.scenario import Candidate
    from ratesim.simulation.study import catalogue
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
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="A .parquet or .csv file for the results.")],
    scenario: Annotated[str, typer.Option("--scenario", metavar="NAME|FILE", help="A scenario.")] = "quickstart",
    replications: ReplicationsOption = None,
    profile: ProfileOption = None,
) -> None:
    """Simulate every candidate over several seeds and write one row for each.

    ratesim sweep --replications 10 --out results.parquet
    """
    from ratesim.simulation.scenario import Scenario
    from ratesim.simulation.sweep import sweep as simulate

    if out.suffix not in (".parquet", ".csv"):
        raise Mistake(f"--out {out}: end the name in .parquet or .csv")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise Mistake(f"--out {out}: name a file in a directory that exists")
    question = Scenario.load(scenario)
    seeds = range(question.seed, question.seed + (replications or question.replications))
    with _bar() as progress:
        rows = simulate(question, seeds=seeds, profile=_profile(profile), progress=progress)
    partial = out.with_name(f".{out.name}.partial")
    if out.suffix == ".csv":
        rows.to_csv(partial, index=False)
    else:
        rows.to_parquet(partial)
    partial.replace(out)
    print(f"{len(rows)} rows in {out}")


@app.command()
def calibrate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Elsewhere than where the simulation looks.")
    ] = None,
) -> None:
    """Measure the storages on this machine (about 20 seconds); the simulation uses the result from then on."""
    from ratesim.simulation.calibrate import calibrate as measure
    from ratesim.simulation.profile import stored_path

    if out is not None and out.is_dir():
        raise Mistake(f"--out {out}: is a directory; name a file")
    with _bar() as progress:
        profile = measure(out, progress)
    for name, backend in profile.backends.items():
        print(f"{name:<10} p50 {seconds(backend.latency_p50)}, p99 {seconds(backend.latency_p99)}  {backend.server}")
    print(f"stored in {out or stored_path()}")


@app.command()
def bench() -> None:
    """Measure ratesim itself, beside other limiters where they are installed (ratesim[bench])."""
    from ratesim.simulation.bench import main as measure

    measure()


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks, with a Valkey and a PostgreSQL running; both stop with it."""
    from ratesim.report import notebooks

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
    from ratesim.report import OutputError, ReportFailed
    from ratesim.servers import ServerError
    from ratesim.simulation.scenario import ScenarioError
    from traffic import LogError, TraceError

    ours = (Mistake, InvalidLimit, LogError, TraceError, ScenarioError, OutputError, ReportFailed, ServerError, StorageError)
    return (*ours, OSError)


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
        sys.exit(1 if name == "ReportFailed" else 2)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
