"""The top of a recommendation: the verdict, three numbers, the confidence, and the one caveat that matters most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratesim.formatting import format_apart, format_count, format_excess, format_money, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment, Undecided
from ratesim.recommendation.assess.pareto import ORDERS, cost_of, first_difference, parts, rank
from ratesim.recommendation.assess.rejections import closest_misses, per_month, violations_text
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.confidence_reasons import THIN, Level, Reason, least, reasons
from ratesim.recommendation.investigate.fault_impact import NOT_STRUCK
from ratesim.simulation.analysis.limit_suggestion import DENIED, TOUCHED

if TYPE_CHECKING:
    from ratesim.recommendation.assess.live_control import LiveControl
    from ratesim.recommendation.investigate.fault_impact import FaultImpact
    from ratesim.recommendation.investigate.headroom import Headroom
    from ratesim.simulation.analysis.limit_pressure import LimitPressure
    from ratesim.simulation.scenario.scenario import Preference

__all__ = [
    "THIN",
    "Confidence",
    "Level",
    "Number",
    "algorithm_note",
    "caveat",
    "confidence",
    "figures",
    "limit_pressure_note",
    "no_choice",
    "no_confidence",
    "numbers",
    "undecided_note",
    "use",
]

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
    reasons
        What it rests on; the level is the least that one of them allows.
    """

    level: Level
    sentence: str
    disagreement: str = ""
    reasons: tuple[Reason, ...] = ()


def use(
    best: Assessment,
    passing: Sequence[Assessment],
    currency: str,
    exact_worst_excess: float = math.nan,
    changed: Sequence[str] = (),
    prefer: Preference = "cost",
) -> str:
    """Return the verdict where there is a choice. What it changes beside the storage comes first.

    For `exact_worst_excess` see `figures`, and for `changed` see `changes`.
    """
    among = _first_among(best, passing, prefer)
    use_it = f"Change {' and '.join(changed)}, and use" if changed else "Use"
    lead = "Keep what is in force" if best.candidate == CURRENT else f"{use_it} {best.candidate}"
    return f"{lead}: {figures(best, exact_worst_excess)}, at {per_month(best, currency)}, {among}."


def _first_among(best: Assessment, passing: Sequence[Assessment], prefer: Preference) -> str:
    """Say in what the choice comes before the others that pass."""
    if len(passing) == 1:
        return "the only contender that passes"
    as_cheap = [each for each in passing if cost_of(each) == cost_of(best)]
    if prefer == "cost" and len(as_cheap) == 1:
        return f"the least of the {len(passing)} contenders that pass"
    if prefer == "cost" and all(parts(each) > parts(best) for each in as_cheap if each is not best):
        return f"the simplest of the {len(as_cheap)} that pass at that cost"
    if prefer == "cost":
        return f"of the {len(as_cheap)} that pass at that cost the fastest of the simplest"
    rival = min((each for each in passing if each is not best), key=lambda each: rank(each, prefer))
    by, first = first_difference(rival, best, prefer), ORDERS[prefer][0]
    lead = f"the {'safest' if prefer == 'safety' else 'simplest'} of the {len(passing)} contenders that pass"
    if by is None:
        return f"{lead}, beside {rival.candidate}"
    least = "fewest" if by.name == "moving parts" else "least"
    return f"{lead}, with the {least} {by.name}{' among equals' * (by is not first)}"


def figures(each: Assessment, exact_worst_excess: float = math.nan) -> str:
    """Return the figure of each requirement beside its threshold, and the busiest window.

    What the storage adds to an exact limiter, and what is admitted at worst, are two things: an exact limiter may admit more
    than the limit in some window.

    Parameters
    ----------
    exact_worst_excess
        The busiest window of an exact limiter by the same algorithm, see `LimitPressure`; nan where it is not known.
    """
    required = {check.requirement: check.required for check in each.checks}
    notes = (required.get("max_worst_excess"), _allowed_by_the_algorithm(each, exact_worst_excess))
    window = _beside(f"busiest window {each.worst_excess.figure(format_excess)}", "; ".join(filter(None, notes)))
    texts = []
    for check in each.checks:
        if check.requirement == "max_over_admission":
            measured = "no over-admission" if each.over_admission.mean == 0 else check.measured
            texts += [f"{_beside(measured, check.required)} added to an exact {each.algorithm}", window]
        elif check.requirement != "max_worst_excess":
            texts.append(_beside(check.measured, check.required))
    return ", ".join(texts)


def _beside(text: str, note: str) -> str:
    return f"{text} ({note})" if note else text


def _allowed_by_the_algorithm(each: Assessment, exact_worst_excess: float) -> str:
    """Say what part the algorithm itself has in a busiest window above the limit; "" in one within the limit."""
    shown = format_excess(each.worst_excess.mean)
    if each.worst_excess.mean <= 0:
        return ""
    if each.over_admission.mean == 0 or shown == format_excess(exact_worst_excess):
        return f"as {each.algorithm} itself allows"
    if math.isnan(exact_worst_excess):
        return ""
    return f"where {each.algorithm} itself allows {format_excess(exact_worst_excess)}"


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


