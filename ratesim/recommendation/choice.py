"""The recommendation: which candidate a study speaks for, why, how surely, and why each other one lost.

A candidate is kept when it meets every requirement, and those that are kept are ranked by what they cost:

1. `l2_busy_per_request`, the server-seconds of the shared store that one request uses, to two significant digits (what is
   closer than that is noise). It is what the store's size, and so its price, grows with.
2. Moving parts: memory (nothing to run), redis (one server), postgres (one server with tables to create, vacuum and keep in
   size), hybrid (a server, and a cache with a flush loop in every node); sticky routing is one part more.
3. The 99th percentile of the latency.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from ratesim.recommendation.configuration.storage_toml import storage_toml
from ratesim.recommendation.configuration.wording import comment
from ratesim.recommendation.evidence import Assessment, Check, assess
from ratesim.recommendation.rules import Sketch, sketch
from ratesim.wording import seconds, share

if TYPE_CHECKING:
    from ratesim.recommendation.study import Study
    from ratesim.simulation.scenario import Scenario

__all__ = ["Loser", "Recommendation", "recommend"]

_PARTS = {"memory": 0, "redis": 2, "postgres": 4, "hybrid": 6}
NEAREST = 3  # candidates shown when none passes


@dataclass(frozen=True)
class Loser:
    """A candidate that was not chosen, and the reason."""

    candidate: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """The outcome of a study. Everything in it can be written as JSON (`to_json`).

    choice: name of the candidate, None where none meets all requirements. verdict: one sentence. confidence: how far the
    choice is from the thresholds. binding: a sentence where the limit hardly binds or binds too often, else "". losers: all
    the others. nearest: where there is no choice, those that come closest. assessments: the figures, in the order of rank.
    """

    choice: str | None
    verdict: str
    confidence: str
    binding: str
    losers: tuple[Loser, ...]
    nearest: tuple[Loser, ...]
    sketch: Sketch
    storage_toml: str
    assessments: tuple[Assessment, ...]

    def to_json(self) -> bytes:
        """Indented JSON; a number that is not finite becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recommend(study: Study | Scenario) -> Recommendation:
    """The candidate to choose. A Scenario is studied first, in simulation only: live replays do not move the choice."""
    from ratesim.simulation.scenario import Scenario

    if isinstance(study, Scenario):
        from ratesim.recommendation.study import study as run_study

        study = run_study(study, live=False)
    requirements = study.scenario.requirements
    nodes = study.scenario.deployment.nodes
    ranked = sorted(assess(study.results, requirements, nodes), key=_rank)
    kept = [each for each in ranked if each.passes]
    best = kept[0] if kept else None
    ranked.sort(key=lambda each: (not each.passes, _rank(each)))
    binding = _binding(study.scenario.limit.rate, study.binding)
    verdict = _choice(best, len(kept)) if best else _no_choice(ranked)
    if not study.binding["binds"]:
        hint = f"; {study.binding['suggestion']} would bind" if study.binding["suggestion"] else ""
        verdict = f"{verdict[:-1]} (the limit hardly ever binds, so the choice rests on latency and cost alone{hint})."
    return Recommendation(
        choice=best.candidate if best else None,
        verdict=verdict,
        confidence=_confidence(best, kept[1:]) if best else "",
        binding=binding,
        losers=tuple(Loser(each.candidate, _reason(each, best)) for each in ranked if each is not best),
        nearest=() if best else tuple(Loser(each.candidate, _misses(each)) for each in _nearest(ranked)),
        sketch=_compare(sketch(requirements, study.scenario.deployment), ranked, best),
        storage_toml=(
            storage_toml(study.scenario, best.storage, best.routing, verdict) if best is not None else comment(verdict)
        ),
        assessments=tuple(ranked),
    )


def _rank(each: Assessment) -> tuple[float, int, float, str]:
    parts = _PARTS[each.backend] + (each.routing in ("sticky", "key_hash"))
    return float(f"{each.l2_busy_per_request:.2g}"), parts, each.p99.mean, each.candidate


def _figures(each: Assessment) -> str:
    return ", ".join(check.measured + (f" ({check.required})" if check.required else "") for check in each.checks)


def _choice(best: Assessment, passing: int) -> str:
    among = "the only candidate that passes" if passing == 1 else f"the least of the {passing} candidates that pass"
    cost = (
        f"{seconds(best.l2_busy_per_request)} of the shared store per request"
        if best.l2_busy_per_request
        else "no shared store"
    )
    return f"Use {best.candidate}: {_figures(best)}, at {cost}, {among}."


