"""What the page on past reports shows, one function for each of its cells, all made from one reading (`read_history`).

All texts of a report are data from outside, and are escaped.
"""

from __future__ import annotations

from ratesim.formatting import Format, format_count, format_money, format_range, shorten
from ratesim.pages.history.analysis import History, PastReport, read_history
from ratesim.pages.history.plots import FIGURES, over_time
from ratesim.pages.html import HTML, details, escape_html, figure_html, html_table, small_print
from ratesim.pages.repro_command import reproduction

__all__ = ["answer", "changes", "read_history", "reports", "reproduce", "skipped", "trends"]

MOST_SHOWN = 20  # figures that moved, of one report


def answer(history: History) -> HTML:
    """Show the newest recommendation of each scenario, and how often its choice has changed."""
    newest = {each.scenario: each for each in history.reports}
    said = []
    for name, each in newest.items():
        of = [one for one in history.reports if one.scenario == name]
        moved = format_count(sum(one.has_moved for one in of), "change")
        choice = each.choice or "no candidate"
        often = f"after {moved} of the choice in {len(of)} reports" if len(of) > 1 else "in the only report"
        said.append(f"{shorten(name)}: {shorten(choice)}, {often}")
    return HTML("".join(f'<p class="verdict">{escape_html(each)}.</p>' for each in said))


def reports(history: History) -> HTML:
    """Show one row for each report."""
    head = ["date", "report", "scenario", "choice", "verdict", *(label for label, _ in FIGURES.values()), "confidence"]
    rows = [
        [
            escape_html(shorten(each.date) or "not stated"),
            escape_html(each.path.removesuffix("/recommendation.json")),
            escape_html(shorten(each.scenario)),
            f"<b>{escape_html(shorten(each.choice))}</b>" if each.choice else f"none; nearest: {escape_html(_name(each))}",
            escape_html(each.state),
            *(escape_html(_said(each, name, unit)) for name, (_, unit) in FIGURES.items()),
            escape_html(shorten(each.document["confidence"]["level"]) or "not stated"),
        ]
        for each in history.reports
    ]
    note = "Figures are of the choice, or of the nearest candidate where none was chosen. Ranges are 95 % intervals."
    return HTML(html_table(head, rows, label="Past reports").data + small_print(note))


def _name(each: PastReport) -> str:
    return shorten(str(each.shown["candidate"])) if each.shown else "none"


def _said(each: PastReport, name: str, unit: Format) -> str:
    found = each.figure(name)
    if found is None:
        return "not stated"
    if name == "cost":
        return format_money(found.mean, str(each.document["currency"]))
    if found.low == found.mean == found.high:
        return unit(found.mean)
    if found.high == float("inf"):
        return f"at least {unit(found.low)}"
    return f"{unit(found.mean)} ({format_range(found.low, found.high, unit)})"


def trends(history: History) -> HTML:
    """Show the figures over time."""
    note = (
        "Filled: the choice. Hollow: the nearest candidate where none was chosen. Bars: 95 % intervals. Dotted: the choice "
        "or the question is another than in the report before on the same scenario."
    )
    return figure_html(over_time(history), note)


def changes(history: History) -> HTML:
    """Show what is different from the report before on the same scenario, and whether that is noise."""
    parts = []
    for each in history.reports:
        if each.difference is None:
            continue
        found, names = each.difference, {*each.difference.choice, each.shown and each.shown["candidate"]}
        old, new = (choice or "none" for choice in found.choice)
        lines = [f"The choice is still {new}." if old == new else f"The choice moved from {old} to {new}."]
        lines += [f"The question changed: {one}." for one in found.question]
        of_choice = [one for one in found.changes if one.candidate in names]
        lines += [
            f"{one.candidate}: {one.what} moved{', within noise' * one.noise}, from {one.before} to {one.after}."
            for one in of_choice[:MOST_SHOWN]
        ]
        others = [one for one in found.changes if one.candidate not in names]
        if others:
            beyond = sum(not one.noise for one in others)
            moved = format_count(len(others), "figure")
            lines.append(f"Of the other contenders, {moved} moved, {beyond} of them beyond noise.")
        if not found.changes:
            lines.append("No figure moved.")
        listed = "".join(f"<li>{escape_html(line)}</li>" for line in lines)
        title = f"{shorten(each.date) or 'no date'}, {shorten(each.scenario)}: {each.path}"
        parts.append(f"<h3>{escape_html(title)}</h3><ul>{listed}</ul>")
    note = "Noise: two means that are no further apart than their 95 % intervals explain, as in ratesim diff."
    return HTML(("".join(parts) or "<p>No report has an earlier one on its scenario.</p>") + small_print(note))


def skipped(history: History) -> HTML:
    """Show the files that are no report of this version, and why."""
    if not history.skipped:
        return HTML("<p>No file was skipped.</p>")
    rows = [[escape_html(each.path), escape_html(each.reason)] for each in history.skipped]
    count = format_count(len(rows), "file")
    return HTML(details(f"{count} below the directory", html_table(["file", "why it is skipped"], rows).data))


def reproduce(history: History) -> HTML:
    """Show the command that makes the page again."""
    note = "The same files give the same page."
    return reproduction("history", {"reports": str(history.directory)}, "", note)
