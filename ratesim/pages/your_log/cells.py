"""What the notebook on a log shows, one function for each of its cells, all made from one look at it (`analyze_log`).

Every figure in a sentence is worked out from the log. Names in it are data from outside: escaped, shortened, and left out if
the reader wants nobody named.
"""

from __future__ import annotations

from pathlib import Path

from ratesim.formatting import (
    format_amount,
    format_count,
    format_length,
    format_limit,
    format_percent,
    format_period,
    format_seconds,
    shorten,
)
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, prose, small_print
from ratesim.pages.log_traffic import SHIPPED
from ratesim.pages.repro_command import reproduction
from ratesim.pages.your_log.analysis import LogAnalysis, LogQuestion, analyze_log
from ratesim.pages.your_log.plots import over_time, ranks, rungs, scales
from ratesim.pages.your_log.recipe import recipe
from ratesim.pages.your_log.skew import Client
from ratesim.recommendation.investigate.log_reading import log_reading, stamp_grain
from ratesim.simulation.analysis.limit_pressure import BINDING_SHARE
from ratesim.simulation.analysis.limit_suggestion import Effect
from ratesim.simulation.scenario.fields import write_share
from traffic.key_labels import key_label, line_shape

__all__ = [
    "analyze_log",
    "answer",
    "bursts",
    "clients",
    "hidden",
    "rates",
    "recipe",
    "reproduce",
    "shape",
    "touched",
    "traffic",
]

EFFECT = ("clients touched", "of all", "requests denied", "of all")


def answer(found: LogAnalysis) -> HTML:
    """Show the suggested limit and its effect, how it was chosen, and what the log hides."""
    chosen, asked = found.suggestion, found.asked
    effect = chosen.effect
    verdict = (
        f"{format_limit(effect.limit)}{_of_cost(found)} for {'the one client' if effect.clients == 1 else 'each client'}"
    )
    verdict += f": it would touch {_touches(effect)}" if effect.touched else ": it would deny no request in this log"
    rule = (
        f"This is the smallest round rate per {format_period(found.period)} at which {_bounds(asked)} are ever denied by "
        "an exact "
    )
    rule += f"{asked.algorithm}"
    if chosen.below is not None:
        rule += f". The next smaller rate, {format_limit(chosen.below.limit)}, would touch {_touches(chosen.below)}"
    if effect.denied_share < BINDING_SHARE:
        rule += ". So few denials hardly tell storages apart: `ratesim report` then decides by latency and cost"
    rows = [
        [
            escape_html(format_limit(each.effect.limit)),
            *_cells(each.effect),
            escape_html(_below(each.below)),
        ]
        for each in found.suggestions.values()
    ]
    head = ["limit by the same rule", *EFFECT, "the next smaller rate would touch"]
    read = log_reading(found.trace.provenance, stamp_grain(found.trace))
    lost = f'<p class="note"><b>Lost lines</b> {prose(read.lost_note)}</p>' if read and read.lost_note else ""
    first = f'{lost}<p class="verdict">{escape_html(verdict)}.</p>{_note(found)}'
    how = _p(" ".join(filter(None, (read.note, *read.assumed, read.stamps_note)))) if read else ""
    return HTML(first + how + _p(f"{rule}. {_whom(found)}") + html_table(head, rows).data)


def traffic(found: LogAnalysis) -> HTML:
    """Show what was read, and the rate over time."""
    trace, it = found.trace, found.arrivals
    clients = format_count(found.skew.clients, "client")
    said = f"{format_count(len(trace), 'request')} of {clients} in {_lasting(trace.duration)}. "
    said += f"The busiest second holds {it.second:,}, the busiest minute {it.minute:,}"
    if trace.duration:
        said += f". The mean is {format_amount(trace.rate)} per second and {format_amount(60 * trace.rate)} per minute"
    stamps = (
        " Timestamps are whole seconds: requests are spread within their second before a limit is tested."
        if it.whole
        else ""
    )
    caption = "Requests per second, averaged over each step."
    caption += " Orange: requests answered 429." if found.rejected.many else ""
    return HTML(_p(f"{said}.{stamps}") + _lost(found) + figure_html(over_time(it), caption).data)


def bursts(found: LogAnalysis) -> HTML:
    """Show the index of dispersion, and the gaps."""
    it = found.arrivals
    if it.gaps is None:
        return HTML(_p("One request has no gaps and no bursts."))
    half = "At least half of the requests have the timestamp of the one before"
    if it.gaps.median:
        half = f"Half of the gaps between successive requests are at most {format_seconds(it.gaps.median)}"
    gaps = (
        f"{half}, and 99 % of the gaps are at most {format_seconds(it.gaps.high)}. The longest gap is "
        f"{_lasting(it.gaps.longest)}. The standard deviation of the gaps is {format_amount(it.gaps.variation)} times their "
        "mean; for Poisson arrivals, it equals the mean."
    )
    gaps += " Timestamps in whole seconds do not show gaps below one second." if it.whole else ""
    if not it.scales:
        return HTML(_p(f"{gaps} The log is too short to measure how its counts vary: at least 30 windows are needed."))
    caption = (
        "Index of dispersion of request counts in windows of one length. The index is 1 for independent random arrivals, "
        "above 1 for bursts and below 1 for regular arrivals. Bursts as long as the period of a limit count against the "
        "limit. Reference: Gusella, IEEE JSAC 9(2), 1991."
    )
    return HTML(figure_html(scales(it), caption).data + _p(gaps))


