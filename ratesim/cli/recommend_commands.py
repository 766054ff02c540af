"""What to choose: `report`, `recommend` and `diff`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ratesim.cli.app import app, bar, complain, prices_of, profile_of
from ratesim.cli.options import QuestionOptions, current_candidate, scenario_from_options, takes
from ratesim.formatting import escape_control_chars, format_excess, format_money, format_percent, format_seconds

if TYPE_CHECKING:
    from ratesim.recommendation.decide.recommendation import Recommendation


@app.command()
@takes(QuestionOptions)
def report(
    asked: QuestionOptions,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report goes.")],
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
    from ratesim.pages.recommendation.build import PartialReportError, ensure_writable
    from ratesim.pages.recommendation.build import report as make
    from ratesim.recommendation.decide.check import check as judge

    ensure_writable(out)
    question = scenario_from_options(vars(asked))
    partial: PartialReportError | None = None
    try:
        with bar() as progress:
            recommendation = make(
                question,
                out,
                profile=profile_of(asked.profile),
                prices=prices_of(asked.prices),
                current=current_candidate(current, question) if current else None,
                live=live,
                show_keys=bool(asked.show_keys),
                seconds=asked.seconds,
                processes=asked.processes,
                progress=progress,
            )
    except PartialReportError as error:
        partial, recommendation = error, error.recommendation
    _print_verdict(recommendation)
    _print_assumed(recommendation)
    print(out / "report.html")
    if check:
        checked = judge(recommendation)
        print(escape_control_chars(checked.sentence))
        if partial is not None:  # the simulation is whole, and it alone is judged
            complain(partial)
        raise typer.Exit(checked.status)
    if partial is not None:
        raise partial


@app.command()
@takes(QuestionOptions)
def recommend(asked: QuestionOptions) -> None:
    """Print the recommendation and a small table; simulated only, and no files are written."""
    question = scenario_from_options(vars(asked))
    from ratesim.recommendation import recommend as choose
    from ratesim.recommendation.investigate.study import study

    with bar() as progress:
        finished = study(
            question,
            live=False,
            show_keys=bool(asked.show_keys),
            seconds=asked.seconds,
            profile=profile_of(asked.profile),
            prices=prices_of(asked.prices),
            processes=asked.processes,
            progress=progress,
        )
    chosen = choose(finished)
    _print_verdict(chosen)
    size = [chosen.size] if chosen.size else []
    for line in (
        chosen.confidence.sentence,
        *size,
        f"But: {chosen.caveat}",
        *(each.sentence for each in chosen.alternatives),
        *(each.sentence for each in chosen.relaxations),
    ):
        print(escape_control_chars(line))
    _print_assumed(chosen)
    print()
    print("\n".join(map(escape_control_chars, _small_table(chosen).splitlines())))
    if chosen.log and chosen.log.lost:
        shape = "" if asked.show_keys else " (letters as x and digits as 0; --show-keys shows them)"
        print(f"\n{chosen.log.lost:,} of {chosen.log.lines:,} lines did not parse; the first of them{shape}:")
        print("\n".join(f"  {escape_control_chars(line)}" for line in chosen.log.examples))


def _print_verdict(chosen: Recommendation) -> None:
    """Print the verdict, and before it what is lost of the log, if that is much."""
    if chosen.lost_note:
        print(escape_control_chars(chosen.lost_note))
    print(escape_control_chars(chosen.verdict))


def _print_assumed(chosen: Recommendation) -> None:
    if chosen.log:
        print(escape_control_chars(" ".join(filter(None, (chosen.log.note, chosen.log.stamps_note)))))
    for each in chosen.assumed:
        print(escape_control_chars(f"Assumed: {each}"))


def _small_table(chosen: Recommendation) -> str:
    rows = [("candidate", "p99", "over-admission", "busiest window", "a month", "")]
    for each in chosen.assessments:
        state = "chosen" if each.candidate == chosen.choice else "passes" if each.passes else ""
        missed = ", ".join(check.label for check in each.missed)
        cost = format_money(each.cost, chosen.currency)
        rows.append(
            (
                each.candidate,
                each.p99.figure(format_seconds),
                format_percent(each.over_admission.mean),
                each.worst_excess.figure(format_excess),
                cost,
                state or f"{'misses' if each.fails else 'too close'} {missed}",
            )
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
    from ratesim.recommendation.decide.diff import diff, load, text

    files = [path / "recommendation.json" if path.is_dir() else path for path in (before, after)]
    found = diff(*map(load, files))
    print(text(found))
    raise typer.Exit(int(found.has_changed))
