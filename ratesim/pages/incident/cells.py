"""What the incident notebook shows, one function for each of its cells, all made from one replay (`replayed`).

Every figure in a sentence is worked out from what was simulated: another limit, load or seed may give another.
"""

from __future__ import annotations

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.incident.analysis import MIDDLE, Replay, replayed
from ratesim.pages.incident.plots import ages, debts, offers, overshoots
from ratesim.pages.incident.rule import rule
from ratesim.pages.incident.sources import ASSUMED, GATEWAY, KONG_FLOOR, PUBLISHED, PUBLISHED_LIMIT, RECORD
from ratesim.pages.repro_command import reproduction, seed_range
from ratesim.simulation.cost_model.profile import Profile

__all__ = [
    "NEAR",
    "answer",
    "bent",
    "overshoot",
    "paid_back",
    "phases",
    "published",
    "record",
    "replayed",
    "reproduce",
]

NEAR = "same_zone"
FAR = 0.5  # from the rule, as a share of it: more is not explained by chance


def answer(found: Replay) -> HTML:
    """Show the verdict, and the reasons in three sentences."""
    rows = found.beside("replicas")
    within = rows[rows["holds"]]
    off = float((within["overshoot"] / within["rule"] - 1.0).abs().max())
    middle = rows[rows["replicas"] == MIDDLE]
    low, high = float(middle["low"].iloc[0]), float(middle["high"].iloc[0])
    gap, slope = MIDDLE / found.offered, float(middle["slope"].iloc[0])
    shortest, longest = middle.iloc[0], middle.iloc[-1]
    verdict = (
        "Sync interval = tolerable overshoot / ((replicas − 1) × requests per second at one replica). From "
        f"{format_seconds(3 * low)} to {format_seconds(0.6 * high)} this rule is right within {format_percent(off)} here"
    )
    if off > FAR:
        verdict = (
            "The rule sync interval = tolerable overshoot / ((replicas − 1) × requests per second at one replica) does not "
            f"describe this traffic: from {format_seconds(3 * low)} to {format_seconds(0.6 * high)} it is wrong by up to "
            f"{format_percent(off)}. The rule holds for the mean rate. This traffic comes in bursts"
        )
    said = [found.sentence()] if found.log else []
    said += [
        f"The simulation has one key, a limit of {found.limit} and {MIDDLE} replicas that receive {found.offered:,.0f} "
        f"requests per second in total. The overshoot grows by {slope:,.0f} requests per second of the sync interval. The "
        "number of operations on Redis falls in proportion to one over the sync interval.",
        "Both curves bend where a replica receives about one request for the key per sync interval, here at "
        f"{format_seconds(gap)}. At shorter intervals, a replica has nothing to flush at most ticks, so it also receives no "
        f"update. At {format_seconds(shortest['interval'])}, the overshoot is still {_requests(shortest['overshoot'])}; the "
        f"rule predicts {_requests(shortest['rule'])}. At this interval, Redis is asked for "
        f"{shortest['operations'] / shortest['admitted']:.2g} operations per admitted request. A lower overshoot requires a "
        "Redis decision for every request.",
        f"The overshoot bends again at {format_seconds(high)}. At longer intervals, the window ends or every replica has "
        "used up the limit before the replicas hear of each other. The overshoot is "
        f"{_requests(longest['overshoot'])} at {format_seconds(longest['interval'])}; the rule predicts "
        f"{_requests(longest['rule'])}.",
        f"Two published statements seem to contradict each other. At {format_seconds(GATEWAY)}, Redis is idle. Below "
        f"{format_seconds(KONG_FLOOR)}, syncing loads Redis. Both are right, because the load depends on the number of "
        f"requests for one key at one replica in an interval. In {format_seconds(GATEWAY)}, a replica receives "
        f"{found.offered / MIDDLE * GATEWAY:,.2g} requests for this key. In {format_seconds(KONG_FLOOR)}, a replica "
        "receives one request of a consumer that it sees once per second.",
    ]
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>' + "".join(f"<p>{escape_html(each)}</p>" for each in said))


def record(found: Replay) -> HTML:
    """Show what is known, its sources, and what is assumed."""
    items = (f'<li>{escape_html(what)} <a href="{where}">{escape_html(name)}</a></li>' for what, name, where in RECORD)
    assumed = ASSUMED.replace("Poisson arrivals", "arrivals as in the log") if found.log else ASSUMED
    return HTML(f"<ul>{''.join(items)}</ul><p>{escape_html(assumed)}</p>")


