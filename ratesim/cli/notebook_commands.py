"""What is opened: `notebook`, `history`, `lab` and `servers`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar, complain
from ratesim.cli.options import (
    KeyValueCommand,
    ParameterOption,
    pairs_of,
)

if TYPE_CHECKING:
    from ratesim.servers import Server

LOOK_SECONDS = 0.5  # between two looks at whether the servers are there


@app.command(cls=KeyValueCommand)
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
    from ratesim.notebook import build, find, given, parameters_of, questions

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
    from ratesim.pages.parameter_checks import check_parameters

    check_parameters(name, values)
    with bar() as progress:
        made = build(name, values, out, progress)
    print(made.page)


@app.command()
def history(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A directory below which reports lie.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR|FILE.html", help="Where it goes; DIR/history.html unless given."),
    ] = None,
) -> None:
    """Show past reports as one page of trends: what each recommended, and what has changed since the one before.

    A report is a recommendation.json that this version reads. Other files are listed with the reason.
    """
    from ratesim.notebook import build
    from ratesim.pages.history.analysis import read_history

    read_history(directory)  # what is wrong with it is said before a kernel starts
    with bar() as progress:
        made = build("history", {"reports": str(directory)}, out or directory / "history.html", progress)
    print(made.page)


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks, with a Valkey and a PostgreSQL running; both stop with it."""
    from ratesim.notebook import notebooks

    with _both_servers() as both:
        command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={notebooks()}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        process = subprocess.Popen(command, env={**os.environ, **_urls(both)})  # noqa: S603 (our own interpreter)
        told: set[str] = set()
        try:
            while (status := process.poll()) is None:
                dead = _dead(both)
                for name in dead.keys() - told:  # the work in the notebooks goes on
                    complain(f"{dead[name]}; give the command again to have one")
                told |= dead.keys()
                time.sleep(LOOK_SECONDS)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status:
        raise typer.Exit(status)


@app.command()
def servers() -> None:
    """Start a Valkey and a PostgreSQL, print how to use them, and stop them at Ctrl-C."""
    from ratesim.errors import ServerDiedError

    with _both_servers() as both:
        for name, url in _urls(both).items():
            print(f"export {name}={url!r}", flush=True)
        print("Ctrl-C stops them", file=sys.stderr)
        while not (dead := _dead(both)):
            time.sleep(LOOK_SECONDS)
        raise ServerDiedError(f"{', '.join(dead.values())}; the other has been stopped: give the command again")


@contextmanager
def _both_servers() -> Iterator[dict[str, Server]]:
    from ratesim.servers import postgres, valkey

    with valkey() as redis_server, postgres() as postgres_server:
        yield {"RATESIM_REDIS_URL": redis_server, "RATESIM_POSTGRES_URL": postgres_server}


def _urls(both: dict[str, Server]) -> dict[str, str]:
    return {name: server.url for name, server in both.items()}


def _dead(both: dict[str, Server]) -> dict[str, str]:
    """Say of each server that has ended how."""
    return {name: f"{server} {how}" for name, server in both.items() if (how := server.how_ended())}