def shape(found: LogAnalysis) -> HTML:
    """How unequal the clients are."""
    it = found.skew
    if it.clients == 1:
        return HTML(_p("There is one client, so a limit must admit the traffic of this client."))
    tops = "".join(f", the busiest {top} make {format_percent(part)}" for top, part in it.tops.items() if top > 1)
    said = f"The busiest client makes {format_percent(it.tops[1])} of the requests{tops}. "
    said += f"The Gini coefficient is {it.gini:.2f}: 0 if all clients send equally many requests, near 1 if one sends all."
    if it.exponent is None:
        said += " Zipf's exponent is not fitted: the fit needs ten clients with 60 requests or more."
    else:
        fit = it.exponent
        said += (
            f" Zipf's exponent is {fit.value:.2f} ({fit.low:.2f} to {fit.high:.2f}, 95 %), for a recipe such as "
            f"popularity = 'zipf', zipf = {fit.value:.2f}. The exponent is fitted to the {fit.clients:,} busiest clients by "
            "maximum likelihood. One half of the requests ranks the clients; the other half is fitted (Piantadosi 2014). "
            "The interval is widened by the deviation of the clients from the law."
        )
    return HTML(
        figure_html(ranks(it), "Requests of a client by its rank. Line: Zipf's law, where it was fitted.").data + _p(said)
    )


def clients(found: LogAnalysis) -> HTML:
    """Who asks most, and how much at once."""
    rows = [[*_row(found, each, rank), *_asks(each)] for rank, each in enumerate(found.top, 1)]
    return html_table([*_head(found), "most frequent endpoint"], rows)


def hidden(found: LogAnalysis) -> HTML:
    """Show the traces that an existing limit left in the log."""
    it = found.rejected
    if not it.known:
        return HTML(
            _p(
                "This log has no status codes, so it does not show whether the service already has a limit. Requests that "
                "an existing limit rejected cannot be recognized. The parameter status names the column of status codes."
            )
        )
    said = []
    if it.many:
        said.append(
            f"{_limits(found)} After {it.again:,} of them ({format_percent(it.again / it.many)}) the same client "
            f"sent another request within a period ({format_period(found.period)}). A retry is a request of its "
            "own in the log."
        )
        said.append(f"Clients answered 429 at least once: {it.clients:,} of {found.skew.clients:,}.")
        if found.asked.cost and it.other_cost:
            said.append(
                f"In this log, a request answered 429 costs {format_amount(it.cost)} on average, any other "
                f"{format_amount(it.other_cost)}. The logged cost of a rejected request may be less than it would have used."
            )
    else:
        said.append(
            f"None of {format_count(it.requests, 'answer')} is a 429: this log does not show that the service has a limit."
        )
    if it.unavailable:
        said.append(
            f"Answers 503: {it.unavailable:,} ({format_percent(it.unavailable / it.requests)}). nginx's limit_req "
            "answers 503 unless limit_req_status is set, so a limit may have caused these answers. They are also replayed "
            "as demand."
        )
    return HTML("".join(map(_p, said)))


def rates(found: LogAnalysis) -> HTML:
    """Who would be limited at which rate."""
    asked = found.asked
    rows = [
        [escape_html(format_limit(each.limit)), *_cells(each)]
        for ladder in found.ladders.values()
        for each in reversed(ladder)
    ]
    caption = (
        f"One exact {asked.algorithm} decides on the whole log. Dashed: the suggested limit. The vertical scale is linear "
        "up to 0.1 %."
    )
    head = ["limit for each client", *EFFECT]
    figure = rungs(found.ladders, found.suggestion, "cost" if asked.cost else "requests")
    return HTML(figure_html(figure, caption).data + html_table(head, rows).data)


def touched(found: LogAnalysis) -> HTML:
    """Whom the suggested limit would touch, and what they look like."""
    effect = found.suggestion.effect
    if not effect.touched:
        return HTML(_p(f"{format_limit(effect.limit)} would touch no client in this log."))
    said = (
        f"{_touches(effect, denies=False)} would be touched. They make {format_percent(found.touched_share)} of the requests"
    )
    said += f". Their median is {format_amount(found.median_touched)} requests per client"
    said += f"; the median of the other clients is {format_amount(found.median_other)}" if found.median_other else ""
    rows = [
        [
            *_row(found, each.client, each.rank),
            *_asks(each.client),
            f"{each.denied:,}",
            escape_html(format_percent(each.denied / each.client.requests)),
        ]
        for each in found.touched
    ]
    head = [*_head(found), "most frequent endpoint", "denied", "of its requests"]
    more = effect.touched - len(found.touched)
    note = f"Most denied first; {more:,} more clients would be touched." if more > 0 else "Most denied first."
    return HTML(_p(f"{said}.") + html_table(head, rows).data + small_print(note))


