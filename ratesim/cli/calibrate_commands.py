"""What is measured: `calibrate`, `validate` and `bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar, complain
from ratesim.cli.options import (
    UsageError,
    number,
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
        Path | None, typer.Option("--out", metavar="FILE", help="Also write the table there, as Markdown.")
    ] = None,
    budget: Annotated[
        float, typer.Option("--budget", metavar="SECONDS", parser=number(1, 1e6), help="Seconds that it may take, about.")
    ] = 200.0,
) -> None:
    """Print the simulation beside queueing theory, and the same requests on real servers and simulated, side by side."""
    from ratesim.simulation.validation import queueing_theory
    from ratesim.simulation.validation.validate import validate as compare

    if out is not None and out.is_dir():
        raise UsageError(f"--out {out}: is a directory; name a file")
    waits = queueing_theory.markdown()
    print(waits)
    with bar() as progress:
        found = compare(out, progress, budget=budget, heading=f"{waits}\n")
    print(found.markdown())
    if found.failures:
        complain(f"not compared: {'; '.join(f'{name}: {why}' for name, why in found.failures.items())}")
        raise typer.Exit(1)


@app.command()
def bench() -> None:
    """Measure ratesim itself, beside other limiters where they are installed (ratesim[bench])."""
    from ratesim.benchmarks.suite import main as measure

    print(measure())