def _no_choice(ranked: list[Assessment]) -> str:
    nearest = _nearest(ranked)[0]
    close = [each.candidate for each in ranked if not any(check.verdict == "fails" for check in each.checks)]
    if close:
        return (
            f"No candidate meets all requirements for sure: {' and '.join(close)} {'is' if len(close) == 1 else 'are'} "
            "too close to call, and more replications would tell."
        )
    return f"No candidate meets all requirements; the nearest is {nearest.candidate}, which {_misses(nearest)}."


def _nearest(ranked: list[Assessment]) -> list[Assessment]:
    """Those with the smallest violation, and for each requirement the best of those that miss nothing else."""
    by_violation = sorted(ranked, key=lambda each: (each.violation, _rank(each)))
    chosen = by_violation[:NEAREST]
    alone: set[str] = set()
    for each in by_violation:
        if len(each.missed) == 1 and each.missed[0].requirement not in alone:
            alone.add(each.missed[0].requirement)
            if each not in chosen:
                chosen.append(each)
    return chosen


def _misses(each: Assessment) -> str:
    only = "misses only" if len(each.missed) == 1 else "misses"
    return f"{only} " + " and ".join(f"{check.label}: {_against(check)}" for check in each.missed)


def _against(check: Check) -> str:
    close = ", too close to call" if check.verdict == "too close to call" else ""
    return f"{check.evidence} ({check.required}{close})"


def _reason(each: Assessment, best: Assessment | None) -> str:
    if each.missed:
        worst = max(each.missed, key=lambda check: check.violation)
        others = [check.label for check in each.missed if check is not worst]
        also = f"; also misses {' and '.join(others)}" if others else ""
        verb = "fails" if worst.verdict == "fails" else "is not shown to meet"
        return f"{verb} {worst.label}: {_against(worst)}{also}"
    assert best is not None
    mine, least = _rank(each), _rank(best)
    if mine[0] > least[0]:
        times = f"{mine[0] / least[0]:.2g} times " if least[0] else ""
        return (
            f"passes, but costs more: {seconds(each.l2_busy_per_request)} of the shared store per request, "
            f"{times or 'against '}{seconds(best.l2_busy_per_request) if least[0] else 'none'}"
        )
    if mine[1] > least[1]:
        return f"passes at the same cost, but has more moving parts than {best.candidate}"
    return f"passes at the same cost, but is slower: p99 {seconds(each.p99.mean)} against {seconds(best.p99.mean)}"


def _confidence(best: Assessment, others: list[Assessment]) -> str:
    measured = [check for check in best.checks if check.margin is not None]
    seeds = best.p99.seeds
    if not measured:
        said = "No threshold was given for latency or over-admission, so nothing can be close."
    else:
        tightest = min(check.margin for check in measured if check.margin is not None)
        word = "High" if tightest >= 2 else "Fair" if tightest >= 1.2 else "Low"
        told = "; ".join(f"{check.evidence}, {check.distance}" for check in measured)
        said = f"{word} confidence over {seeds} seed{'s' * (seeds > 1)}: {told}."
    if seeds == 1:
        said += " With one seed there are no intervals; set replications to 3 or more."
    if others and _rank(others[0])[0] > _rank(best)[0] > 0:
        times = others[0].l2_busy_per_request / best.l2_busy_per_request
        said += f" The next that passes, {others[0].candidate}, uses {times:.2g} times as much of the shared store."
    elif others:
        said += f" The next that passes is {others[0].candidate}."
    return said


def _binding(rate: str, binding: dict[str, object]) -> str:
    denied = binding["exact_denied_share"]
    assert isinstance(denied, float)
    suggestion = binding["suggestion"]
    would = f"{suggestion} would deny 5 to 30 %." if suggestion else "No limit per the same period would deny 5 to 30 %."
    if not binding["binds"]:
        share_denied = "nothing" if denied == 0 else f"only {share(denied)} of the requests"
        return (
            f"The limit {rate} hardly ever binds here: an exact limiter denies {share_denied}, so the choice rests on "
            f"latency and cost alone. {would}"
        )
    if suggestion:
        return f"An exact limiter denies {share(denied)} of the requests under {rate}. {would}"
    return ""


def _compare(rule: Sketch, ranked: list[Assessment], best: Assessment | None) -> Sketch:
    said = f"The rule table of the design sketch says {rule.backend} ({rule.rule})"
    if best is not None and best.backend == rule.backend:
        sentence = f"{said}, and so does the evidence."
    else:
        tried = [each for each in ranked if each.backend == rule.backend]
        if not tried:
            why = "which was not among the candidates"
        else:
            first = min(tried, key=lambda each: (each.violation, _rank(each)))
            why = f"but {first.candidate}, its best, {_reason(first, best)}"
        sentence = f"{said}, {why}."
    return Sketch(rule.backend, rule.rule, sentence)
