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
from ratesim.pages.repro_command import repro_command
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
        "Sync interval = overshoot you can bear / ((replicas − 1) × requests per second at one replica). From "
        f"{format_seconds(3 * low)} to {format_seconds(0.6 * high)} that is right within {format_percent(off)} here"
    )
    said = [
        f"Both curves are there. One key, a limit of {found.limit}, {found.offered:,.0f} per second asked of {MIDDLE} "
        f"replicas: the overshoot grows by {slope:,.0f} requests per second of interval, and the operations on Redis fall "
        "as one over the interval.",
        "Both bend at the same place, where a replica is asked for the key about once in an interval: "
        f"{format_seconds(gap)} here. "
        "Below it a replica has nothing to flush at most ticks, and so hears nothing either. At "
        f"{format_seconds(shortest['interval'])} the overshoot is still {_requests(shortest['overshoot'])} where the "
        "rule says "
        f"{_requests(shortest['rule'])}, and {format_percent(shortest['operations'] / shortest['admitted'])} of the "
        "admitted "
        "requests cost an operation on Redis each. Whoever needs less must ask Redis for every request.",
        f"The overshoot bends once more at {format_seconds(high)}, where the window is over, or everybody's limit is "
        "used up, "
        f"before the replicas hear of each other: {_requests(longest['overshoot'])} at "
        f"{format_seconds(longest['interval'])}, "
        f"where the rule says {_requests(longest['rule'])}.",
        f"Two statements seem to contradict each other: {format_seconds(GATEWAY)} and Redis is idle, less than "
        f"{format_seconds(KONG_FLOOR)} and Redis suffers. Both are right. What counts is the requests of one key at "
        "one replica in "
        f"an interval: in {format_seconds(GATEWAY)} a replica gets {found.offered / MIDDLE * GATEWAY:,.2g} requests "
        "for this key, "
        f"and in {format_seconds(KONG_FLOOR)} one request of a consumer that it sees once per second.",
    ]
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>' + "".join(f"<p>{escape_html(each)}</p>" for each in said))


def record(found: Replay) -> HTML:
    """Show what is known, its sources, and what is assumed."""
    items = (f'<li>{escape_html(what)} <a href="{where}">{escape_html(name)}</a></li>' for what, name, where in RECORD)
    return HTML(f"<ul>{''.join(items)}</ul><p>{escape_html(ASSUMED)}</p>")


