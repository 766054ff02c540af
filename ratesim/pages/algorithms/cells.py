"""What the algorithms notebook shows, one function for each of its cells, and the comparison they are all made from.

The advice is worked out from the numbers (`choices`): another limit or seed may give another.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ratesim.formatting import format_percent, format_seconds
from ratesim.limit import Limit
from ratesim.pages.algorithms.analysis import TWICE, choices, kept, listed, times_the_memory
from ratesim.pages.algorithms.plots import (
    after_a_pause,
    around_an_edge,
    footprint,
    near_the_threshold,
    sawtooth,
    worst_windows,
)
from ratesim.pages.html import HTML, escape_html, html_table
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.log_traffic import LogFields
from ratesim.pages.repro_command import reproduction
from ratesim.pages.style import to_svg
from ratesim.simulation.analysis.algorithm_comparison import (
    EDGE,
    AlgorithmSummary,
    admitted_around,
    compare,
    measure,
    request_cost,
    summarize,
    workloads,
)
from ratesim.simulation.analysis.backend_saturation import saturate
from ratesim.simulation.analysis.two_window_error import PERIODS, TwoWindow, crowd, two_window
from ratesim.simulation.cost_model.calibrate import machine
from ratesim.simulation.results.oracle import exact_trace
from traffic import Trace, read_log

__all__ = [
    "Comparison",
    "admits",
    "answer",
    "compared",
    "costs",
    "edge",
    "learning",
    "published",
    "reproduce",
    "turn",
]

# J. Desgats, "How we built rate limiting capable of scaling to millions of domains", Cloudflare, 7 June 2017,
# https://blog.cloudflare.com/counting-things-a-lot-of-different-things/
SOURCE = "https://blog.cloudflare.com/counting-things-a-lot-of-different-things/"
CLAIM = {"requests": 400e6, "sources": 270e3, "wrong": 3e-5, "difference": 0.06}

BUCKET = "token_bucket"
LOGGED = "your log"
TURNED = ("fixed_window", "sliding_window", "sliding_log", BUCKET)  # the candidates of the interactive figure

LOG_LIMIT = (10.0, 10.0)  # requests, seconds: all stamps of the shipped log lie in the sixth minute of an hour


@dataclass(frozen=True)
class Comparison:
    """The results that the page shows.

    Attributes
    ----------
    rows
        The rows of `compare_algorithms`.
    standings
        The rows of `summarize`.
    ours
        The two-window counter over generated traffic at the limit.
    curve
        The same at other thresholds.
    real
        The same over the log, or the one that ships, in windows of `real_window` seconds.
    adaptive
        The adaptive algorithm for the limit `learner`, where an answer after more than `patience` seconds is bad.
    logged
        What is replayed of the log; empty without one.
    """

    given: dict[str, Any]
    limit: Limit
    seed: int
    traces: dict[str, Trace]
    rows: pd.DataFrame
    standings: dict[str, AlgorithmSummary]
    ours: TwoWindow
    curve: tuple[TwoWindow, ...]
    real: TwoWindow
    learner: Limit
    patience: float
    adaptive: pd.DataFrame
    real_window: float
    logged: str


def compared(
    limit: str,
    seed: int = 1,
    keys: int = 500,
    requests: int = 2_000_000,
    sources: int = 270_000,
    **log_fields: str,
) -> Comparison:
    """All that the notebook shows, for a limit such as "100/minute".

    keys: in memory when that is measured. requests, sources: of the traffic over which the two-window counter is checked.
    log_fields: of `LogFields`; the log is one more workload, and the one over which the two-window counter is checked.
    """
    given = {name: value for name, value in locals().items() if name != "log_fields"} | log_fields
    asked = Limit.parse(limit)
    traces = workloads(asked, _rng(seed, 0))
    log = LogFields(**log_fields).traffic()
    if log:
        traces[LOGGED] = log.spread
    rows = compare(asked, traces)
    measured = measure(asked, traces["one hot key"].head(20_000), keys)

    made = crowd(asked.period, requests, sources, _rng(seed, 1))
    busiest = max(np.bincount(made.key, minlength=1).max() / PERIODS, 2.0)  # requests per period
    grid = np.unique(np.round(np.geomspace(min(10.0, busiest / 2.0), 0.8 * busiest, 10))).tolist()
    ours, *curve = two_window(made, asked.period, [max(asked.rate, 1.0), *grid])
    with resources.as_file(resources.files("traffic") / "data" / "apache_access_10k.log.gz") as path:
        tested = log.spread if log else read_log(path).spread(_rng(seed, 2))
    threshold, window = (max(asked.rate, 1.0), asked.period) if log else LOG_LIMIT
    (real,) = two_window(tested, window, [threshold])

    # The backend's queue is simulated request by request: of a very large limit a smaller one is shown.
    learner = Limit(min(max(asked.rate, 20.0), 200.0), asked.period, "adaptive")
    able = learner.rate / learner.period
    patience = 10.0 / able  # five services, at half of what the limit admits
    capacity = [(0.0, 1.5 * able), (20 * learner.period, 0.5 * able), (50 * learner.period, 1.5 * able)]
    adaptive = saturate(learner, 3.0 * able, capacity, 80 * learner.period, _rng(seed, 3), patience)
    return Comparison(
        given=given,
        limit=asked,
        seed=seed,
        traces=traces,
        rows=rows,
        standings=summarize(rows, measured),
        ours=ours,
        curve=tuple(curve),
        real=real,
        learner=learner,
        patience=patience,
        adaptive=adaptive,
        real_window=window,
        logged=log.describe(asked) if log else "",
    )


def _rng(seed: int, part: int) -> np.random.Generator:
    """Each part draws for itself, so that none shifts another's numbers."""
    return np.random.default_rng([seed, part])


