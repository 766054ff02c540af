"""What the other preferences would choose among the same candidates, with gains and losses in numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ratesim.formatting import Format, format_apart, format_excess, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.pareto import ORDERS, STEPS, best, cost_of, parts, rank
from ratesim.recommendation.assess.rejections import parts_change, per_month
from ratesim.simulation.scenario.scenario import Preference

__all__ = ["OtherPreference", "other_preferences"]


@dataclass(frozen=True)
class OtherPreference:
    """What another preference would choose.

    Attributes
    ----------
    prefer
        The preference, as `--prefer` takes it.
    choice
        The candidate that would be chosen.
    sentence
        The same in words, with gains and losses in numbers.
    """

    prefer: Preference
    choice: str
    sentence: str


def other_preferences(
    assessments: Sequence[Assessment],
    prefer: Preference,
    currency: str,
    changes: Callable[[Assessment], Sequence[str]] = lambda _: (),
) -> tuple[OtherPreference, ...]:
    """Return what each other preference would choose; nothing where no candidate passes.

    Parameters
    ----------
    assessments
        All that competed.
    prefer
        The preference of the scenario.
    currency
        Of all costs.
    changes
        What a candidate changes beside the storage.
    """
    chosen = best(assessments, prefer)
    if chosen is None:
        return ()
    found = []
    for other in ORDERS:
        then = best(assessments, other)
        if other != prefer and then is not None:
            more = [each for each in changes(then) if each not in changes(chosen)]
            fewer = [each for each in changes(chosen) if each not in changes(then)]
            sentence = _sentence(then, chosen, other, currency, more, fewer)
            sentence += _rounded(assessments, then, other) + _unless(assessments, then, other)
            found.append(OtherPreference(other, then.candidate, sentence))
    return tuple(found)


def _sentence(
    then: Assessment, chosen: Assessment, prefer: Preference, currency: str, more: Sequence[str], fewer: Sequence[str]
) -> str:
    """Say what is gained and lost. more, fewer: what it changes beside the storage and the choice does not, and reverse."""
    lead = f"With `--prefer {prefer}`"
    if then is chosen:
        return f"{lead} the choice stays {chosen.candidate}."
    gained, lost, same = _compared(then, chosen, currency)
    gained += [f"no change of {' and '.join(fewer)}"] if fewer else []
    lost += [f"a change of {' and '.join(more)}"] if more else []
    texts = [", ".join(filter(None, (*gained, same)))]
    texts += [f"in exchange for {', '.join(lost)}"] if lost else []
    return f"{lead} {then.candidate} would be chosen: {'; '.join(filter(None, texts))}."


def _compared(then: Assessment, chosen: Assessment, currency: str) -> tuple[list[str], list[str], str]:
    """Return what is better, what is worse, and whether the cost is the same; figures that read the same are left out."""
    figures: list[tuple[str, float, float, Format]] = [
        ("over-admission", then.over_admission.mean, chosen.over_admission.mean, format_percent),
        ("busiest window", then.worst_excess.mean, chosen.worst_excess.mean, format_excess),
        ("p99", then.p99.mean, chosen.p99.mean, format_seconds),
    ]
    if then.blast_radius is not None and chosen.blast_radius is not None:
        figures.insert(0, ("blast radius", then.blast_radius, chosen.blast_radius, format_percent))
    sides: tuple[list[str], list[str]] = [], []
    for name, its, mine, unit in figures:
        first, second = format_apart(its, mine, unit)
        if first != second:
            sides[its > mine].append(f"{name} {first} instead of {second}")
    if cost_of(then) != cost_of(chosen):
        sides[cost_of(then) > cost_of(chosen)].append(
            f"{per_month(then, currency)} instead of {per_month(chosen, currency)}"
        )
    if parts(then) != parts(chosen):
        sides[parts(then) > parts(chosen)].append(parts_change(then, chosen))
    return *sides, "at the same cost" if cost_of(then) == cost_of(chosen) else ""


def _rounded(assessments: Sequence[Assessment], then: Assessment, prefer: Preference) -> str:
    """Name a candidate of a smaller blast radius that counts as the same; "" where there is none or it does not matter."""
    mine, alike = then.blast_radius, ORDERS["safety"][0].value
    if prefer != "safety" or mine is None:
        return ""
    smaller = {
        each.candidate: each.blast_radius
        for each in assessments
        if each.passes and each.blast_radius is not None and each.blast_radius < mine and alike(each) == alike(then)
    }
    if not smaller:
        return ""
    name = min(smaller, key=smaller.__getitem__)
    its, other = format_apart(smaller[name], mine, format_percent)
    return (
        f" The blast radius of {name}, {its} instead of {other}, counts as the same: it is compared in steps of "
        f"{format_percent(STEPS['blast radius'])}."
    )


def _unless(assessments: Sequence[Assessment], then: Assessment, prefer: Preference) -> str:
    """Name a candidate that would come first if it passed, and is too close to call."""
    close = [each for each in assessments if each.missed and not each.fails and rank(each, prefer) < rank(then, prefer)]
    if not close:
        return ""
    first = min(close, key=lambda each: rank(each, prefer))
    return f" {first.candidate} would come before it, and is too close to call."
