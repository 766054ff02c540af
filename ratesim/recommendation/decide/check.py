"""The check of a pipeline: whether the configuration in force meets the requirements, and the evidence carries that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.rejections import violations_text
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.decide.verdict import figures, undecided_note

__all__ = ["CheckResult", "check", "checked_candidate"]

Status = Literal[0, 1, 3]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check.

    Attributes
    ----------
    status
        Exit status: 0 met, 1 not met, 3 the evidence is too thin to tell.
    sentence
        The reason.
    """

    status: Status
    sentence: str


def check(recommendation: Recommendation) -> CheckResult:
    """Check the candidate `in force`, or where none was named the choice.

    Where the limit denies nobody, an over-admission cannot be seen, so that evidence is too thin as well. So is it where a
    live replay and its own simulation disagree, unless something else than a latency is missed for sure. A log of which more
    than one line in a hundred is lost is no evidence at all.
    """
    if recommendation.lost_note:
        return CheckResult(3, f"The evidence is too thin. {recommendation.lost_note}")
    current = checked_candidate(recommendation)
    if current is None:
        thin = recommendation.confidence.level == "too thin"
        unsure = recommendation.confidence.disagreement and any(map(_rests_on_latency, recommendation.assessments))
        return CheckResult(3 if thin or unsure else 1, recommendation.verdict)
    return _checked(current, recommendation)


def checked_candidate(recommendation: Recommendation) -> Assessment | None:
    """Return the candidate `in force`, or where none was named the choice; None where there is neither."""
    found = {each.candidate: each for each in recommendation.assessments}
    return found.get(CURRENT) or found.get(recommendation.choice or "")


def _checked(current: Assessment, recommendation: Recommendation) -> CheckResult:
    name = current.candidate if current.candidate != CURRENT else "The configuration in force"
    if recommendation.confidence.disagreement and _rests_on_latency(current):
        return CheckResult(3, f"The evidence is too thin. {recommendation.confidence.disagreement}")
    if current.fails:
        chosen = f" {recommendation.verdict}" if recommendation.choice != current.candidate else ""
        return CheckResult(1, f"{name} no longer meets the requirements: it {violations_text(current)}.{chosen}")
    if not current.passes:
        return CheckResult(3, f"{name} is too close to call: it {violations_text(current)}; {undecided_note(current)}.")
    whole = next((each for each in recommendation.whole if each.candidate == current.candidate), current)
    if not whole.passes:
        sentence = f"{name} does not hold on all of the traffic: it {violations_text(whole)}"
        note = "" if whole.fails else f"; {undecided_note(whole)}"
        return CheckResult(1 if whole.fails else 3, f"{sentence}{note}.")
    if recommendation.confidence.level == "too thin":
        why = recommendation.confidence.sentence
        return CheckResult(3, why if why.startswith("The evidence is too thin") else f"The evidence is too thin. {why}")
    if not recommendation.limit_is_binding and recommendation.requirements.get("max_over_admission") is not None:
        return CheckResult(3, f"The evidence is too thin. {recommendation.limit_pressure_note}")
    return CheckResult(0, f"{name} meets the requirements: {figures(current)}.")


def _rests_on_latency(each: Assessment) -> bool:
    """Tell whether a candidate fails nothing else for sure."""
    return all(missed.requirement == "p99" for missed in each.checks if missed.verdict == "fails")