def answer(found: Comparison) -> HTML:
    """Show the paragraph and the small table of when to choose which algorithm."""
    standings, period = found.standings, found.limit.period
    advice = choices(standings)
    name = next(iter(advice))
    it, strict = standings[name], kept(standings)
    said = f"{found.limit}: {name}, {format_percent(it.off)} off an exact limiter on workloads that do not aim at an edge"
    if name not in strict:
        said += f". It admits up to {it.worst_period:.2f} times the limit in {period:g} s"
        if strict:
            exact = min(strict, key=lambda each: strict[each].bytes_full)
            more = times_the_memory(strict[exact], it)
            said += f". If that is too much, choose {exact}: a key that uses up its limit takes {more}"
    twice = [other for other, its in standings.items() if its.worst_period >= TWICE]
    sudden = [other for other in twice if standings[other].worst_tenth >= TWICE]
    reach = f"Algorithms that admitted about twice the limit within some {period:g} s: {listed(twice)}. " if twice else ""
    reach += f"Algorithms that did so within a tenth of that time: {listed(sudden) or 'none'}." if twice else ""
    rows = [
        [f"<b>{escape_html(which)}</b>", "<br>".join(f"when {escape_html(each)}" for each in when)]
        for which, when in advice.items()
    ]
    return HTML(
        f'<p class="verdict">{escape_html(said)}.</p><p>{escape_html(reach)}</p>{html_table(["choose", ""], rows).data}'
    )


def edge(found: Comparison) -> HTML:
    """Show the figure of a burst at the edge of a window."""
    limit, trace = found.limit, found.traces["burst at an edge"]
    at, width = limit.period, EDGE * limit.period
    first = trace.window(at - width, at + width)
    rows = found.rows[found.rows["workload"] == "burst at an edge"]
    curves = {}
    for _, alike in rows.groupby("decisions", sort=False):
        together = alike["algorithm"].tolist()
        curves[", ".join(together)] = admitted_around(limit, first, together[0])
    said = (
        f"After a pause, one client requests 1.5 times the limit in the last {width:g} s before the edge of a window. The "
        f"client requests the same amount again in the first {width:g} s after the edge. Algorithms named together made the "
        "same decision on every one of these requests."
    )
    return _shown(around_an_edge(curves, at, width), said)


