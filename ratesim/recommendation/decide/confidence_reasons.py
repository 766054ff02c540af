"""The reasons of a confidence, each with the level that it allows; the confidence is the least of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.formatting import format_count, format_seconds

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment, Check
    from ratesim.recommendation.assess.live_control import LiveControl

__all__ = ["LEVELS", "THIN", "Level", "Reason", "least", "reasons"]

Level = Literal["high", "fair", "low", "too thin"]
LEVELS: tuple[Level, ...] = ("too thin", "low", "fair", "high")

THIN = 1_000  # requests: below, a 99th percentile is the slowest ten of them
FAR, CLEAR = 2.0, 1.2  # times the figure, for a threshold that is far from it, or clear of it


@dataclass(frozen=True)
class Reason:
    """Something that a confidence rests on.

    Attributes
    ----------
    name
        Of what it is.
    level
        The highest level that it allows.
    text
        The evidence.
    """

    name: str
    level: Level
    text: str


def least(found: tuple[Reason, ...]) -> Level:
    """Return the highest level that all reasons allow."""
    return min((each.level for each in found), key=LEVELS.index)


def reasons(
    best: Assessment, requests: int, live: LiveControl | None, disagreement: str, aside: str = ""
) -> tuple[Reason, ...]:
    """List what the confidence in a choice rests on.

    Parameters
    ----------
    best
        The choice. A latency is judged by the high end of its interval, with seeds and the model's error in it.
    requests
        Of one run.
    live
        Its live replay beside its own simulation; None where there is none.
    disagreement
        Which live replays and their simulations differ by more than the model's error; "" where none do.
    aside
        The same of rivals that are slower live: the choice stands, and how far they are behind it is not known.
    """
    measured = [check for check in best.checks if check.margin is not None]
    found = [Reason(check.label, _of(check.margin), f"{check.evidence}, {check.distance}") for check in measured]
    if not measured:
        found.append(Reason("no threshold", "fair", "nothing can be close without a threshold for a latency or a share"))
    seeds = best.p99.seeds
    found.append(Reason("seeds", "low" if seeds == 1 else "high", format_count(seeds, "seed")))
    p99 = next((check for check in measured if check.requirement == "p99"), None)
    found += _model(best, p99, live) + _live(best, p99, live)
    if requests < THIN:
        found.append(Reason("traffic", "too thin", format_count(requests, "request")))
    if disagreement:
        found.append(Reason("live replays", "too thin", disagreement))
    if aside:
        found.append(Reason("live replays of slower rivals", "fair", aside))
    return tuple(found)


def _of(margin: float | None) -> Level:
    if margin is None or margin >= FAR:
        return "high"
    return "fair" if margin >= CLEAR else "low"


def _model(best: Assessment, p99: Check | None, live: LiveControl | None) -> list[Reason]:
    """Judge whose verdict the model's error is: nobody's, or another machine's, is no reason for high confidence."""
    error = best.model_error
    if error is None or error.is_local:
        return []
    borrowed = error.source == "shipped" and (live is None or bool(live.disturbed))
    caps = p99 is not None and (error.source == "unknown" or borrowed)
    return [Reason("model's error", "fair" if caps else "high", error.sentence)]


def _live(best: Assessment, p99: Check | None, live: LiveControl | None) -> list[Reason]:
    """Judge the high end of the p99, as much higher as the live replay is slower than its own simulation."""
    if live is None:
        return []
    if live.disturbed:
        text = f"the machine was disturbed: {live.disturbed}"
        return [Reason("live replay", "high" if p99 is None else "fair", text)]
    if p99 is None or p99.margin is None:
        return [Reason("live replay", "high", live.text)]
    text = live.text
    if live.slower > 1.0:
        text += f"; by as much more the p99 is up to {format_seconds(best.p99.high * live.slower)} ({p99.required})"
    return [Reason("live replay", _of(p99.margin / live.slower), text)]
