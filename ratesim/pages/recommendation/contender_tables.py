"""The contenders, as HTML: eight figures that a choice is made by, then the others, of the same runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ratesim.formatting import (
    Format,
    format_count,
    format_excess,
    format_money,
    format_percent,
    format_range,
    format_seconds,
    format_within,
)
from ratesim.pages.html import HTML, details, escape_html, html_table, small_print
from ratesim.pages.style import COLORS
from ratesim.recommendation.decide.recommendation import Recommendation

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment, Interval
    from ratesim.recommendation.investigate.study import Study

__all__ = ["candidates", "requests_of"]

HEAD = ["candidate", "verdict", "p50", "p99", "over-admission", "busiest window", "a month", "blast radius"]
LIVE = "{} live / own simulation (ratio)"
MEANING = (
    "In small print: the 95 % interval over the seeds, of a latency with the model's error at both ends. "
    "Over-admission is added by the storage: the cost that an exact limiter of the same algorithm would have denied, over "
    "all that it admits. The busiest window is what the algorithm and the storage allow together: the largest cost that "
    "one key got within any window of the limit's period, over the limit. Blast radius: in the worst of the faults below, "
    "affected requests over the requests that came while it held, which the damage may outlast."
)
FRONT = (
    "The Pareto front is that of the contenders that pass, or of all where none does: those than which no other one is at "
    "least as good in all that the choice weighs, and better in one of them."
)
SERVERS = "Servers of the store: primaries + replicas. Three Sentinels watch a pair; answers wait for a synchronous standby."
CONTROL = (
    "Beside it is the same replay simulated: the same requests at the same rate on one node over loopback, with costs that "
    "were measured on the same server in the same minute. The ratio is simulated over live. So these columns are a control "
    "of the model, and no figures of your deployment. A latency counts from when a request was due. If the process slept "
    "then, it counts from when it was awake and began, because it would have slept without a limiter, too."
)


def requests_of(recommendation: Recommendation, stage: str) -> str:
    """Say which requests the runs of a stage had: "all 9,999 requests", or a part of them and from where."""
    part = recommendation.parts[stage]
    return f"all {recommendation.traffic['requests']:,.0f} requests" if part == "all of it" else part


def candidates(study: Study, recommendation: Recommendation) -> HTML:
    """Show the contenders: eight figures with intervals, and below them the others with live measurements."""
    ranked = recommendation.assessments
    seeds = format_count(max(each.p99.seeds for each in ranked), "seed")
    runs = f"simulated on {requests_of(recommendation, 'in full')} with up to {seeds}"
    first = html_table(HEAD, [_first_row(recommendation, each) for each in ranked], caption=f"The contenders, {runs}").data
    live = {row["candidate"]: row for row in study.live_rows}
    lost = any(each.failed_share for each in ranked)
    head = ["candidate", "servers", "on the front", "false denials", *["without a decision"] * lost, "model's error, p99"]
    head += [LIVE.format("p50"), LIVE.format("p99")] * bool(live)
    rows = [_second_row(recommendation, each, live, lost) for each in ranked]
    second = html_table(head, rows, caption="More figures of the same runs").data
    return HTML(first + small_print(" ".join([MEANING, *_alone(study)])) + second + _notes(study, recommendation))


def _alone(study: Study) -> list[str]:
    """Say what the algorithm itself allows on this traffic, whatever stores its state."""
    most = study.limit_pressure.exact_worst_excess
    return [] if math.isnan(most) else [f"By itself {study.scenario.limit.algorithm} allows {format_excess(most)} here."]


def _first_row(recommendation: Recommendation, each: Assessment) -> list[str]:
    chosen = each.candidate == recommendation.choice
    state = "chosen" if chosen else "passes" if each.passes else "fails" if each.fails else "too close"
    name = f'<span class="dot" style="background:{COLORS[each.backend]}"></span>{escape_html(each.candidate)}'
    return [
        f"<b>{name}</b>" if chosen else name,
        f'<span class="{state.replace(" ", "-")}">{state}</span>',
        _interval(each.p50, format_seconds),
        _interval(each.p99, format_seconds),
        _interval(each.over_admission, format_percent),
        _interval(each.worst_excess, format_excess),
        escape_html(format_money(each.cost, recommendation.currency)),
        "not tried" if each.blast_radius is None else escape_html(format_percent(each.blast_radius)),
    ]


def _second_row(recommendation: Recommendation, each: Assessment, live: dict[str, dict[str, Any]], lost: bool) -> list[str]:
    row = live.get(each.candidate)
    return [
        escape_html(each.candidate),
        escape_html(_servers(each)),
        "yes" if each.candidate in recommendation.front else "no",
        _interval(each.false_denial, format_percent),
        *[escape_html(format_percent(each.failed_share) if each.failed_share else "none")] * lost,
        _model_error(each),
        *[_live(row, name) if row else "not replayed" for name in ("p50", "p99")] * bool(live),
    ]


def _notes(study: Study, recommendation: Recommendation) -> str:
    """Say where the figures come from: what is missing in sight, the rest folded."""
    missing = [
        f"{row['candidate']}: the machine was disturbed in each of its replays, so their figures are not its storage's: "
        f"{row['disturbed']}."
        for row in study.live_rows
        if row["disturbed"]
    ]
    missing += [
        f"{row['candidate']}: {row['errors']} of {row['requests']} live requests failed."
        for row in study.live_rows
        if row["errors"]
    ]
    missing += [f"{name} was not measured live: {why.rstrip('.')}." for name, why in study.live_failures.items()]
    if not len(study.live):
        missing.append("No candidate was replayed live.")
    if any(each.failed_share for each in recommendation.assessments):
        missing.append("Requests without a decision are in no latency here.")
    about = [recommendation.profile.sentence, _model_errors(recommendation), FRONT, SERVERS]
    if live := study.live_rows:
        where = ", ".join(dict.fromkeys(f"{row['candidate']} on {row['server']}" for row in live))
        told = "; ".join(dict.fromkeys(str(row["note"]) for row in live))
        about.append(f"Live columns: a replay on this machine, without the modeled network: {where}; {told}. {CONTROL}")
        if late := [f"{row['candidate']} {format_seconds(row['lateness_p99'])}" for row in live if not row["disturbed"]]:
            about.append(
                "A live latency includes the time for which the replaying process itself held a request back, and not the "
                f"time to wake it (p99 of the first: {', '.join(late)})."
            )
    folded = "".join(map(small_print, about))
    return (small_print(" ".join(missing)) if missing else "") + details("How these figures were found", folded)


def _model_errors(recommendation: Recommendation) -> str:
    """Say whose verdict the model's errors are."""
    known = [each.model_error for each in recommendation.assessments if each.model_error is not None]
    whose = "; ".join(dict.fromkeys(error.verdict for error in known))
    whose = f"{whose[:1].upper()}{whose[1:]}."
    if all(error.source == "unknown" for error in known):
        return f"The model's error is not known. {whose}"
    return (
        f"The model's error of a p99 is that at the utilization of its run. {whose} Above that a simulated latency is a "
        "lower bound."
    )


