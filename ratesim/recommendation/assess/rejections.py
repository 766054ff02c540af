"""Why a candidate was rejected, which come nearest where none passes, and what would let one pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratesim.formatting import format_excess, format_money, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment, Check
from ratesim.recommendation.assess.pareto import (
    ORDERS,
    cost_of,
    first_difference,
    front,
    moving_parts,
    parts,
    rank,
    window_of,
)

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Preference

__all__ = [
    "Rejection",
    "Relaxation",
    "closest_misses",
    "per_month",
    "rejection_reason",
    "relaxations",
    "violations_text",
    "worst_miss",
]

NEAREST = 3  # candidates shown when none passes


@dataclass(frozen=True)
class Rejection:
    """A candidate that was not chosen, and the reason."""

    candidate: str
    reason: str


@dataclass(frozen=True)
class Relaxation:
    """One requirement that, alone, would let a candidate pass.

    Attributes
    ----------
    requirement
        A field of `Requirements`.
    candidate
        The candidate that would pass.
    to
        The value to which the requirement must be relaxed.
    sentence
        The same in words.
    """

    requirement: str
    candidate: str
    to: str
    sentence: str


def rejection_reason(each: Assessment, best: Assessment | None, currency: str, prefer: Preference = "cost") -> str:
    """Explain why `each` is not `best`: a missed requirement, or the first difference in the order of the preference."""
    if each.missed or best is None:
        worst = worst_miss(each)
        others = [check.label for check in each.missed if check is not worst]
        also = f"; also misses {' and '.join(others)}" if others else ""
        verb = "fails" if worst.verdict == "fails" else "is not shown to meet"
        return f"{verb} {worst.label}: {_against(worst)}{also}"
    by = first_difference(each, best, prefer)
    if by is not None and by.value(each) < by.value(best):
        return f"passes, and comes first by {by.name} there, but did not come so far"
    if (by is None or by.name == "p99") and len(front((each, best))) == 1:
        worse = [name for name, mine, its in _compared(each, best) if mine > its]
        return f"passes, but {best.candidate} is no worse in anything and better in {' and '.join(worse)}"
    if by is None:
        return f"passes, and is as good as {best.candidate}"
    lead = "passes" if by is ORDERS[prefer][0] else "passes at the same cost" if prefer == "cost" else "passes as well"
    if by.name == "moving parts":
        return f"{lead}, but has {parts_change(each, best)} than {best.candidate}"
    mine, its = (per_month(one, currency) if by.name == "cost" else by.text(one) for one in (each, best))
    return f"{lead}, but {by.worse}: {mine} against {its}"


def worst_miss(each: Assessment) -> Check:
    """Return the requirement that a candidate misses by most."""
    return max(each.missed, key=lambda check: check.violation)


def parts_change(each: Assessment, other: Assessment) -> str:
    """Say how many moving parts a candidate has more, or fewer, than another one, and which."""
    mine, its = Counter(moving_parts(each)), Counter(moving_parts(other))
    added, gone = ", ".join((mine - its).elements()), ", ".join((its - mine).elements())
    more = parts(each) - parts(other)
    if not more:
        return f"as many moving parts ({added} in place of {gone})" if added else "the same moving parts"
    names = f"{added} in place of {gone}" if added and gone else added or f"without {gone}"
    return f"{abs(more)} {'more' if more > 0 else 'fewer'} moving part{'s' * (abs(more) > 1)} ({names})"


def per_month(each: Assessment, currency: str) -> str:
    """Return the cost as candidates are ranked by it: to two significant digits."""
    if math.isnan(each.cost):
        busy = cost_of(each)
        return f"{format_seconds(busy)} of the shared store per request" if busy else "no shared store"
    return f"{format_money(each.cost, currency)} a month"


def violations_text(each: Assessment) -> str:
    """Return all requirements that a candidate misses, in words."""
    only = "misses only" if len(each.missed) == 1 else "misses"
    return f"{only} " + " and ".join(f"{check.label}: {_against(check)}" for check in each.missed)


def closest_misses(assessments: Sequence[Assessment], prefer: Preference = "cost") -> list[Assessment]:
    """Return the candidates with the smallest violation, and for each requirement the best that misses nothing else."""
    by_violation = sorted(assessments, key=lambda each: (each.violation, rank(each, prefer)))
    chosen = by_violation[:NEAREST]
    alone: set[str] = set()
    for each in by_violation:
        if len(each.missed) == 1 and each.missed[0].requirement not in alone:
            alone.add(each.missed[0].requirement)
            if each not in chosen:
                chosen.append(each)
    return chosen


def relaxations(assessments: Sequence[Assessment], prefer: Preference = "cost") -> tuple[Relaxation, ...]:
    """Find, for each requirement that is the only one some candidate misses, the least relaxation and its candidate.

    A latency or a share must be as high as the end of the candidate's interval, to two significant digits, rounded up.
    """
    easiest: dict[str, tuple[float, Relaxation]] = {}
    for each in sorted(assessments, key=lambda each: rank(each, prefer)):
        if len(each.missed) != 1:
            continue
        check = each.missed[0]
        size, to = _relaxed(each, check)
        if not to or (check.requirement in easiest and easiest[check.requirement][0] <= size):
            continue
        sentence = f"With {check.label} relaxed to {to}, and nothing else, {each.candidate} would pass."
        easiest[check.requirement] = size, Relaxation(check.requirement, each.candidate, to, sentence)
    return tuple(relaxation for _, relaxation in easiest.values())


def _relaxed(each: Assessment, check: Check) -> tuple[float, str]:
    match check.requirement:
        case "p99" if math.isfinite(each.p99.high) and each.failed_share < 0.01:
            value = _up(each.p99.high)
            return value, format_seconds(value)
        case "max_over_admission" if math.isfinite(each.over_admission.high):
            value = _up(each.over_admission.high)
            return value, format_percent(value)
        case "max_false_denial" if math.isfinite(each.false_denial.high):
            value = _up(each.false_denial.high)
            return value, format_percent(value)
        case "max_worst_excess" if math.isfinite(each.worst_excess.high):
            value = _up(1.0 + each.worst_excess.high)
            return value, format_excess(value - 1.0)
        case "persistence":
            return 0.0, each.persistence
        case "key_count":
            return check.violation, check.measured.removeprefix("room for ")
        case "allowed":
            return 0.0, f"allow {check.measured.removeprefix('needs ')}"
    return math.inf, ""


def _up(value: float) -> float:
    """Round up to two significant digits."""
    if value <= 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / step - 1e-9) * step:.2g}")


def _compared(each: Assessment, best: Assessment) -> list[tuple[str, float, float]]:
    pairs = [("p99", each.p99.mean, best.p99.mean), ("over-admission", each.over_admission.mean, best.over_admission.mean)]
    pairs.append(("busiest window", window_of(each), window_of(best)))
    pairs += [("cost", cost_of(each), cost_of(best)), ("blast radius", each.blast_radius or 0.0, best.blast_radius or 0.0)]
    return [*pairs, ("moving parts", parts(each), parts(best))]


def _against(check: Check) -> str:
    close = ", too close to call" if check.verdict == "too close to call" else ""
    return f"{check.evidence} ({check.required}{close})"
