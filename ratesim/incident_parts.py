"""What the incident notebook shows, one function for each of its cells, all made from one replay (`replayed`).

Every figure in a sentence is worked out from what was simulated: another limit, load or seed may give another.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from ratesim.incident import (
    ALLOWED,
    KONG_FLOOR,
    KONG_LEAST,
    MIDDLE,
    PUBLISHED,
    PUBLISHED_LIMIT,
    Replay,
    bends,
    expected,
    interval_for,
    replayed,
    rule,
    summary,
)
from ratesim.incident_plots import ages, debts, loads, offers, overshoots
from ratesim.plots import to_svg
from ratesim.report_parts import HTML, escaped, html_table
from ratesim.simulation.profile import Profile
from ratesim.wording import seconds, share, span

__all__ = [
    "RECORD",
    "answer",
    "bent",
    "choose",
    "load",
    "overshoot",
    "paid_back",
    "phases",
    "published",
    "record",
    "replayed",
    "reproduce",
]

NEAR = "same_zone"
GATEWAY = next(iter(PUBLISHED))  # seconds: what the gateway's sync_interval is unless set

WSO2 = "https://github.com/wso2/api-platform/issues/"
CODE = "https://github.com/wso2/gateway-controllers/pull/203"
KONG = "https://developer.konghq.com/support/rate-limiting-advanced-plugin-showing-warn-in-logs-when-sync-rate-set-between-0-and-1/"
KONG_STRATEGIES = "https://developer.konghq.com/gateway/rate-limiting/strategies"
KONG_OPTIONS = "https://docs.konghq.com/hub/kong-inc/rate-limiting-advanced/unreleased/configuration"

# What is on record, and where; in our words.
RECORD = (
    (
        "A gateway's new backend counts in memory and reconciles with Redis every sync_interval, 50 ms unless set, for fixed "
        "windows. Its overshoot is given as about (replicas − 1) × rate × sync_interval. An improvement proposed by a "
        "maintainer in June 2026: no user's report of an outage, and no word on whose rate it is.",
        "wso2/api-platform#2142",
        f"{WSO2}2142",
    ),
    (
        "The same maintainer measured it: a limit of 1000 per second, saturated for five minutes. 13.1 % above the limit at "
        "50 ms, 3.7 % at 10 ms; Redis nearly idle, the gateway bound by its processors.",
        "wso2/api-platform#2187",
        f"{WSO2}2187",
    ),
    (
        "The code: a replica decides on the count that its last flush brought back plus its own since. It flushes only what it "
        "admitted, and reads at no other time. A comment puts the flushes at active keys × replicas / interval.",
        "wso2/gateway-controllers#203",
        CODE,
    ),
    (
        "Kong accepts a sync_rate from 20 ms on, but warns of less than 1 s: it loads Kong and Redis, and Kong may block "
        "waiting for Redis.",
        "Kong support",
        KONG,
    ),
    (
        "With a sync_rate of 0 every request is synchronous, and only then is Kong's count called accurate.",
        "Kong",
        KONG_STRATEGIES,
    ),
    ("With −1 the counters of a node stay on it.", "Kong", KONG_OPTIONS),
)

ASSUMED = (
    "Assumed here, since the record read does not say: how many replicas were measured and what they were asked (several are "
    "tried); Poisson arrivals that any replica may get; windows aligned with the clock; a phase of its own for each replica's "
    "flushes; Kong's syncs working like the gateway's. Of #2187 only the beginning of the findings could be read."
)


def answer(found: Replay) -> HTML:
    """The verdict, and why in three sentences."""
    rows = found.beside("replicas")
    within = rows[rows["holds"]]
    off = float((within["overshoot"] / within["rule"] - 1.0).abs().max())
    middle = rows[rows["replicas"] == MIDDLE]
    low, high = float(middle["low"].iloc[0]), float(middle["high"].iloc[0])
    gap, slope = MIDDLE / found.offered, float(middle["slope"].iloc[0])
    shortest, longest = middle.iloc[0], middle.iloc[-1]
    verdict = (
        "Choose the interval as the overshoot you can bear, over (replicas − 1) times what one replica is asked per second. "
        f"From {seconds(3 * low)} to {seconds(0.6 * high)} that rule is right within {share(off)} here"
    )
    said = [
        f"Both curves are there. {found.limit} for one key, of which {found.offered:,.0f} per second are asked of {MIDDLE} "
        f"replicas: the overshoot grows by {slope:,.0f} requests per second of interval, and the operations on Redis fall as "
        "one over the interval.",
        f"Both bend at the same place, where a replica is asked for the key about once in an interval: {seconds(gap)} here. "
        f"Below it a replica has nothing to flush at most ticks, and so hears nothing either. At {seconds(shortest['interval'])} "
        f"the overshoot is still {_requests(shortest['overshoot'])} where the rule says {_requests(shortest['rule'])}, and "
        f"{share(shortest['operations'] / shortest['admitted'])} of the admitted requests cost an operation on Redis each. "
        "Whoever needs less must ask Redis for every request.",
        f"The overshoot bends once more at {seconds(high)}, where the window is over, or everybody's limit is used up, before "
        f"the replicas hear of each other: {_requests(longest['overshoot'])} at {seconds(longest['interval'])}, where the rule "
        f"says {_requests(longest['rule'])}.",
        "Two warnings that seem to contradict each other, 50 ms with Redis idle and 1 s for Redis' sake, are both right: "
        f"{seconds(GATEWAY)} is many requests for one key of a thousand per second, and {seconds(KONG_FLOOR)} is one request for "
        "a consumer that each node sees once per second.",
    ]
    return HTML(f'<p class="verdict">{escaped(verdict)}.</p>' + "".join(f"<p>{escaped(each)}</p>" for each in said))


def record(found: Replay) -> HTML:
    """What is known, from where, and what is assumed."""
    rows = [[escaped(what), f'<a href="{where}">{escaped(name)}</a>'] for what, name, where in RECORD]
    return HTML(html_table(["on record", "where"], rows).data + _small(ASSUMED))


def overshoot(found: Replay) -> HTML:
    """The figure of overshoot against the rule, and whose rate it is."""
    rows = found.beside("replicas")
    many = rows[(rows["replicas"] == rows["replicas"].max()) & rows["holds"]].iloc[0]
    n, d = int(many["replicas"]), float(many["interval"])
    others = {"the limit": found.limit.rate / found.limit.period, "all that is asked": found.offered}
    wrong = " and ".join(f"{_requests((n - 1) * rate * d)} with {name} as the rate" for name, rate in others.items())
    said = (
        f"The rate in the rule is what one replica is asked, {found.offered / n:,.3g} per second for {n} replicas: at "
        f"{seconds(d)} it says {_requests(many['rule'])} and {_requests(many['overshoot'])} were simulated; it would be {wrong}. "
        "So at the same traffic the number of replicas hardly matters, (N − 1)/N: twice as many are each asked half as much. "
        "Half of a view's age is what the others have not flushed yet, half the time since this replica last heard of them."
    )
    note = (
        f"{found.limit}, fixed window, {found.offered:,.0f} per second asked for one key. Points: simulated. Lines: the rule "
        "with both of its bends. At the left end each replica admits about one request more than it should; at the right end "
        "everything that is asked is admitted."
    )
    return HTML(_shown(overshoots(found), note).data + f"<p>{escaped(said)}</p>")


def bent(found: Replay) -> HTML:
    """Where and why the curve bends, by replicas and by load."""
    table = []
    for part in ("replicas", "offered"):
        for _, of in found.beside(part).groupby(["replicas", "offered"], sort=False):
            if part == "offered" and (of["offered"] == found.offered).all():
                continue  # the same as with as many replicas
            first, last = of.iloc[0], of.iloc[-1]
            within = (of["overshoot"] / of["rule"])[of["holds"]]
            cells = [
                f"{int(first['replicas'])}",
                f"{first['offered'] * found.limit.period / found.limit.rate:g} ×",
                seconds(first["replicas"] / first["offered"]),
                seconds(first["low"]),
                seconds(first["high"]),
                f"{within.min():.2f} to {within.max():.2f}" if len(within) else "none tried",
                f"{first['overshoot']:.1f} ({first['rule']:.1f})",
                f"{last['overshoot']:,.0f} ({last['rule']:,.0f})",
            ]
            table.append([escaped(cell) for cell in cells])
    rows = found.beside("replicas")
    head = ["replicas", "asked, over the limit", "between two requests at a replica", "lower bend", "upper bend"]
    head += ["simulated over the rule, between them", f"at {seconds(rows['interval'].min())} (rule)"]
    head += [f"at {seconds(rows['interval'].max())} (rule)"]
    said = (
        "Upwards, the overshoot cannot be more than what is asked beyond the limit, nor more than one limit for each other "
        "replica, whichever is less: intervals beyond that admit no more. Just below that bend the simulated overshoot is less "
        "than expected: some replicas sync in time by chance. Downwards, a replica whose requests are further apart than the "
        f"interval syncs only with its own requests; and no view is younger than Redis' answer, {seconds(found.answers[NEAR])} "
        "here, that has to come."
    )
    return HTML(
        _shown(offers(found), "Lines: expected. Dashed: the rule. Points: simulated.").data
        + f"<p>{escaped(said)}</p>"
        + html_table(head, table).data
        + _small("Overshoot in requests per window. A bend is where the rule's line meets the least and the most overshoot.")
    )


def published(found: Replay) -> HTML:
    """The published measurement, and what would have to be for the simulation to give it."""
    rows = found.beside("published")
    limit = PUBLISHED_LIMIT
    (first, much), (second, little) = PUBLISHED.items()
    table, far = [], []
    for replicas, of in rows.groupby("replicas", sort=False):
        by = of.set_index("interval")["overshoot"] / limit.rate
        far.append(little - float(by[second]))
        cells = [f"{replicas}", f"{of['offered'].iloc[0]:,.0f}", share(by[first]), share(by[second])]
        table.append([escaped(cell) for cell in cells])
    table.append(["<b>published</b>", "not said", escaped(share(much)), escaped(share(little))])
    slope = (much - little) * limit.rate / (first - second)
    late = much * limit.rate / slope - first
    least, most = (min(far), max(far)) if abs(min(far)) < abs(max(far)) else (max(far), min(far))
    said = (
        f"Whatever the number of replicas, there is a load at which {seconds(first)} gives {share(much)}. One number is fitted "
        f"so; the other is predicted: {seconds(second)} should then give what the last column says, {_points(least)} to "
        f"{_points(most)} from the {share(little)} that were published. Through the two published points goes one line: "
        f"{slope:,.0f} requests per second asked of the other replicas, and views {seconds(late)} older than the interval. That "
        f"is more than the {seconds(found.answers[NEAR])} a sync takes here. Either the replicas were many (with requests "
        "further apart, as in the last rows), or a sync took milliseconds: the gateway was bound by its processors, and its "
        "next flush is timed from the end of the last. The record does not let us tell."
    )
    head = [
        "replicas",
        "asked per second, so that the first fits",
        f"overshoot at {seconds(first)}",
        f"at {seconds(second)}",
    ]
    return HTML(f"<p>{escaped(said)}</p>{html_table(head, table).data}")


def paid_back(found: Replay) -> HTML:
    """Whether what was admitted too much is held against later requests, by algorithm."""
    rows = found.part("debt")
    later = rows[rows["window"] > 0].groupby("algorithm", sort=False)["excess"].mean()
    first = rows[rows["window"] == 0].groupby("algorithm", sort=False)["excess"].mean()
    d, n, asked = float(rows["interval"].iloc[0]), int(rows["replicas"].iloc[0]), float(rows["offered"].iloc[0])
    told = "; ".join(f"{name} {first[name]:,.0f}, then {later[name]:+,.0f} per window" for name in first.index)
    said = (
        f"The rule is the gateway's, for fixed windows: at {seconds(d)} it says {_requests(rule(n, asked, d))}, and that much is "
        "admitted too much in every window, since a new window knows nothing of the last. A sliding window still counts part of "
        "it in the next. A bucket is overdrawn once, and stays so: what it owes is paid back before it admits more. First window "
        f"and the mean of those after it: {told}."
    )
    return HTML(
        _shown(debts(found), f"{found.limit}, {n} replicas, {asked:,.0f} per second asked.").data + f"<p>{escaped(said)}</p>"
    )


def phases(found: Replay) -> HTML:
    """What phases and the way to Redis do."""
    rows = found.beside("phases")
    near = rows[rows["network"] == NEAR]
    within = near[near["holds"]]
    by = {bool(spread): of for spread, of in within.groupby("spread", sort=False)}
    means = {spread: float((of["overshoot"] / of["rule"]).mean()) for spread, of in by.items()}
    worst = {spread: float((of["worst"] / of["rule"]).max()) for spread, of in by.items()}
    far = rows[rows["network"] != NEAR].iloc[0]
    answer = found.answers[str(far["network"])]
    said = (
        f"Replicas that all sync at the same moment do no worse in the mean: {means[False]:.2f} of the rule between its bends, "
        f"{means[True]:.2f} in phases of their own. The worst window was {worst[False]:.2f} and {worst[True]:.2f} times the "
        "rule. No view is older than twice the interval and the answer: what the others had not flushed when this replica heard "
        f"of them, up to one interval, and the time since. {seconds(answer)} from Redis a sync that is due while another is "
        "under way waits for it, so that views are at least two answers old: at "
        f"{seconds(far['interval'])} the overshoot is {_requests(far['overshoot'])} instead of {_requests(far['rule'])}."
    )
    note = "Points: means. Bars: up to the worst window. Lines: expected. Dashed and dotted: once and twice the interval."
    return HTML(_shown(ages(found), note).data + f"<p>{escaped(said)}</p>")


def load(found: Replay) -> HTML:
    """The load on Redis by interval, beside what Kong says."""
    rows = found.part("load")
    synced = rows[rows["interval"] > 0.0]
    replicas, offered = int(rows["replicas"].iloc[0]), float(rows["offered"].iloc[0])
    always = float(rows[rows["interval"] == 0.0]["utilisation"].mean())
    reading = synced[synced["reads"]].iloc[0]
    few, many = int(synced["keys"].min()), int(synced["keys"].max())

    def at(keys: int, interval: float) -> pd.Series:
        of = synced[(synced["keys"] == keys) & ~synced["reads"]]
        return of.loc[(of["interval"] - interval).abs().idxmin()]

    hot, cold = at(few, GATEWAY), at(many, KONG_FLOOR)
    said = [
        "A replica flushes a key once per interval if it admitted anything for it: operations per request are (1 − exp(−x))/x "
        "for x requests of a key at one replica in an interval. That is one over x for long intervals, and one for short ones: "
        "then nothing is gathered any more, and Redis is asked as often as if it decided every request. In operations per "
        "second it is active keys × replicas / interval, as the gateway's code says, until it is all the requests there are.",
        f"One key of {offered:g} per second at {replicas} replicas: {hot['operations']:.2g} operations per request at "
        f"{seconds(hot['interval'])}; that Redis stays idle in the gateway's measurement is no surprise. The same traffic over "
        f"{many} keys: {cold['operations']:.2g} at {seconds(cold['interval'])}. Kong limits consumers, most of which a node sees "
        f"less than once per second: for them {seconds(KONG_FLOOR)} is where syncing begins to save anything, and "
        f"{seconds(KONG_LEAST)}, the least that Kong accepts, saves only where a node gets {1 / KONG_LEAST:g} requests per second "
        "for one key.",
        "It can cost more than asking Redis for every request (Kong's sync_rate = 0): a limiter that also reads a view which is "
        f"older than the interval does {reading['operations']:.2g} operations per request at {seconds(reading['interval'])}, "
        f"{reading['utilisation'] / always:.1f} times the load. What stays saved is the wait: no request waits for Redis. With "
        "sync_rate = −1 the load is none, and the overshoot what it is beyond the upper bend.",
    ]
    note = (
        f"{replicas} replicas, {offered:g} requests per second in all, none denied; every replica also reads each key once, "
        f"when it first sees it. Right: of one Redis. {Profile.load().describe()} Where many keys share a flush, Redis' time "
        "falls before the number of operations does. Not simulated: timers and processor time of the gateway."
    )
    return HTML(_shown(loads(found, GATEWAY), note).data + "".join(f"<p>{escaped(each)}</p>" for each in said))


def choose(found: Replay) -> HTML:
    """Which interval keeps an overshoot, checked by simulating it."""
    limit, near = found.limit, found.answers[NEAR]
    chosen = found.beside("chosen").set_index(["replicas", "interval"])
    ends = summary(found.part("replicas"), ["replicas", "interval"]).set_index(["replicas", "interval"])
    table, ratios, worst = [], [], []
    for n in dict.fromkeys(found.part("replicas")["replicas"]):
        strong, local = ends.loc[(n, 0.0)], ends.loc[(n, math.inf)]
        table.append(_row(n, "none", "", "0: every request asks", strong, limit.rate))
        for allowed in ALLOWED:
            simple = allowed * limit.rate / rule(n, found.offered, 1.0)
            d = interval_for(limit, n, found.offered, allowed * limit.rate, near)
            if d is None:
                least = expected(limit, n, found.offered, near * 1e-3, near)
                cells = [
                    f"{n}",
                    share(allowed),
                    seconds(simple),
                    "no interval does",
                    f"at least {share(least / limit.rate)}",
                    "",
                    "",
                    "",
                ]
                table.append([escaped(cell) for cell in cells])
                continue
            if math.isinf(d):
                table.append(
                    [escaped(cell) for cell in (f"{n}", share(allowed), seconds(simple), "any does", "", "", "", "")]
                )
                continue
            it = chosen.loc[(n, d)]
            ratios.append(it["overshoot"] / (allowed * limit.rate))
            worst.append(it["worst"] / (allowed * limit.rate))
            table.append(_row(n, share(allowed), seconds(simple), seconds(d), it, limit.rate))
        table.append(_row(n, "all", "", "never syncs", local, limit.rate))
    low, high = bends(limit, MIDDLE, found.offered, near)
    said = (
        "d = overshoot you can bear / ((replicas − 1) × what one replica is asked per second), less what bends it: the gap "
        "between a replica's requests, and Redis' answer. "
    )
    if ratios:
        said += (
            f"Simulated with that d, the mean overshoot is {min(ratios):.2f} to {max(ratios):.2f} times what was allowed, the "
            f"worst window up to {max(worst):.2f} times; no window exceeds twice the rule, so halve d where every single window "
            "must keep to it. "
        )
    said += (
        "Take the rate at a replica from the worst traffic you must stand, not from the limit: the overshoot grows with what is "
        f"asked. With {MIDDLE} replicas a d below {seconds(low)} buys nothing, one above {seconds(high)} costs nothing more."
    )
    head = ["replicas", "overshoot allowed", "d by the rule", "d with its bends", "simulated overshoot", "worst window"]
    head += ["operations per admitted request", "Redis busy"]
    note = "Overshoot in % of the limit, per window. Redis busy: over the whole run, by this one key."
    return HTML(f"<p>{escaped(said)}</p>{html_table(head, table).data}{_small(note)}")


def _row(n: int, allowed: str, simple: str, interval: str, it: pd.Series, rate: float) -> list[str]:
    cells: Iterable[str] = (
        f"{n}",
        allowed,
        simple,
        interval,
        share(it["overshoot"] / rate),
        share(max(it["worst"], 0.0) / rate),
        f"{it['operations'] / it['admitted']:.2g}",
        share(it["utilisation"]),
    )
    return [escaped(cell) for cell in cells]


def reproduce(found: Replay) -> HTML:
    """What gives the same numbers again."""
    times = found.offered * found.limit.period / found.limit.rate
    sizes = " ".join(f"-p {name} {value}" for name, value in found.sizes.items())
    period = {1.0: "second", 60.0: "minute"}.get(found.limit.period, f"{found.limit.period:g}s")
    command = (
        f'papermill notebooks/incident.ipynb out.ipynb -p limit "{found.limit.rate:g}/{period}" -p offered {times:g} '
        f"-p seed {found.seed} {sizes}"
    )
    return HTML(
        f"<p><code>{escaped(command)}</code></p><p>Same parameters and the same measured costs of Redis: same numbers. "
        f"{escaped(Profile.load().describe())}</p>"
    )


def _requests(value: float) -> str:
    said = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
    return f"{said} requests"


def _points(value: float) -> str:
    return f"{100 * value:.2g} percentage points" if value else "0"


def _shown(figure: tuple[Figure, str], caption: str) -> HTML:
    drawn, alt = figure
    return HTML(f'<figure>{to_svg(drawn, alt)}<figcaption class="small">{escaped(caption)}</figcaption></figure>')


def _small(text: str) -> str:
    return f"<p class='small'>{escaped(text)}</p>"
