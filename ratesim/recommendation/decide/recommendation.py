"""The recommendation: which candidate a study speaks for, why, how surely, what it rests on, and why each other one lost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.capacity import Capacity, capacities
from ratesim.recommendation.assess.pareto import best, front, rank
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.assess.rejections import (
    Rejection,
    Relaxation,
    closest_misses,
    rejection_reason,
    relaxations,
    violations_text,
)
from ratesim.recommendation.baseline.claims import CheckedClaim, claims
from ratesim.recommendation.baseline.rule_table import BaselineChoice, baseline_choice
from ratesim.recommendation.configuration import files
from ratesim.recommendation.decide.verdict import (
    THIN,
    Confidence,
    Number,
    caveat,
    confidence,
    limit_pressure_note,
    no_choice,
    numbers,
    use,
)
from ratesim.recommendation.investigate.fault_impact import FaultImpact
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.plan import assess_candidates
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["Recommendation", "recommend_by_evidence"]

SCHEMA_VERSION = 2  # of the JSON: another one is raised when a field changes its meaning or goes


@dataclass(frozen=True)
class Recommendation:
    """The outcome of a study. Everything in it can be written as JSON (`to_json`; docs/recommendation.schema.json).

    scenario, limit, deployment, traffic (its summary), requirements: what was asked. choice: name of the candidate, None
    where none meets all requirements.
    verdict: one sentence. numbers: three, of the choice or of the nearest. confidence, caveat: how far the choice is from
    the thresholds; what must be known beside it. binds: whether the limit denies anybody. binding: a sentence where it
    hardly does, or does too often, else "".

    assessments: the contenders, in the order of rank. front: those that no other one dominates. losers: all candidates but
    the choice. nearest, relaxations: where there is no choice, those that come closest, and which single requirement,
    relaxed to what, would let one pass.

    sketch: what the rule table says, and where the evidence differs. claims: the sketch's, beside what was measured. harms:
    of every contender, in faults. headroom: how much more load the choice bears. flips: which assumptions would change it.
    capacities: what each contender needs and costs. whole: the choice, and what is in force, on all of the traffic, where
    the rest was on a part.
    parts: what of the traffic was simulated. files: ready to use, by name.
    """

    scenario: str
    limit: str
    deployment: dict[str, float | int | str | None]
    traffic: dict[str, float]
    requirements: dict[str, float | int | str | list[str] | None]
    choice: str | None
    verdict: str
    numbers: tuple[Number, ...]
    confidence: Confidence
    caveat: str
    limit_is_binding: bool
    limit_pressure_note: str
    assessments: tuple[Assessment, ...]
    front: tuple[str, ...]
    rejected: tuple[Rejection, ...]
    closest_misses: tuple[Rejection, ...]
    relaxations: tuple[Relaxation, ...]
    baseline: BaselineChoice
    claims: tuple[CheckedClaim, ...]
    fault_impacts: tuple[FaultImpact, ...]
    headroom: tuple[Headroom, ...]
    flips: tuple[Flip, ...]
    capacities: dict[str, Capacity]
    whole: tuple[Assessment, ...]
    parts: dict[str, str]
    files: dict[str, str]
    currency: str
    schema_version: int = SCHEMA_VERSION

    @property
    def storage_toml(self) -> str:
        """The chosen configuration; comments only where there is none."""
        return self.files.get("storage.toml", f"# {self.verdict}\n")

    def to_json(self) -> bytes:
        """Indented JSON; a number that is not finite becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recommend_by_evidence(study: Study) -> Recommendation:
    """What the runs of a study speak for. Live replays do not move the choice."""
    scenario, evidence, currency = study.scenario, study.findings, study.prices.currency
    ranked = sorted(assess_candidates(evidence.results, study, evidence.fault_impacts), key=rank)
    chosen = best(ranked)
    passing = [each for each in ranked if each.passes]
    ranked.sort(
        key=lambda each: (each is not chosen, not each.passes, each.violation if not each.passes else 0.0, rank(each))
    )
    shown = chosen or closest_misses(ranked)[0]
    whole = assess_candidates(evidence.whole, study) if len(evidence.whole) else ()
    binding = limit_pressure_note(scenario.limit.rate, study.limit_pressure)
    tried = next((each for each in whole if each.candidate == shown.candidate), None)
    loose = "" if study.limit_pressure.is_binding else binding
    verdict = use(chosen, passing, currency) if chosen else no_choice(ranked)
    requests = int(evidence.results["requests"].iloc[0])
    sure = Confidence("low", "No candidate was chosen.")
    if chosen:
        sure = confidence(chosen, [each for each in passing if each is not chosen], currency, requests)
    elif requests < THIN or not all(each.fails for each in ranked):
        sure = Confidence("too thin", "No candidate passes for sure, and not all of them fail for sure.")
    return Recommendation(
        scenario=scenario.name,
        limit=_limit(scenario),
        deployment=scenario.deployment.model_dump(mode="json"),
        traffic=dict(study.summary),
        requirements=scenario.requirements.model_dump(mode="json"),
        choice=chosen.candidate if chosen else None,
        verdict=verdict,
        numbers=numbers(shown, currency, _whose(study)),
        confidence=sure,
        caveat=caveat(shown, tried, evidence.headroom, evidence.fault_impacts, loose, study.profile.source),
        limit_is_binding=study.limit_pressure.is_binding,
        limit_pressure_note=binding,
        assessments=tuple(ranked),
        front=tuple(each.candidate for each in front(passing or ranked)),
        rejected=_rejected(study, ranked, chosen),
        closest_misses=()
        if chosen
        else tuple(Rejection(each.candidate, violations_text(each)) for each in closest_misses(ranked)),
        relaxations=() if chosen else relaxations(ranked),
        baseline=_compare(baseline_choice(scenario.requirements, scenario.deployment), ranked, chosen, currency),
        claims=claims(evidence.results, study.live, study.profile),
        fault_impacts=evidence.fault_impacts,
        headroom=evidence.headroom,
        flips=evidence.flips,
        capacities=capacities(evidence.results, scenario, study.summary, study.prices, study.profile),
        whole=whole,
        parts=evidence.parts,
        files=_files(study, chosen, verdict) if chosen else {},
        currency=currency,
    )