def reproduce(found: LogAnalysis) -> HTML:
    """Show the command that gives the same numbers again, and the parameters to change."""
    limit = found.suggestion.effect.limit
    given = vars(found.asked) | {name: write_share(getattr(found.asked, name)) for name in ("touched", "denied")}
    said = (
        f"touched = {given['touched']} and denied = {given['denied']} are the shares of the clients and of the "
        f"requests that the suggested limit may deny. To find a storage for {format_limit(limit)}, run ratesim report "
        "--log LOG --limit LIMIT."
    )
    return reproduction("your_log", given, str(found.asked.seed), said)


def _limits(found: LogAnalysis) -> str:
    it = found.rejected
    return (
        f"This log already contains {format_count(it.many, 'answer')} 429 ({format_percent(it.share)}): the service "
        "already has a limit. These requests are replayed as demand. Clients that gave up or backed off are not in any log, "
        "so true demand is at least this."
    )


def _note(found: LogAnalysis) -> str:
    return f'<p class="note">{escape_html(_limits(found))}</p>' if found.rejected.many else ""


def _whom(found: LogAnalysis) -> str:
    asked = found.asked
    log = f"the log {shorten(Path(asked.log).name)}" if asked.log else f"the log that ships with ratesim, {SHIPPED}"
    if asked.key == "none":
        return f"Read from {log}; no key was wanted, so all requests belong to one client."
    if asked.key:
        return f"Read from {log}; a client is a value of {shorten(asked.key)}."
    return f"Read from {log}; a client is an address."


def _lost(found: LogAnalysis) -> str:
    origin = found.trace.provenance
    if not origin.skipped:
        return ""
    said = (
        f"{origin.skipped:,} of {origin.lines:,} lines did not parse and {'was' if origin.skipped == 1 else 'were'} left out"
    )
    shown = origin.examples if found.asked.show_keys else map(line_shape, origin.examples)
    lines = "".join(f"<li><code>{escape_html(line)}</code></li>" for line in shown)
    shape = "" if found.asked.show_keys else " (letters as x and digits as 0; show_keys shows them)"
    return f'<div class="note"><p>{escape_html(said)}; the first of them{shape}:</p><ul>{lines}</ul></div>'


def _touches(effect: Effect, denies: bool = True) -> str:
    said = f"{effect.touched:,} of {format_count(effect.clients, 'client')} ({format_percent(effect.touched_share)})"
    return f"{said} and deny {format_percent(effect.denied_share)} of the requests" if denies else said


def _below(effect: Effect | None) -> str:
    return "none" if effect is None else f"{effect.touched:,} ({format_percent(effect.touched_share)})"


def _cells(effect: Effect) -> list[str]:
    shares = (escape_html(format_percent(effect.touched_share)), escape_html(format_percent(effect.denied_share)))
    return [f"{effect.touched:,}", shares[0], f"{effect.denied:,}", shares[1]]


def _bounds(asked: LogQuestion) -> str:
    bounds = [
        f"at most {format_percent(part)} of the {whom}" if part else f"none of the {whom}"
        for part, whom in ((asked.touched, "clients"), (asked.denied, "requests"))
    ]
    return " and ".join(bounds)


def _of_cost(found: LogAnalysis) -> str:
    return f" of {shorten(found.asked.cost)}" if found.asked.cost else ""


def _head(found: LogAnalysis) -> list[str]:
    costs = ["cost", "of all"] if found.asked.cost else []
    refused = ["answered 429"] if found.rejected.many else []
    return [
        "client",
        "requests",
        "of all",
        *costs,
        f"most {'cost' if costs else 'requests'} in any {format_period(found.period)}",
        *refused,
    ]


def _row(found: LogAnalysis, each: Client, rank: int) -> list[str]:
    name = each.name if found.asked.show_keys else key_label(each.name, found.asked.key)
    costs = [format_amount(each.cost), escape_html(format_percent(each.cost_share))] if found.asked.cost else []
    refused = [f"{each.refused:,}"] if found.rejected.many else []
    return [
        escape_html(f"{rank}. {shorten(name)}"),
        f"{each.requests:,}",
        escape_html(format_percent(each.share)),
        *costs,
        format_amount(each.peak),
        *refused,
    ]


def _asks(each: Client) -> list[str]:
    return [
        escape_html(f"{shorten(each.endpoint)} ({format_percent(each.asked_share)})" if each.endpoint != "-" else "unknown")
    ]


def _lasting(value: float) -> str:
    return format_length(value) if value >= 1 else "no time" if value == 0 else format_seconds(value)


def _p(text: str) -> str:
    return f"<p>{escape_html(text)}</p>"
