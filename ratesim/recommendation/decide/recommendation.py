"""The recommendation: which candidate a study speaks for, how surely, and why each other one was rejected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.capacity import Capacity
from ratesim.recommendation.assess.live_control import disagreement_note
from ratesim.recommendation.assess.pareto import best, front, rank
from ratesim.recommendation.assess.prices import GB, Prices
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
from ratesim.recommendation.configuration import StoreSize, files
from ratesim.recommendation.decide.profile_origin import ProfileOrigin, profile_origin
from ratesim.recommendation.decide.size import size_note
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

    Attributes
    ----------
    scenario, limit, deployment, traffic, requirements
        The question; `traffic` is the summary of the trace.
    choice
        Name of the chosen candidate; None where none meets all requirements.
    verdict
        One sentence.
    numbers
        Three figures of the choice, or of the nearest candidate.
    confidence
        How far the choice is from the thresholds.
    size
        Where one Redis ends that decides every request (one PostgreSQL, where that is the store), and how many servers the
        choice, or the nearest candidate, takes; "" where it has no store.
    caveat
        The one thing that must be known beside the verdict.
    limit_is_binding
        Whether the limit denies anybody.
    limit_pressure_note
        A sentence where the limit hardly denies anybody, or denies too often; else "".
    assessments
        The contenders, in the order of rank.
    front
        The contenders that no other one dominates.
    rejected
        All candidates but the choice.
    closest_misses, relaxations
        Where there is no choice: the candidates that come closest, and which single requirement, relaxed to what, would let
        one pass.
    baseline
        The rule-of-thumb baseline, and where the evidence differs from it.
    claims
        What the baseline claims of each backend, beside what was measured.
    fault_impacts
        Of every contender, in every fault.
    headroom
        How much more load the choice bears.
    flips
        Which assumptions would change the choice.
    capacities
        What each contender needs and costs.
    whole
        The choice, and the configuration in force, on all of the traffic, where the rest was on a part.
    parts
        What of the traffic was simulated.
    files
        Ready to use, by name.
    currency
        Of all prices.
    profile
        Where the measured costs come from.
    schema_version
        Raised when a field changes its meaning or goes.
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
    size: str
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
    profile: ProfileOrigin
    schema_version: int = SCHEMA_VERSION

    @property
    def storage_toml(self) -> str:
        """The chosen configuration; comments only where there is none."""
        return self.files.get("storage.toml", f"# {self.verdict}\n")

    def to_json(self) -> bytes:
        """Indented JSON; a number that is not finite becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recommend_by_evidence(study: Study) -> Recommendation:
    """Return what the runs of a study speak for.

    Live replays do not move the choice. Where their own simulations miss them, the verdict says so.
    """
    scenario, findings, currency = study.scenario, study.findings, study.prices.currency
    ranked = sorted(findings.results.assessments, key=rank)
    chosen = best(ranked)
    passing = [each for each in ranked if each.passes]
    ranked.sort(
        key=lambda each: (each is not chosen, not each.passes, each.violation if not each.passes else 0.0, rank(each))
    )
    shown = chosen or closest_misses(ranked)[0]
    shown_needs = findings.results.capacities[shown.candidate]
    pressure_note = limit_pressure_note(scenario.limit.rate, study.limit_pressure)
    shown_on_all = next((each for each in findings.whole.assessments if each.candidate == shown.candidate), None)
    disagreement = disagreement_note(study.live_rows, study.profile)
    verdict = " ".join(filter(None, (use(chosen, passing, currency) if chosen else no_choice(ranked), disagreement)))
    requests = int(findings.results.rows["requests"].iloc[0])
    sure = Confidence("low", "No candidate was chosen.", disagreement)
    if chosen:
        others = [each for each in passing if each is not chosen]
        sure = confidence(chosen, others, currency, requests, disagreement)
    elif requests < THIN or not all(each.fails for each in ranked):
        sure = Confidence("too thin", "No candidate passes for sure, and not all of them fail for sure.", disagreement)
    return Recommendation(
        scenario=scenario.name,
        limit=_limit(scenario),
        deployment=scenario.deployment.model_dump(mode="json"),
        traffic=dict(study.summary),
        requirements=scenario.requirements.model_dump(mode="json"),
        choice=chosen.candidate if chosen else None,
        verdict=verdict,
        numbers=numbers(shown, currency, _price_source(study)),
        confidence=sure,
        size=size_note(shown_needs, _alone(study, shown_needs.store)),
        caveat=caveat(
            shown,
            shown_on_all,
            findings.headroom,
            findings.fault_impacts,
            "" if study.limit_pressure.is_binding else pressure_note,
            study.profile.source,
            live=any(not row["disturbed"] for row in study.live_rows),
        ),
        limit_is_binding=study.limit_pressure.is_binding,
        limit_pressure_note=pressure_note,
        assessments=tuple(ranked),
        front=tuple(each.candidate for each in front(passing or ranked)),
        rejected=_rejected(study, ranked, chosen),
        closest_misses=()
        if chosen
        else tuple(Rejection(each.candidate, violations_text(each)) for each in closest_misses(ranked)),
        relaxations=() if chosen else relaxations(ranked),
        baseline=_compare(baseline_choice(scenario.requirements, scenario.deployment), ranked, chosen, currency),
        claims=claims(findings.results.rows, study.live, study.profile),
        fault_impacts=findings.fault_impacts,
        headroom=findings.headroom,
        flips=findings.flips,
        capacities=findings.results.capacities,
        whole=findings.whole.assessments,
        parts=findings.parts,
        files=_files(study, chosen, verdict) if chosen else {},
        currency=currency,
        profile=profile_origin(study.profile, study.environment),
    )