def overshoot(found: Replay) -> HTML:
    """Show the figure of overshoot against the rule, and whose rate the rule means."""
    rows = found.beside("replicas")
    many = rows[(rows["replicas"] == rows["replicas"].max()) & rows["holds"]].iloc[0]
    n, d = int(many["replicas"]), float(many["interval"])
    others = {"the limit": found.limit.rate / found.limit.period, "all that is asked": found.offered}
    wrong = " and ".join(f"{_requests((n - 1) * rate * d)} with {name} as the rate" for name, rate in others.items())
    said = (
        f"The rate in the rule is what one replica is asked, {found.offered / n:,.3g} per second for {n} replicas: at "
        f"{format_seconds(d)} it says {_requests(many['rule'])} and {_requests(many['overshoot'])} were simulated; it "
        "would be "
        f"{wrong}. So at the same traffic the number of replicas hardly matters, (N − 1)/N: twice as many are each asked "
        "half as much. Half of a view's age is what the others have not flushed yet, half the time since this replica last "
        "heard of them."
    )
    note = (
        f"{found.limit}, fixed window, {found.offered:,.0f} per second asked for one key. Points: simulated. Lines: the "
        "rule with both of its bends. At the left end each replica admits about one request more than it should; at the "
        "right end everything that is asked is admitted."
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
    head = ["replicas", "asked, over the limit", "between two requests at a replica", "lower bend", "upper bend"]
    head += ["simulated over the rule, between them", f"at {format_seconds(rows['interval'].min())} (rule)"]
    head += [f"at {format_seconds(rows['interval'].max())} (rule)"]
    said = (
        "Upwards, the overshoot cannot be more than what is asked beyond the limit, nor more than one limit for each other "
        "replica, whichever is less: intervals beyond that admit no more. Just below that bend the simulated overshoot is "
        "less than expected: some replicas sync in time by chance. Downwards, a replica whose requests are further apart "
        "than the interval syncs only with its own requests; and no view is younger than Redis' answer, "
        f"{format_seconds(found.answers[NEAR])} here, that has to come."
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
    table.append(["<b>published</b>", "not said", escape_html(_percent(much)), escape_html(_percent(little))])
    slope = (much - little) * limit.rate / (first - second)
    late = much * limit.rate / slope - first
    windows = found.part("published").groupby(["replicas", "interval"])["excess"]
    unsure = float((windows.std() / windows.count() ** 0.5).max()) / limit.rate
    least, most = (f"{100 * each:.1f}" for each in (min(far), max(far)))
    said = (
        f"Whatever the number of replicas, there is a load at which {format_seconds(first)} gives {_percent(much)}. "
        "One number is "
        f"fitted so, the other is predicted: {format_seconds(second)} should then give what the last column says, "
        f"{least} to "
        f"{most} percentage points from the {_percent(little)} that were published; what is simulated is uncertain by "
        f"{100 * unsure:.1f} (one standard error). Through the two published points goes one line: {slope:,.0f} requests "
        f"per second asked of the other replicas, and views {format_seconds(late)} older than the "
        f"interval. That is more than the {format_seconds(found.answers[NEAR])} a sync takes here. Either the "
        "replicas were many "
        "(with requests further apart, as in the last row), or a sync took milliseconds: the gateway was bound by its "
        "processors, and its next flush is timed from the end of the last. The record does not let us tell."
    )
    head = [
        "replicas",
        "asked per second, so that the first fits",
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
        f"The rule is the gateway's, for fixed windows: at {format_seconds(d)} it says "
        f"{_requests(rule(n, asked, d))}, and that "
        "much is admitted too much in every window, since a new window knows nothing of the last. A sliding window still "
        "counts part of it in the next. A bucket is overdrawn once, and stays so: what it owes is paid back before it "
        f"admits more. First window and the mean of those after it: {told}."
    )
    return HTML(
        figure_html(debts(found), f"{found.limit}, {n} replicas, {asked:,.0f} per second asked.").data
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
        f"Replicas that all sync at the same moment do no worse in the mean: {means[False]:.2f} of the rule between its "
        f"bends, {means[True]:.2f} in phases of their own. The worst window was {worst[False]:.2f} and {worst[True]:.2f} "
        "times the rule. No view is older than twice the interval and the answer: what the others had not flushed when this "
        f"replica heard of them, up to one interval, and the time since. {format_seconds(answer)} from Redis a sync "
        "that is due "
        "while another is under way waits for it, so that views are at least two answers old: at "
        f"{format_seconds(far['interval'])} the overshoot is {_requests(far['overshoot'])} instead of "
        f"{_requests(far['rule'])}."
    )
    note = "Points: means. Bars: up to the worst window. Lines: expected. Dashed and dotted: once and twice the interval."
    return HTML(figure_html(ages(found), note).data + f"<p>{escape_html(said)}</p>")


def reproduce(found: Replay) -> HTML:
    """Show the command that gives the same numbers again."""
    times = found.offered * found.limit.period / found.limit.rate
    line = repro_command("incident", limit=str(found.limit), offered=times, seed=found.seed, **found.sizes)
    return HTML(
        f"<p><code>{escape_html(line)}</code></p><p>Same parameters and the same measured costs of Redis: same numbers. "
        f"{escape_html(Profile.load().describe())}</p>"
    )


def _requests(value: float) -> str:
    return f"{format_amount(value, 2)} requests"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
