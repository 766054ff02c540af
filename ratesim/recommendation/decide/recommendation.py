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
from ratesim.recommendation.assess.rejections import Loser, Relaxation, misses, nearest, relaxations, why_not
from ratesim.recommendation.baseline.claims import Claimed, claims
from ratesim.recommendation.baseline.rule_table import Sketch, sketch
from ratesim.recommendation.configuration import files
from ratesim.recommendation.decide.verdict import (
    THIN,
    Confidence,
    Number,
    binding_said,
    caveat,
    confidence,
    no_choice,
    numbers,
    use,
)
from ratesim.recommendation.investigate.fault_impact import Harm
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.plan import assessed
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["Recommendation", "recommend_by_evidence"]

VERSION = 1  # of the JSON: another one is raised when a field changes its meaning or goes


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
    binds: bool
    binding: str
    assessments: tuple[Assessment, ...]
    front: tuple[str, ...]
    losers: tuple[Loser, ...]
    nearest: tuple[Loser, ...]
    relaxations: tuple[Relaxation, ...]
    sketch: Sketch
    claims: tuple[Claimed, ...]
    harms: tuple[Harm, ...]
    headroom: tuple[Headroom, ...]
    flips: tuple[Flip, ...]
    capacities: dict[str, Capacity]
    whole: tuple[Assessment, ...]
    parts: dict[str, str]
    files: dict[str, str]
    currency: str
    version: int = VERSION

    @property
    def storage_toml(self) -> str:
        """The chosen configuration; comments only where there is none."""
        return self.files.get("storage.toml", f"# {self.verdict}\n")

    def to_json(self) -> bytes:
        """Indented JSON; a number that is not finite becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recommend_by_evidence(study: Study) -> Recommendation:
    """What the runs of a study speak for. Live replays do not move the choice."""
    scenario, evidence, currency = study.scenario, study.evidence, study.prices.currency
    ranked = sorted(assessed(evidence.results, study, evidence.harms), key=rank)
    chosen = best(ranked)
    passing = [each for each in ranked if each.passes]
    ranked.sort(
        key=lambda each: (each is not chosen, not each.passes, each.violation if not each.passes else 0.0, rank(each))
    )
    shown = chosen or nearest(ranked)[0]
    whole = assessed(evidence.whole, study) if len(evidence.whole) else ()
    binding = binding_said(scenario.limit.rate, study.binding)
    tried = next((each for each in whole if each.candidate == shown.candidate), None)
    loose = "" if study.binding["binds"] else binding
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
        caveat=caveat(shown, tried, evidence.headroom, evidence.harms, loose, study.profile.source),
        binds=bool(study.binding["binds"]),
        binding=binding,
        assessments=tuple(ranked),
        front=tuple(each.candidate for each in front(passing or ranked)),
        losers=_losers(study, ranked, chosen),
        nearest=() if chosen else tuple(Loser(each.candidate, misses(each)) for each in nearest(ranked)),
        relaxations=() if chosen else relaxations(ranked),
        sketch=_compare(sketch(scenario.requirements, scenario.deployment), ranked, chosen, currency),
        claims=claims(evidence.results, study.live, study.profile),
        harms=evidence.harms,
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


def _losers(study: Study, ranked: Sequence[Assessment], chosen: Assessment | None) -> tuple[Loser, ...]:
    """The contenders first, then those that did not get so far, by what they were on the small part."""
    currency = study.prices.currency
    found = [Loser(each.candidate, why_not(each, chosen, currency)) for each in ranked if each is not chosen]
    small = {each.candidate: each for each in assessed(study.evidence.screened, study)}
    then = small.get(chosen.candidate) if chosen else None
    tried = {each.candidate for each in ranked}
    for name, each in small.items():
        if name in tried:
            continue
        if each.missed:
            found.append(Loser(name, f"on the small part: {why_not(each, None, currency)}"))
        elif then is not None:
            found.append(Loser(name, f"on the small part: {why_not(each, then, currency)}"))
        else:
            found.append(Loser(name, "on the small part: passes, but others come first"))
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


def _compare(rule: Sketch, ranked: Sequence[Assessment], chosen: Assessment | None, currency: str) -> Sketch:
    said = f"The rule table of the design sketch says {rule.backend} ({rule.rule})"
    if chosen is not None and chosen.backend == rule.backend:
        return replace(rule, sentence=f"{said}, and so does the evidence.")
    tried = [each for each in ranked if each.backend == rule.backend]
    if not tried:
        return replace(rule, sentence=f"{said}, which was not among the candidates.")
    first = min(tried, key=lambda each: (each.violation, rank(each)))
    why = why_not(first, chosen, currency) if first.missed or chosen else "passes"
    return replace(rule, sentence=f"{said}, but {first.candidate}, its best, {why}.")
