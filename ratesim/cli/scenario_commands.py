"""Scenario files: `scenario`."""

from __future__ import annotations

from typing import Annotated

import typer

from ratesim.cli.app import app, complain
from ratesim.cli.options import UsageError


@app.command()
def scenario(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="A scenario file, or one that ships, such as quickstart.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say what is wrong, one line for each problem.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a file with every key, each with a remark.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a file, for editors.")] = False,
) -> None:
    """Print a scenario as a file with units and remarks, or check it.

    ratesim scenario quickstart > mine.toml

    ratesim scenario --check mine.toml

    ratesim scenario --example
    """
    if [name is not None, example, schema].count(True) != 1 or (check and name is None):
        raise UsageError("scenario: give a NAME or a FILE, with or without --check, or --example, or --schema")
    from ratesim.simulation.scenario.scenario import Scenario, ScenarioError

    if example:
        from ratesim.simulation.scenario.example import example as text

        print(text(), end="")
        return
    if schema:
        from ratesim.simulation.scenario.json_schema import text as schema_text

        print(schema_text(), end="")
        return
    assert name is not None
    try:
        found = Scenario.load(name)
        if check:
            found.workload.check_log()
    except ScenarioError as error:
        for problem in error.problems:
            complain(problem)
        raise typer.Exit(error.exit_code) from error
    print(f"{name}: no problem found" if check else found.to_toml(), end="\n" if check else "")
