"""Logs as traces: `trace convert`, `trace describe` and `trace fit`."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ratesim.cli.app import CommandGroup, app, bar
from ratesim.cli.options import ReadOptions, ShowKeysOption, UsageError, takes
from ratesim.formatting import escape_control_chars

if TYPE_CHECKING:
    from traffic import Comparison, Trace

trace = typer.Typer(
    cls=CommandGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at a log, and convert it to a trace that is read fast and can be handed on.",
)
app.add_typer(trace, name="trace")

LogsArgument = Annotated[
    list[str],
    typer.Argument(metavar="LOG...", help="Files, globs, directories, archives, or - for standard input."),
]


@trace.command()
@takes(ReadOptions)
def convert(
    asked: ReadOptions,
    logs: LogsArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .parquet or .csv file.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write logs as one trace: times, keys, costs, sessions, endpoints and statuses, and nothing else of the lines.

    ratesim trace convert access.log out.parquet --anonymize

    ratesim trace convert 'logs/*.gz' out.parquet --key api_key --key-file secret --anonymize

    The trace is read wherever a log is: ratesim report --log out.parquet --limit 100/minute --out my-report
    """
    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{out}: name a .parquet or .csv file to write to, as the last argument")
    if out.exists() and not force:
        raise UsageError(f"{out}: is there already; name another file, or give --force")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: name a file in a directory that is there")
    from ratesim.cli.trace_description import counted

    if out.suffix == ".parquet":
        from traffic.convert import convert_log
        from traffic.formats.field_selection import FieldSelection
        from traffic.reading import Reading

        options = options_of(asked)
        others = {name: options.pop(name) for name in ("format", "log_format", "anonymize") if name in options}
        with bar() as progress:
            origin = convert_log(
                logs,
                out,
                Reading(FieldSelection(**options), **others),
                progress=lambda done, total: progress(done, max(total, 1), "reading"),
            )
    else:
        found = read(asked, logs)
        partial = out.with_name(f".{out.name}.partial")
        try:
            found.to_csv(partial)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
        origin = found.provenance
    for sentence in origin.assumed:
        print(escape_control_chars(f"Assumed: {sentence}"))
    print(f"{out}: {counted(origin)}")


@trace.command()
@takes(ReadOptions)
def describe(
    asked: ReadOptions,
    logs: LogsArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    show_keys: ShowKeysOption = False,
) -> None:
    """Say what is read of logs: the format, which field is taken for what, what is lost, and what the traffic is like.

    ratesim trace describe access.log

    ratesim trace describe 'logs/*.json' --key request.headers.api_key --json
    """
    from ratesim.cli.trace_description import described, text

    found = described(read(asked, logs), key=asked.key, show_keys=show_keys)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print("\n".join(map(escape_control_chars, text(found))))


@trace.command()
@takes(ReadOptions)
def fit(
    asked: ReadOptions,
    logs: LogsArgument,
    requests_per_second: Annotated[
        float | None, typer.Option(min=1e-9, max=1e6, help="Instead of the log's own mean rate.")
    ] = None,
    keys: Annotated[int | None, typer.Option(min=1, help="Instead of as many keys as the log has.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="Instead of the log's own, such as 1h.")] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="RATE", help="Add the limit, so that it is a whole scenario, such as 100/minute.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples of the recipes that are tried.")] = 1,
) -> None:
    """Learn a recipe from logs, and print it as the [workload] table of a scenario, without a name or line of the logs.

    ratesim trace fit access.log > recipe.toml

    ratesim trace fit access.log --keys 20000 --requests-per-second 500 > recipe.toml

    How far it is from the logs is printed to standard error. With a limit it takes their place:

    ratesim trace fit access.log --limit 100/minute > recipe.toml

    ratesim report --scenario recipe.toml --out my-report
    """
    import dataclasses

    import numpy as np

    from ratesim.durations import parse_duration
    from ratesim.limit import Limit
    from ratesim.simulation.scenario.recipe import recipe_toml
    from traffic import Workload, compare

    other: dict[str, Any] = {"rate": requests_per_second, "keys": keys}
    if duration is not None:
        try:
            other["duration"] = parse_duration(duration)
        except ValueError as error:
            raise UsageError(f"--duration: {error}") from error
    limited = "" if limit is None else f'\n[limit]\nrate = "{Limit.parse(limit)}"\n'
    found = read(asked, logs)
    rng = np.random.default_rng(seed)
    recipe = Workload.fit(found, rng)
    comparison = compare(found, recipe, rng)
    changed = {name: value for name, value in other.items() if value is not None}
    try:
        text = recipe_toml(dataclasses.replace(recipe, **changed))
    except ValueError as error:
        raise UsageError(str(error).splitlines()[0]) from error
    print("\n".join((*(f"# {line}" for line in about(comparison)), "", text + limited)), end="")
    print(comparison.table(), file=sys.stderr)


def about(comparison: Comparison) -> list[str]:
    """Say what a recipe was learned from, how alike it is, and what it does not carry."""
    from ratesim.formatting import format_count
    from traffic.fit import NOT_CARRIED

    large = [f"{each.aspect}{each.within}" for each in comparison.distances if each.is_large]
    alike = f"{len(comparison.distances) - len(large)} of {len(comparison.distances)} distances are small"
    return textwrap.wrap(
        f"Learned from {format_count(len(comparison.trace), 'request')}; {alike}"
        + (f", not those of {', '.join(large)}." if large else ".")
        + f" {NOT_CARRIED}",
        110,
    )


def read(asked: ReadOptions, logs: list[str]) -> Trace:
    """Read logs as the options say."""
    from traffic import read_log

    options = options_of(asked)
    with bar() as progress:
        return read_log(logs, **options, progress=lambda done, total: progress(done, max(total, 1), "reading"))


def options_of(asked: ReadOptions) -> dict[str, Any]:
    """Return the options of `read_log` that were given."""
    from traffic.anonymize import Anonymizer

    options: dict[str, Any] = {name: value for name, value in vars(asked).items() if value is not None}
    key_file = options.pop("key_file", None)
    if key_file is not None and not asked.anonymize:
        raise UsageError("--key-file: is the secret of --anonymize; give that as well")
    if options.pop("anonymize", False):
        options["anonymize"] = Anonymizer.from_file(key_file) if key_file else Anonymizer()
    return options
