"""The check of a pipeline: whether the configuration in force meets the requirements, and the evidence carries that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.rejections import violations_text
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.decide.verdict import undecided_note

__all__ = ["CheckResult", "check"]

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
    live replay and its own simulation disagree, unless something else than a latency is missed for sure.
    """
    current = next((each for each in recommendation.assessments if each.candidate == CURRENT), None)
    if current is None:
        if recommendation.choice is None:
            thin = recommendation.confidence.level == "too thin"
            unsure = recommendation.confidence.disagreement and any(map(_rests_on_latency, recommendation.assessments))
            return CheckResult(3 if thin or unsure else 1, recommendation.verdict)
        current = next(each for each in recommendation.assessments if each.candidate == recommendation.choice)
    return _checked(current, recommendation)


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
        return CheckResult(3, f"The evidence is too thin. {recommendation.confidence.sentence}")
    if not recommendation.limit_is_binding and recommendation.requirements.get("max_over_admission") is not None:
        return CheckResult(3, f"The evidence is too thin. {recommendation.limit_pressure_note}")
    figures = ", ".join(each.measured + (f" ({each.required})" if each.required else "") for each in current.checks)
    return CheckResult(0, f"{name} meets the requirements: {figures}.")


def _rests_on_latency(each: Assessment) -> bool:
    """Tell whether a candidate fails nothing else for sure."""
    return all(missed.requirement == "p99" for missed in each.checks if missed.verdict == "fails")
