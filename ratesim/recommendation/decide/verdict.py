"""The top of a recommendation: the verdict, three numbers, the confidence, and the one caveat that matters most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.formatting import format_money, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment, Undecided
from ratesim.recommendation.assess.pareto import cost_of, parts
from ratesim.recommendation.assess.rejections import closest_misses, per_month, violations_text
from ratesim.recommendation.investigate.fault_impact import NOT_STRUCK

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.fault_impact import FaultImpact
    from ratesim.recommendation.investigate.headroom import Headroom
    from ratesim.simulation.analysis.limit_pressure import LimitPressure

__all__ = [
    "THIN",
    "Confidence",
    "Level",
    "Number",
    "caveat",
    "confidence",
    "limit_pressure_note",
    "no_choice",
    "numbers",
    "undecided_note",
    "use",
]

Level = Literal["high", "fair", "low", "too thin"]

THIN = 1_000  # requests: below, a 99th percentile is the slowest ten of them
TIGHT = 2.0  # times today's load: a caveat names a choice that bears less


@dataclass(frozen=True)
class Number:
    """One of the figures beside a verdict: "0.52 ms", "p99 of a decision", "2 ms allowed"."""

    value: str
    what: str
    against: str


@dataclass(frozen=True)
class Confidence:
    """The distance of the choice from the thresholds.

    Attributes
    ----------
    level
        `too thin`: the evidence does not carry a verdict.
    sentence
        The reason.
    disagreement
        Which live replays and their own simulations differ by more than the model's error; "" where none do.
    """

    level: Level
    sentence: str
    disagreement: str = ""


def use(best: Assessment, passing: Sequence[Assessment], currency: str) -> str:
    """Return the verdict where there is a choice."""
    figures = ", ".join(check.measured + (f" ({check.required})" if check.required else "") for check in best.checks)
    as_cheap = [each for each in passing if cost_of(each) == cost_of(best)]
    if len(passing) == 1:
        among = "the only candidate that passes"
    elif len(as_cheap) == 1:
        among = f"the least of the {len(passing)} candidates that pass"
    elif all(parts(each) > parts(best) for each in as_cheap if each is not best):
        among = f"the simplest of the {len(as_cheap)} that pass at that cost"
    else:
        among = f"of the {len(as_cheap)} that pass at that cost the fastest of the simplest"
    return f"Use {best.candidate}: {figures}, at {per_month(best, currency)}, {among}."


def no_choice(ranked: Sequence[Assessment]) -> str:
    """Return the verdict where there is none."""
    close = [each for each in ranked if not each.fails]
    if close:
        names = " and ".join(each.candidate for each in close)
        first_of: dict[frozenset[Undecided], Assessment] = {}  # the first candidate of each reason stands for all
        for each in close:
            first_of.setdefault(each.undecided_by, each)
        several = len(close) > 1
        notes = "; ".join(f"for {each.candidate}, " * several + undecided_note(each) for each in first_of.values())
        are = "is" if len(close) == 1 else "are"
        return f"No candidate meets all requirements for sure: {names} {are} too close to call; {notes}."
    first = closest_misses(ranked)[0]
    return f"No candidate meets all requirements; the nearest is {first.candidate}, which {violations_text(first)}."


def undecided_note(each: Assessment) -> str:
    """Say what leaves an assessment too close to call, and what would tell; without a full stop, "" where nothing does."""
    error = each.model_error
    notes = {"seeds": "more replications would tell"}
    if error is not None:
        notes["load"] = f"near saturation a simulated p99 is a lower bound ({error.sentence}): {error.remedy}"
        notes["model error"] = (
            f"its p99 is within the model's error ({error.sentence}): no replication tells, but `ratesim calibrate` and "
            "`ratesim validate --store` on your machines may"
        )
    return "; ".join(note for cause, note in notes.items() if cause in each.undecided_by)


def numbers(each: Assessment, currency: str, whose: str) -> tuple[Number, ...]:
    """Return p99, over-admission and cost, each beside its threshold or its source. whose: the source of the prices."""
    required = {check.requirement: check.required for check in each.checks}
    return (
        Number(each.p99.figure(format_seconds), "99 % of decisions within", required.get("p99") or "nothing required"),
        Number(
            format_percent(each.over_admission.mean),
            "admitted too much",
            required.get("max_over_admission") or "nothing required",
        ),
        Number(format_money(cost_of(each), currency), "a month", whose),
    )


def confidence(
    best: Assessment, others: Sequence[Assessment], currency: str, requests: int, disagreement: str = ""
) -> Confidence:
    """Judge how far the choice is from the thresholds, a latency by the high end of its interval.

    Parameters
    ----------
    best
        The choice.
    others
        The rest of those that pass, in the order of rank.
    currency
        Of all costs.
    requests
        Of one run.
    disagreement
        See `Confidence`; with one the evidence is too thin.
    """
    measured = [check for check in best.checks if check.margin is not None]
    seeds, error = best.p99.seeds, best.model_error
    is_unknown = error is not None and error.source == "unknown" and not error.is_local
    level: Level = "fair"
    if measured:
        tightest = min(check.margin for check in measured if check.margin is not None)
        level = "high" if tightest >= 2 else "fair" if tightest >= 1.2 else "low"
    if is_unknown and level == "high" and any(check.requirement == "p99" for check in measured):
        level = "fair"
    if seeds == 1:
        level = "low"
    if requests < THIN or disagreement:
        level = "too thin"
    if measured:
        distances = "; ".join(f"{check.evidence}, {check.distance}" for check in measured)
        sure = "The evidence is too thin" if level == "too thin" else f"{level.capitalize()} confidence"
        sentence = f"{sure}, over {seeds} seed{'s' * (seeds > 1)}: {distances}."
    else:
        sentence = "No threshold was given for latency or over-admission, so nothing can be close."
    if seeds == 1:
        sentence += " With one seed there are no intervals; set replications to 3 or more."
    if error is not None and not error.is_local:
        sentence += f" The model's error: {error.sentence}."
    if error is not None and error.p99_is_lower_bound:
        sentence += f" Near saturation a simulated p99 is a lower bound: {error.remedy}."
    if disagreement:
        sentence += " What was simulated is not what was measured live; `ratesim validate` shows where."
    if requests < THIN:
        sentence += f" Of {requests:,} request{'s' * (requests > 1)} no 99th percentile is known: give a longer log."
    if others and cost_of(others[0]) > cost_of(best):
        sentence += f" The next that passes, {others[0].candidate}, costs {per_month(others[0], currency)}."
    elif others:
        sentence += f" The next that passes is {others[0].candidate}."
    return Confidence(level, sentence, disagreement)


def limit_pressure_note(rate: str, pressure: LimitPressure) -> str:
    """Return a sentence where the limit hardly tells candidates apart or denies too much; else ""."""
    denied, suggestion = pressure.exact_denied_share, pressure.suggestion
    would = f"{suggestion} would deny 5 to 30 %." if suggestion else "No limit per the same period would deny 5 to 30 %."
    if not pressure.is_binding:
        share_denied = "nothing" if denied == 0 else f"only {format_percent(denied)} of the requests"
        return (
            f"The limit {rate} hardly ever binds here: an exact limiter denies {share_denied}, so the choice rests on "
            f"latency and cost alone. {would}"
        )
    if suggestion:
        return f"An exact limiter denies {format_percent(denied)} of the requests under {rate}. {would}"
    return ""


def _impact_text(impact: FaultImpact) -> str:
    if impact.failed_share >= 0.01:
        return f"{format_percent(impact.failed_share)} of the {impact.requests:,} requests got no decision"
    share = format_percent(impact.affected_share)
    return f"{share} of the {impact.requests:,} requests were decided otherwise than by an exact limiter"


def caveat(
    best: Assessment,
    whole: Assessment | None,
    load: Sequence[Headroom],
    impacts: Sequence[FaultImpact],
    pressure_note: str,
    profile: str,
    live: bool,
) -> str:
    """Return the one thing that a reader must know beside the verdict.

    Parameters
    ----------
    best
        The choice, or the nearest candidate.
    whole
        The same on all of the traffic, where the rest was simulated on a part; None where it was not.
    load
        Headroom of the choice.
    impacts
        Of faults.
    pressure_note
        A sentence where the limit hardly denies anybody; else "".
    profile
        The source of the servers' costs: "shipped" or a file.
    live
        Whether requests were replayed on real servers.
    """
    if whole is not None and not whole.passes:
        return f"On all of the traffic, once, it {violations_text(whole)}."
    if pressure_note:
        return pressure_note
    if best.routing == "sticky":
        return (
            "It rests on the balancer, which must send all requests of a session to one node, and on a key being no more "
            "sessions than the traffic shows; `workload.sessions` in the scenario says how many clients a key is."
        )
    tight = [each for each in load if each.fails is not None and each.fails < TIGHT]
    if tight:
        return min(tight, key=lambda each: each.fails or math.inf).sentence
    worst = max(
        (each for each in impacts if each.candidate == best.candidate), key=lambda each: each.affected_share, default=None
    )
    if worst is not None and worst.affected_share >= 0.01:
        return f"It does not ride out every fault: in a {worst.fault}, {_impact_text(worst)}."
    missed = [each.fault for each in impacts if each.candidate == best.candidate and each.fault.endswith(NOT_STRUCK)]
    if missed:
        return (
            f"It was spared a fault of the scenario, {missed[0].removesuffix(NOT_STRUCK)}: it has no such primary. What the "
            "loss of its own server does is another fault, without `shard`."
        )
    if profile == "shipped":
        return "The servers' costs are those that ship with ratesim; `ratesim calibrate` measures yours."
    error = best.model_error
    if error is not None and error.source == "profile" and not error.is_local and not error.p99_is_lower_bound:
        return (
            f"What was simulated is a model of your servers: {error.verdict}, and its p99 was within "
            f"{format_percent(error.p99)} of the measured one up to the load of this choice."
        )
    shown = "the live columns show" if live else "`ratesim validate` shows"
    return f"What was simulated is a model of your servers; {shown} how far it is from this machine's."