def overshoot(found: Replay) -> HTML:
    """Show the figure of overshoot against the rule, and whose rate the rule means."""
    rows = found.beside("replicas")
    many = rows[(rows["replicas"] == rows["replicas"].max()) & rows["holds"]].iloc[0]
    n, d = int(many["replicas"]), float(many["interval"])
    others = {"the limit": found.limit.rate / found.limit.period, "the total demand": found.offered}
    wrong = " and ".join(f"{_requests((n - 1) * rate * d)} with {name} as the rate" for name, rate in others.items())
    said = (
        f"The rate in the rule is the demand at one replica, {found.offered / n:,.3g} per second for {n} replicas. At "
        f"{format_seconds(d)}, the rule predicts {_requests(many['rule'])}; {_requests(many['overshoot'])} were simulated. "
        f"The prediction would be {wrong}. At the same traffic, the number of replicas N hardly matters, since the "
        "overshoot is proportional to (N − 1)/N: with twice as many replicas, each receives half as many requests. The "
        "staleness of a view has two equal parts: the time until the other replicas flush, and the time since this replica "
        "last heard of them."
    )
    note = (
        f"{found.limit}, fixed window, {found.offered:,.0f} requests per second for one key. Points: simulated. Lines: the "
        "rule with both of its bends. At the left end, each replica admits about one request too many. At the right end, "
        "every request is admitted."
    )
    return HTML(figure_html(overshoots(found), note).data + f"<p>{escape_html(said)}</p>")


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
                format_seconds(first["replicas"] / first["offered"]),
                format_seconds(first["low"]),
                format_seconds(first["high"]),
                f"{within.min():.2f} to {within.max():.2f}" if len(within) else "none tried",
                f"{first['overshoot']:.1f} ({first['rule']:.1f})",
                f"{last['overshoot']:,.0f} ({last['rule']:,.0f})",
            ]
            table.append([escape_html(cell) for cell in cells])
    rows = found.beside("replicas")
    head = ["replicas", "demand, over the limit", "gap between requests at a replica", "lower bend", "upper bend"]
    head += ["simulated over the rule, between the bends", f"at {format_seconds(rows['interval'].min())} (rule)"]
    head += [f"at {format_seconds(rows['interval'].max())} (rule)"]
    said = (
        "The overshoot has two upper bounds: the demand beyond the limit, and one limit for each other replica. Above the "
        "upper bend, longer intervals admit no more. Just below the upper bend, the simulated overshoot is less than "
        "expected, because some replicas sync in time by chance. Below the lower bend, the requests of a replica are "
        "further apart than the interval, so the replica syncs only with its own requests. No view is younger than the "
        f"latency of Redis, {format_seconds(found.answers[NEAR])} here."
    )
    return HTML(
        figure_html(offers(found), "Lines: expected. Dashed: the rule. Points: simulated.").data
        + f"<p>{escape_html(said)}</p>"
        + html_table(head, table).data
        + small_print(
            "Overshoot in requests per window. A bend is where the rule's line meets the least and the most overshoot."
        )
    )