def _alone(study: Study, store: str) -> Capacity | None:
    """Return what one server needs that decides every request: of the full runs, or else of the screening.

    It is a PostgreSQL where the store of the choice is one, and else a Redis.
    """
    findings, backend = study.findings, "postgres" if store == "postgres" else "redis"
    for runs in (findings.results, findings.screened):
        for each in runs.assessments:
            url = StorageURL.parse(each.storage)
            needs = runs.capacities[each.candidate]
            if url.backend == backend and url.hybrid is None and needs.primaries == 1:
                return needs
    return None


def _price_source(study: Study) -> str:
    if study.prices == Prices.load():
        return f"example prices of {study.prices.date}; yours differ"
    return f"your prices of {study.prices.date}"


def _rejected(study: Study, ranked: Sequence[Assessment], chosen: Assessment | None) -> tuple[Rejection, ...]:
    """List the contenders, then the candidates that were only screened, with their figures on the small part."""
    currency = study.prices.currency
    rejected = [Rejection(each.candidate, rejection_reason(each, chosen, currency)) for each in ranked if each is not chosen]
    screened = {each.candidate: each for each in study.findings.screened.assessments}
    chosen_then = screened.get(chosen.candidate) if chosen else None
    contenders = {each.candidate for each in ranked}
    for name, each in screened.items():
        if name in contenders:
            continue
        reason = "passes, but others come first"
        if each.missed or chosen_then is not None:
            reason = rejection_reason(each, None if each.missed else chosen_then, currency)
        rejected.append(Rejection(name, f"on the small part: {reason}"))
    return tuple(rejected)


def _limit(scenario: Scenario) -> str:
    limit = scenario.limit
    burst = "" if limit.burst is None else f", burst {limit.burst:g}"
    options = "".join(f", {name} {value:g}" for name, value in limit.options.items())
    return f"{limit.rate}, {limit.algorithm}{burst}{options}"


def _files(study: Study, chosen: Assessment, verdict: str) -> dict[str, str]:
    sizes = study.profile.backends[StorageURL.parse(chosen.storage).backend].bytes_per_key
    per_key = sizes.get(chosen.algorithm, math.nan)
    needs = study.findings.results.capacities[chosen.candidate]
    primaries = max(needs.servers, 1) if needs.store == "redis" else 1
    memory = math.inf
    if needs.store == "postgres":  # one machine, as large as all that are priced
        memory = needs.servers * study.prices.postgres.memory_gb * GB
    size = StoreSize(primaries, needs.replicas, needs.operations, needs.standby, memory)
    scenario = study.scenario.with_algorithm(chosen.algorithm)
    return files(scenario, chosen.storage, chosen.routing, per_key, verdict, size)


def _compare(
    baseline: BaselineChoice, ranked: Sequence[Assessment], chosen: Assessment | None, currency: str
) -> BaselineChoice:
    rule = f"The rule-of-thumb baseline chooses {baseline.backend} ({baseline.rule})"
    if chosen is not None and chosen.backend == baseline.backend:
        return replace(baseline, sentence=f"{rule}, and so does the evidence.")
    same_backend = [each for each in ranked if each.backend == baseline.backend]
    if not same_backend:
        return replace(baseline, sentence=f"{rule}, which was not among the candidates.")
    first = min(same_backend, key=lambda each: (each.violation, rank(each)))
    why = rejection_reason(first, chosen, currency) if first.missed or chosen else "passes"
    return replace(baseline, sentence=f"{rule}, but {first.candidate}, its best, {why}.")