def admits(found: Comparison) -> HTML:
    """Show what each algorithm admitted: the figure of the worst windows, and a table by workload."""
    head = ["worst period / share", *found.traces, "off", "same decisions as"]
    rows = []
    for name, it in found.standings.items():
        of = found.rows[found.rows["algorithm"] == name].set_index("workload")
        cells = [f"{of['worst_period'][workload]:.2f} / {of['share'][workload]:.3f}" for workload in found.traces]
        rows.append([escape_html(name), *cells, format_percent(it.off), escape_html(", ".join(it.alike))])
    said = ", ".join(f"{name} {len(trace):,}" for name, trace in found.traces.items())
    note = (
        "Worst period: the largest amount admitted for one key in any period, wherever the period begins, in multiples of "
        "the limit. Share: the total admitted, divided by the total that a sliding log admits of the same requests. Off: "
        "over-admission plus false denials in aligned periods, averaged over the workloads that do not aim at an edge. A "
        "bucket admits up to burst + rate in a period. The burst equals the rate here; a smaller burst admits less. "
        f"Requests of each workload: {said}."
    )
    figure = _shown(worst_windows(found.standings, found.limit), "").data
    return HTML(figure + html_table(head, rows).data + _small(note))


def turn(found: Comparison) -> InteractiveFigure:
    """Show what each algorithm admits under other limits, of a client that asks for three times the limit of the page."""
    asked, trace = found.limit, found.traces["steady overload"].window(0.0, 3.0 * found.limit.period)

    def picture(limit: float, burst: float) -> HTML:
        rate = limit * asked.rate
        curves = {}
        for name in TURNED:
            tried = Limit(rate, asked.period, name, burst * rate if name == BUCKET else None)
            admitted = exact_trace(tried, trace)
            curves[name] = trace.time[admitted], np.cumsum(trace.cost[admitted]) / asked.rate
        said = (
            f"Limit: {rate:g} per {asked.period:g} s. Burst of {BUCKET}: {burst * rate:g}. "
            f"The client requests 3 times {asked}."
        )
        return _shown(after_a_pause(curves, asked.period, limit, burst), said)

    return interactive(
        picture,
        limit=Choice("limit", (0.25, 0.5, 1.0, 2.0, 4.0), 1.0, lambda times: f"{times * asked.rate:g}"),
        burst=Choice("burst", (0.1, 0.25, 0.5, 1.0, 2.0, 5.0), 1.0, lambda times: f"{times:g} × the limit"),
    )


def costs(found: Comparison) -> HTML:
    """Memory for each key and processor time for each decision, measured here."""
    rows = []
    for name, it in found.standings.items():
        cells = [f"{it.bytes_once:,.0f}", f"{it.bytes_full:,.0f}", format_seconds(it.seconds), f"{it.time_ratio:.1f}"]
        rows.append([escape_html(name), *cells])
    head = ["algorithm", "bytes per key after one request", "bytes per key with the limit used up"]
    head += ["processor time of a decision", "multiple of fixed_window's time"]
    note = (
        f"Measured in MemoryStorage ({machine()}). Bytes: allocated memory, including the bookkeeping around a state and "
        "excluding the key's name. Time: the best of several rounds over traffic with one hot key, of which many requests "
        f"are denied. A request costs {request_cost(found.limit):g} here. The memory of a log grows with the number of "
        "requests, not with their cost."
    )
    return HTML(
        _shown(footprint(found.standings, next(iter(choices(found.standings)))), "").data
        + html_table(head, rows).data
        + _small(note)
    )