def algorithm_note(allowed: float | None, algorithm: str, exact_worst_excess: float) -> str:
    """Say that the algorithm itself exceeds the busiest window that is allowed; "" where it does not."""
    if allowed is None or not exact_worst_excess > allowed:
        return ""
    within, reached = format_apart(allowed, exact_worst_excess, format_excess)
    return (
        f"No storage keeps the busiest window within {within} by {algorithm}: an exact limiter itself "
        f"reaches {reached} on this traffic; `--also sliding_log` tries an algorithm that never "
        "exceeds the limit."
    )


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


def numbers(each: Assessment, currency: str, whose: str, exact_worst_excess: float = math.nan) -> tuple[Number, ...]:
    """Return p99, over-admission, busiest window and cost, each beside its threshold or its source.

    Parameters
    ----------
    whose
        The source of the prices.
    exact_worst_excess
        See `figures`.
    """
    required = {check.requirement: check.required for check in each.checks}
    return (
        Number(each.p99.figure(format_seconds), "99 % of decisions within", required.get("p99") or "nothing required"),
        Number(
            format_percent(each.over_admission.mean),
            f"added by the storage to an exact {each.algorithm}",
            required.get("max_over_admission") or "nothing required",
        ),
        Number(
            format_excess(each.worst_excess.mean),
            "in the busiest window",
            required.get("max_worst_excess") or _allowed_by_the_algorithm(each, exact_worst_excess) or "nothing required",
        ),
        Number(format_money(each.cost, currency), "a month", whose),
    )


def confidence(
    best: Assessment,
    others: Sequence[Assessment],
    currency: str,
    requests: int,
    disagreement: str = "",
    live: LiveControl | None = None,
    aside: str = "",
) -> Confidence:
    """Judge how sure a choice is: the least level that its reasons allow, see `confidence_reasons.reasons`.

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
    live
        The live replay of the choice beside its own simulation; None where there is none.
    aside
        Which live replays of rivals are slower than their simulations say by more than the model's error.
    """
    found = reasons(best, requests, live, disagreement, aside)
    level = least(found)
    measured = [check for check in best.checks if check.margin is not None]
    seeds, error = best.p99.seeds, best.model_error
    if measured:
        distances = "; ".join(f"{check.evidence}, {check.distance}" for check in measured)
        sure = "The evidence is too thin" if level == "too thin" else f"{level.capitalize()} confidence"
        sentence = f"{sure}, over {seeds} seed{'s' * (seeds > 1)}: {distances}."
        if level in ("fair", "low"):
            sentence += f" It is not higher for {' and '.join(each.name for each in found if each.level == level)}."
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
    else:
        sentence += "".join(f" Live replay: {each.text}." for each in found if each.name == "live replay")
    if requests < THIN:
        sentence += f" {_thin_note(requests)}"
    if others and cost_of(others[0]) > cost_of(best):
        sentence += f" The next that passes, {others[0].candidate}, costs {per_month(others[0], currency)}."
    elif others:
        sentence += f" The next that passes is {others[0].candidate}."
    return Confidence(level, sentence, disagreement, found)


def no_confidence(ranked: Sequence[Assessment], requests: int, disagreement: str = "") -> Confidence:
    """Judge how sure it is that no candidate can be chosen. For the parameters see `confidence`."""
    if not all(each.fails for each in ranked):
        return Confidence("too thin", "No candidate passes for sure, and not all of them fail for sure.", disagreement)
    if requests < THIN:
        return Confidence("too thin", _thin_note(requests), disagreement)
    return Confidence("low", "No candidate was chosen.", disagreement)


def _thin_note(requests: int) -> str:
    return f"Of {format_count(requests, 'request')} no 99th percentile is known: give a longer log."


def limit_pressure_note(rate: str, pressure: LimitPressure) -> str:
    """Return a sentence where the limit hardly tells candidates apart or denies too much; else ""."""
    denied, fits = pressure.exact_denied_share, ""
    if pressure.suggestion:
        fits = (
            f" {pressure.suggestion} is the smallest round rate that denies at most {format_percent(TOUCHED)} of the keys "
            f"and {format_percent(DENIED)} of the requests; here it denies {_denied(pressure.suggested_denied_share)}."
        )
    if not pressure.is_binding:
        return (
            f"The limit {rate} hardly ever binds here: an exact limiter denies {_denied(denied, 'only ')}, so the choice "
            f"rests on latency and cost alone.{fits}"
        )
    return f"An exact limiter denies {format_percent(denied)} of the requests under {rate}.{fits}" if fits else ""


def _denied(share: float, lead: str = "") -> str:
    return "nothing" if share == 0 else f"{lead}{format_percent(share)} of the requests"


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
    to_one_node: float = 0.0,
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
    to_one_node
        Share of the requests that sticky routing sends to one node with the busiest key; 0 where that is no more than a
        node's part.
    """
    if whole is not None and not whole.passes:
        return f"On all of the traffic, once, it {violations_text(whole)}."
    if pressure_note:
        return pressure_note
    if best.routing == "sticky":
        return (
            "It rests on the balancer, which must send all requests of a session to one node, and on a key being no more "
            "sessions than the traffic shows; `workload.sessions` in the scenario says how many clients a key is."
            + (f" The busiest key takes {format_percent(to_one_node)} of the requests to one node." if to_one_node else "")
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