def _whose(study: Study) -> str:
    if study.prices == Prices.load():
        return f"example prices of {study.prices.date}; yours differ"
    return f"your prices of {study.prices.date}"


def _rejected(study: Study, ranked: Sequence[Assessment], chosen: Assessment | None) -> tuple[Rejection, ...]:
    """The contenders first, then those that did not get so far, by what they were on the small part."""
    currency = study.prices.currency
    found = [Rejection(each.candidate, rejection_reason(each, chosen, currency)) for each in ranked if each is not chosen]
    small = {each.candidate: each for each in assess_candidates(study.findings.screened, study)}
    then = small.get(chosen.candidate) if chosen else None
    tried = {each.candidate for each in ranked}
    for name, each in small.items():
        if name in tried:
            continue
        if each.missed:
            found.append(Rejection(name, f"on the small part: {rejection_reason(each, None, currency)}"))
        elif then is not None:
            found.append(Rejection(name, f"on the small part: {rejection_reason(each, then, currency)}"))
        else:
            found.append(Rejection(name, "on the small part: passes, but others come first"))
    return tuple(found)


def _limit(scenario: Scenario) -> str:
    limit = scenario.limit
    burst = "" if limit.burst is None else f", burst {limit.burst:g}"
    options = "".join(f", {name} {value:g}" for name, value in limit.options.items())
    return f"{limit.rate}, {limit.algorithm}{burst}{options}"


def _files(study: Study, chosen: Assessment, verdict: str) -> dict[str, str]:
    sizes = study.profile.backends[StorageURL.parse(chosen.storage).backend].bytes_per_key
    per_key = sizes.get(chosen.algorithm, math.nan)
    return files(study.scenario.limited(chosen.algorithm), chosen.storage, chosen.routing, per_key, verdict)


def _compare(rule: BaselineChoice, ranked: Sequence[Assessment], chosen: Assessment | None, currency: str) -> BaselineChoice:
    said = f"The rule-of-thumb baseline chooses {rule.backend} ({rule.rule})"
    if chosen is not None and chosen.backend == rule.backend:
        return replace(rule, sentence=f"{said}, and so does the evidence.")
    tried = [each for each in ranked if each.backend == rule.backend]
    if not tried:
        return replace(rule, sentence=f"{said}, which was not among the candidates.")
    first = min(tried, key=lambda each: (each.violation, rank(each)))
    why = rejection_reason(first, chosen, currency) if first.missed or chosen else "passes"
    return replace(rule, sentence=f"{said}, but {first.candidate}, its best, {why}.")