def published(found: Comparison) -> HTML:
    """Show Cloudflare's published figures of the two-window counter beside ours, and why the two differ."""
    ours, real, period = found.ours, found.real, found.limit.period
    made = f"generated traffic, {ours.threshold:g} per {period:g} s"
    name = "your log" if found.logged else "Apache log"
    head = ["", "published, 2017", made, f"{name}, {real.threshold:g} per {found.real_window:g} s"]
    both = (ours, real)
    rows = [
        ["requests", f"{CLAIM['requests']:,.0f}", *(f"{each.requests:,}" for each in both)],
        ["sources", f"{CLAIM['sources']:,.0f}", *(f"{each.sources:,}" for each in both)],
        [
            "requests wrongly allowed or limited",
            format_percent(CLAIM["wrong"]),
            *(format_percent(each.wrong) for each in both),
        ],
        [
            "mean difference of estimate and true count",
            format_percent(CLAIM["difference"]),
            *(format_percent(each.difference) for each in both),
        ],
        ["sources above the threshold", "not stated", *(f"{each.above:,}" for each in both)],
        ["of these, never limited", "3, by less than 15 %", *(_missed(each) for each in both)],
        ["sources limited without exceeding the threshold", "none", *(f"{each.mistaken:,}" for each in both)],
        [
            "requests of sources that came within 15 % of the threshold",
            "not stated",
            *(format_percent(each.near) for each in both),
        ],
        [
            "decisions that differ from an exact log's, if only admitted requests count",
            "",
            *(format_percent(each.differing) for each in both),
        ],
        ["total admitted in that case, over an exact log's total", "", *(f"{each.share:.4f}" for each in both)],
    ]
    claim = f'<p>The claim: <a href="{SOURCE}">J. Desgats, Cloudflare, 7 June 2017</a>.</p>'
    table = html_table(head, [[escape_html(cell) for cell in row] for row in rows]).data
    figure = _shown(near_the_threshold(found.curve, CLAIM["wrong"], period), "Generated traffic, all requests counted.").data
    shipped = (
        "Real traffic: the Apache log that ships with ratesim. Timestamps in the log are whole seconds; requests are spread "
        "within each second here. All timestamps lie in one minute of each hour, so only windows shorter than a minute can "
        "be tested on the log."
    )
    note = f"Generated traffic: Zipf popularity (s = 1), Poisson arrivals, {PERIODS} periods. {found.logged or shipped}"
    return HTML(f"{claim}{table}<p>{escape_html(_why(found))}</p>{figure}{_small(note)}")


def _why(found: Comparison) -> str:
    """Why the published share and ours differ."""
    ours = found.ours
    met = [each for each in found.curve if each.wrong <= CLAIM["wrong"]]
    published = format_percent(CLAIM["wrong"])
    reached = f"no tested threshold reaches {published}"
    if met:
        first = met[0]
        reached = (
            f"the lowest tested threshold that reaches {published} is {first.threshold:,.0f}, which {first.above:,} of "
            f"{first.sources:,} sources exceed"
        )
    return (
        "The difference between the estimate and the true count depends on how irregular the arrivals are. Its mean over "
        f"requests is {format_percent(ours.difference)} for the generated traffic and "
        f"{format_percent(found.real.difference)} for the log. The article does not say how its mean of "
        f"{format_percent(CLAIM['difference'])} is taken. The share of wrong decisions also depends on the "
        "traffic: a decision can be wrong only for a source whose count is "
        f"near the threshold. For the generated traffic, {reached}. The article states neither the thresholds nor the "
        "number of sources near them, so the published share can be neither confirmed nor refuted with other traffic. The "
        "article describes a counter of all requests, as do all rows but the last two here. A limiter that counts only "
        "admitted requests stays near its limit while demand exceeds the limit, and each decision changes later ones. An "
        f"exact log decides {format_percent(ours.differing)} of the requests differently, although the total admitted is "
        f"{ours.share:.4f} of the log's total."
    )


def _missed(found: TwoWindow) -> str:
    return f"{found.missed:,}, by at most {format_percent(found.missed_by)}" if found.missed else "none"


def learning(found: Comparison) -> HTML:
    """How the adaptive limit moves when it is told how its backend fares."""
    said = (
        f"One limit of {found.learner} protects a backend with a queue. Demand is three times the limit. An answer that "
        f"takes more than {found.patience:g} s counts as bad. The adaptive limit starts at {found.learner.rate:g} and may "
        "rise to twice that value."
    )
    return _shown(sawtooth(found.adaptive, found.learner.period), said)


def reproduce(found: Comparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters give the same decisions. Bytes and times are measured."
    return reproduction("algorithms", found.given, str(found.seed), same)


def _shown(figure: tuple[Figure, str], caption: str) -> HTML:
    drawn, alt = figure
    return HTML(f'<figure>{to_svg(drawn, alt)}<figcaption class="small">{escape_html(caption)}</figcaption></figure>')


def _small(text: str) -> str:
    return f"<p class='small'>{escape_html(text)}</p>"
