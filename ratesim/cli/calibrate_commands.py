"""What is measured: `calibrate`, `validate` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar, complain
from ratesim.cli.calibration_tables import calibration_text, repeat_text
from ratesim.cli.options import UsageError, number, whole_number
from ratesim.errors import ConfigurationError

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile


@app.command()
def calibrate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Elsewhere than where the simulation looks.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Measure this Redis (also redis+cluster://host,host or redis+sentinel://host,host/service) or PostgreSQL; "
            "its data stays as it is.",
        ),
    ] = None,
    rtt: Annotated[
        str | None, typer.Option("--rtt", metavar="TIME", help="To the server and back, kept in the profile: 0.4ms.")
    ] = None,
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", metavar="N", parser=whole_number(1, 1000), help="How often each piece is measured while it is quiet."
        ),
    ] = 5,
    force: Annotated[
        bool, typer.Option("--force", help="Measure also while other programs are at work; the profile says so.")
    ] = False,
) -> None:
    """Measure the storages on this machine; the simulation uses the result from then on.

    ratesim calibrate

    Starts a Valkey, a cluster of Valkeys and a PostgreSQL, and measures each, in at most a minute with 5 rounds: what a busy
    client and server take for a batch and an operation, what a lone request takes more after a pause, the way, the commit.
    Client and server have different cores where there are two. Stop other programs first. Pieces of the measurement during
    which the machine was slower than usual, or somebody else's, are dropped and measured again. If that happens to more than
    half of them, nothing is stored.

    Last, the costs are held against loads that they were not fitted to, at 10 and 40 % of saturation. The residual is the
    largest difference of their p50 and p95 from the simulated ones. A second run on the same machine and versions is
    compared with the first, and says which figures differ by more than 10 %.
    """
    from ratesim.simulation.cost_model.calibrate import calibrate as measure
    from ratesim.simulation.cost_model.profile import stored_path
    from ratesim.simulation.scenario.scenario import seconds as of_text
    from ratesim.simulation.validation.prediction import predict

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: is a directory; name a file")
    try:
        there_and_back = None if rtt is None else float(of_text(rtt))
    except ValueError as error:
        raise UsageError(f"--rtt: {error}") from error
    before = _profile_before(out or stored_path())
    with bar() as progress:
        profile = measure(out, progress, url, there_and_back, rounds=rounds, force=force, predict=predict)
    print(calibration_text(profile))
    print(f"stored in {out or stored_path()}")
    if before is not None:
        print(f"\n{repeat_text(before, profile)}")


def _profile_before(path: Path) -> Profile | None:
    """Read the profile that will be replaced; None where there is none that can be read."""
    from ratesim.simulation.cost_model.profile import Profile

    try:
        return Profile.load(path) if path.exists() else None
    except ConfigurationError:  # it is about to be replaced by one that can
        return None


@app.command()
def validate(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the tables and the verdict there, as Markdown.")
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Write the errors of the verdict into this machine's profile; reports use them.")
    ] = False,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            "--candidate",
            metavar="NAME",
            help='One of "redis", "postgres durable", "postgres off", "hybrid"; all unless given. May be repeated.',
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", metavar="N", parser=whole_number(1, 10_000), help="Rounds to keep at each load."),
    ] = 20,
    budget: Annotated[
        float,
        typer.Option("--budget", metavar="SECONDS", parser=number(1, 1e6), help="Seconds that it may take, about."),
    ] = 600.0,
) -> None:
    """Say how far simulated latencies are to be believed on this machine: replays on real servers beside their simulation.

    ratesim validate --store --out validation.md

    Starts a Valkey and two PostgreSQLs. Each round measures the costs of one, and replays it for half a second to a second
    at 10, 30, 60 and 85 % of its capacity; the same requests are simulated with these costs. Rounds in which the machine was
    disturbed are dropped, by its pace, by steal and by other programs, never by a latency. It ends with a verdict such as
    "within 12 % up to 60 % of capacity", or "cannot tell" where too few rounds were quiet: then stop other programs, or give
    it a larger --budget.

    Run `ratesim calibrate` first if the errors are to be stored.
    """
    from ratesim.simulation.validation import queueing_theory
    from ratesim.simulation.validation.validate import CANDIDATES, HYBRID, profile_to_store_in, store_errors
    from ratesim.simulation.validation.validate import validate as compare

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: is a directory; name a file")
    known = (*CANDIDATES, HYBRID)
    if unknown := [name for name in candidate or [] if name not in known]:
        raise UsageError(f"--candidate {unknown[0]}: is none of {', '.join(known)}")
    chosen = list(dict.fromkeys(candidate or known))
    postgres = [name for name in CANDIDATES if name.startswith("postgres")]
    if store and 0 < len(set(postgres) & set(chosen)) < len(postgres):
        raise UsageError(
            f"--store: the errors of postgres need {' and '.join(postgres)}; give both as --candidate, or neither"
        )
    profile = profile_to_store_in() if store else None
    waits = queueing_theory.markdown()
    print(waits)
    with bar() as progress:
        found = compare(out, progress, candidates=chosen, rounds=rounds, budget=budget, heading=f"{waits}\n")
    print(found.markdown())
    if profile is not None:
        for backend, done in store_errors(found, profile).items():
            print(f"{backend}: {done}")
    if found.failures:
        complain(f"not compared: {'; '.join(f'{name}: {why}' for name, why in found.failures.items())}")
        raise typer.Exit(1)


@app.command()
def bench(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            help="What is measured: memory, redis, postgres, compression, hybrid, eviction, oracle, engines, simulator, "
            "logs. All unless given, which takes an hour."
        ),
    ] = None,
) -> None:
    """Measure ratesim itself, beside other limiters where they are installed (ratesim[bench])."""
    from ratesim.benchmarks.suite import main as measure

    print(measure(sections=sections or ()))