def published(found: Replay) -> HTML:
    """Show the published measurement, and the conditions under which the simulation gives it."""
    rows = found.beside("published")
    limit = PUBLISHED_LIMIT
    (first, much), (second, little) = PUBLISHED.items()
    table, far = [], []
    for replicas, of in rows.groupby("replicas", sort=False):
        by = of.set_index("interval")["overshoot"] / limit.rate
        far.append(abs(little - float(by[second])))
        cells = [f"{replicas}", f"{of['offered'].iloc[0]:,.0f}", _percent(by[first]), _percent(by[second])]
        table.append([escape_html(cell) for cell in cells])
    table.append(["<b>published</b>", "not stated", escape_html(_percent(much)), escape_html(_percent(little))])
    slope = (much - little) * limit.rate / (first - second)
    late = much * limit.rate / slope - first
    windows = found.part("published").groupby(["replicas", "interval"])["excess"]
    unsure = float((windows.std() / windows.count() ** 0.5).max()) / limit.rate
    least, most = (f"{100 * each:.1f}" for each in (min(far), max(far)))
    said = (
        f"For every number of replicas, there is a load at which {format_seconds(first)} gives {_percent(much)}. This load "
        f"is fitted. The overshoot at {format_seconds(second)} is then a prediction, shown in the last column. The "
        f"predictions differ by {least} to {most} percentage points from the published {_percent(little)}. The simulation "
        f"is uncertain by {100 * unsure:.1f} percentage points (one standard error). The line through the two published "
        f"points corresponds to {slope:,.0f} requests per second asked of the other replicas, and views "
        f"{format_seconds(late)} older than the interval. This delay exceeds the {format_seconds(found.answers[NEAR])} that "
        "a sync takes here. One explanation is many replicas with requests further apart, as in the last row. The other is "
        "a sync that took milliseconds: the gateway was bound by its processors, and its next flush is timed from the end "
        "of the previous one. The public record does not decide between the two."
    )
    head = [
        "replicas",
        "fitted demand, requests per second",
        f"overshoot at {format_seconds(first)}",
        f"at {format_seconds(second)}",
    ]
    return HTML(f"<p>{escape_html(said)}</p>{html_table(head, table).data}")


def paid_back(found: Replay) -> HTML:
    """Whether what was admitted too much is held against later requests, by algorithm."""
    rows = found.part("debt")
    later = rows[rows["window"] > 0].groupby("algorithm", sort=False)["excess"].mean()
    first = rows[rows["window"] == 0].groupby("algorithm", sort=False)["excess"].mean()
    d, n, asked = float(rows["interval"].iloc[0]), int(rows["replicas"].iloc[0]), float(rows["offered"].iloc[0])
    told = "; ".join(f"{name} {first[name]:,.0f}, then {later[name]:+,.0f} per window" for name in first.index)
    said = (
        f"The rule applies to the fixed windows of the gateway. At {format_seconds(d)}, it predicts "
        f"{_requests(rule(n, asked, d))}. A fixed window over-admits this amount in every window, because a new window "
        "starts at zero. A sliding window still counts part of the excess in the next window. A bucket is overdrawn once; "
        "the debt is paid back before the bucket admits more. Excess in the first window, and the mean of later windows: "
        f"{told}."
    )
    return HTML(
        figure_html(debts(found), f"{found.limit}, {n} replicas, {asked:,.0f} requests per second.").data
        + f"<p>{escape_html(said)}</p>"
    )


def phases(found: Replay) -> HTML:
    """Show the effect of sync phases and of the way to Redis."""
    rows = found.beside("phases")
    near = rows[rows["network"] == NEAR]
    within = near[near["holds"]]
    by = {bool(spread): of for spread, of in within.groupby("spread", sort=False)}
    means = {spread: float((of["overshoot"] / of["rule"]).mean()) for spread, of in by.items()}
    worst = {spread: float((of["worst"] / of["rule"]).max()) for spread, of in by.items()}
    far = rows[rows["network"] != NEAR].iloc[0]
    answer = found.answers[str(far["network"])]
    said = (
        f"Between its bends, the mean overshoot is {means[False]:.2f} of the rule if all replicas sync at the same moment, "
        f"and {means[True]:.2f} of the rule if each replica has a phase of its own. The worst window was {worst[False]:.2f} "
        f"and {worst[True]:.2f} times the rule. The staleness of a view is at most twice the interval plus one answer of "
        "Redis. One interval is the longest time that another replica waits to flush; the other is the time since this "
        f"replica last heard of it. At a latency of {format_seconds(answer)} to Redis, a sync that is due during another "
        "sync waits for that sync, so views are at least two answers old. There, the overshoot at "
        f"{format_seconds(far['interval'])} is {_requests(far['overshoot'])} instead of {_requests(far['rule'])}."
    )
    note = "Points: means. Bars: up to the worst window. Lines: expected. Dashed and dotted: once and twice the interval."
    return HTML(figure_html(ages(found), note).data + f"<p>{escape_html(said)}</p>")


def reproduce(found: Replay) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters and the same measured costs of Redis give the same numbers."
    return reproduction("incident", found.given, seed_range(found.seed, found.seeds), same, Profile.load().describe())


def _requests(value: float) -> str:
    number = format_amount(value, 2)
    return f"{number} request" if number == "1" else f"{number} requests"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