def _model_error(each: Assessment) -> str:
    """Return the model's error of the p99, and in small print how busy the candidate was."""
    error = each.model_error
    return "not known" if error is None else f"{escape_html(error.size)}<br><small>{escape_html(error.busy)}</small>"


def _live(row: dict[str, Any], quantile: str) -> str:
    """Return a quantile of a live replay beside that of its own simulation, and simulated over measured."""
    if row["disturbed"]:
        return "machine disturbed"
    measured, simulated = (float(row.get(f"{of}_{quantile}", math.nan)) for of in ("latency", "simulated"))
    if math.isnan(simulated):  # of a study that an older version made
        return escape_html(format_seconds(measured))
    return escape_html(f"{format_seconds(measured)} / {format_seconds(simulated)} ({simulated / measured:.2f})")


def _servers(each: Assessment) -> str:
    """Return the servers of the store, and how they stand together: "cluster, 3 + 3"."""
    if each.topology == "none":
        return "none"
    kind = "synchronous standby" if each.standby else each.topology
    count = f"{each.servers} + {each.servers * each.replicas}" if each.replicas else str(each.servers)
    return count if kind == "standalone" else f"{kind}, {count}"


def _interval(value: Interval, unit: Format) -> str:
    """Return a mean, and its interval in small print."""
    if value.low == value.high:
        return escape_html(value.figure(unit))
    if value.is_lower_bound:
        return f"{escape_html(value.figure(unit))}<br><small>{escape_html(unit(value.mean))} simulated</small>"
    mean = escape_html(format_within(value.mean, value.low, value.high, unit))
    return f"{mean}<br><small>{escape_html(format_range(value.low, value.high, unit))}</small>"
