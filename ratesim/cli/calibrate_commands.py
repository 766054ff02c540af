"""What is measured: `calibrate`, `validate` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar, complain
from ratesim.cli.options import (
    UsageError,
    number,
    whole_number,
)
from ratesim.formatting import format_seconds

if TYPE_CHECKING:
    pass


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
) -> None:
    """Measure the storages on this machine (about 30 seconds); the simulation uses the result from then on."""
    from ratesim.simulation.cost_model.calibrate import calibrate as measure
    from ratesim.simulation.cost_model.profile import stored_path
    from ratesim.simulation.scenario.scenario import seconds as of_text

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: is a directory; name a file")
    try:
        there_and_back = None if rtt is None else float(of_text(rtt))
    except ValueError as error:
        raise UsageError(f"--rtt: {error}") from error
    with bar() as progress:
        profile = measure(out, progress, url, there_and_back)
    for name, backend in profile.backends.items():
        print(
            f"{name:<10} p50 {format_seconds(backend.latency_p50)}, p99 {format_seconds(backend.latency_p99)}  "
            f"{backend.server}"
        )
    print(f"stored in {out or stored_path()}")


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
def bench() -> None:
    """Measure ratesim itself, beside other limiters where they are installed (ratesim[bench])."""
    from ratesim.benchmarks.suite import main as measure

    print(measure())
