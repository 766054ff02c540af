"""The recommendation: which candidate a study speaks for, how surely, and why each other one was rejected."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ratesim.formatting import format_excess, format_money, format_percent, format_seconds
from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.capacity import Capacity
from ratesim.recommendation.assess.contender_frame import contender_frame
from ratesim.recommendation.assess.live_control import decisive, disagreement_note, live_control
from ratesim.recommendation.assess.pareto import best, front, moving_parts, rank
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
from ratesim.recommendation.current import CURRENT
from ratesim.recommendation.decide.alternatives import OtherPreference, other_preferences
from ratesim.recommendation.decide.changes import changes, changes_note, changing
from ratesim.recommendation.decide.profile_origin import ProfileOrigin, profile_origin
from ratesim.recommendation.decide.size import size_note
from ratesim.recommendation.decide.verdict import (
    Confidence,
    Number,
    algorithm_note,
    caveat,
    confidence,
    limit_pressure_note,
    no_choice,
    no_confidence,
    numbers,
    use,
)
from ratesim.recommendation.investigate.fault_impact import FaultImpact
from ratesim.recommendation.investigate.headroom import Headroom
from ratesim.recommendation.investigate.log_reading import LogReading
from ratesim.recommendation.investigate.sensitivity import Flip
from ratesim.storage import StorageURL
from ratesim.views.html import card_html
from ratesim.views.plots import plot_trade_off

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.scenario import Requirements, Scenario

__all__ = ["Recommendation", "recommend_by_evidence"]

Saying = TypeVar("Saying", Relaxation, Flip)
SCHEMA_VERSION = 3  # of the JSON: another one is raised when a field changes its meaning or goes


@dataclass(frozen=True)
class Recommendation:
    """The outcome of a study. Everything in it can be written as JSON (`to_json`; docs/recommendation.schema.json).

    Attributes
    ----------
    scenario, limit, deployment, traffic, requirements
        The question; `traffic` is the summary of the trace, `requirements` are as they were asked.
    choice
        Name of the chosen candidate; None where none meets all requirements.
    verdict
        One sentence.
    numbers
        Four figures of the choice, or of the nearest candidate.
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
    exact_worst_excess
        The busiest window of an exact limiter by the scenario's algorithm, see `LimitPressure`.
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
    assumed
        What was assumed because nothing was said of it, one sentence each: first of the log, then of the question.
    log
        What was read of the log, and what is lost; null for traffic that was not read.
    changes
        What the choice changes beside the storage, such as "the routing from round_robin to sticky".
    alternatives
        What each other preference (`requirements.prefer`) would choose; none where there is no choice.
    moving_parts
        What can break in each contender, and has to be understood at night.
    date
        The day of the study, ISO 8601.
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
    exact_worst_excess: float
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
    assumed: tuple[str, ...]
    changes: tuple[str, ...]
    alternatives: tuple[OtherPreference, ...]
    moving_parts: dict[str, tuple[str, ...]]
    date: str = ""
    log: LogReading | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def lost_note(self) -> str:
        """A sentence where so many lines of the log are lost that it has to be said first; else ""."""
        return self.log.lost_note if self.log else ""

    @property
    def storage_toml(self) -> str:
        """The chosen configuration; comments only where there is none."""
        return self.files.get("storage.toml", f"# {self.verdict}\n")

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each contender, in the order of rank.

        Returns
        -------
        pandas.DataFrame
            candidate, verdict (chosen, passes, too close or fails), backend, routing, storage, algorithm, persistence;
            failed_share, blast_radius (shares); servers; latency_p50, latency_p99 (seconds), over_admission, worst_excess,
            false_denial (shares), each the mean over the seeds with the ends of its 95 % interval (_low, _high);
            cost_per_month in currency; missed, the requirements that it is not shown to meet.
        """
        return contender_frame(self.assessments, self.choice, self.currency)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the trade-off: the 99th percentile of the latency against over-admission, with what is required."""
        p99, over = (self.requirements.get(name) for name in ("p99", "max_over_admission"))
        return plot_trade_off(
            self.to_frame(),
            ax,
            p99=p99 if isinstance(p99, float) else None,
            over=over if isinstance(over, float) else None,
        )

    plot_trade_off = plot

    def __repr__(self) -> str:
        return f"Recommendation({self.scenario}: {self.verdict})"

    def _repr_html_(self) -> str:
        head = ("candidate", "verdict", "p99", "over-admission", "busiest window", "a month")
        frame = self.to_frame()
        rows = [
            (
                each.candidate,
                verdict,
                each.p99.figure(format_seconds),
                format_percent(each.over_admission.mean),
                format_excess(each.worst_excess.mean),
                format_money(each.cost, self.currency),
            )
            for each, verdict in zip(self.assessments, frame["verdict"], strict=True)
        ]
        return card_html(self.verdict, head=head, rows=rows, note=self.confidence.sentence)

    def to_json(self) -> bytes:
        """Indented JSON; a number that is not finite becomes null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def recommend_by_evidence(study: Study) -> Recommendation:
    """Return what the runs of a study speak for.

    Live replays do not move the choice. Where their own simulations miss them, the verdict says so.
    """
    scenario, findings, currency = study.scenario, study.findings, study.prices.currency
    prefer = scenario.requirements.prefer
    ranked = sorted(findings.results.assessments, key=partial(rank, prefer=prefer))
    chosen = best(ranked, prefer)
    passing = [each for each in ranked if each.passes]
    # The order of rank stays among equals.
    ranked.sort(key=lambda each: (each is not chosen, not each.passes, each.violation if not each.passes else 0.0))
    nearest = closest_misses(ranked, prefer)
    shown = chosen or nearest[0]
    shown_needs = findings.results.capacities[shown.candidate]
    pressure_note = limit_pressure_note(scenario.limit.rate, study.limit_pressure)
    shown_on_all = next((each for each in findings.whole.assessments if each.candidate == shown.candidate), None)
    could, could_not = decisive(study.live_rows, (chosen.candidate, CURRENT) if chosen else ())
    disagreement, aside = (disagreement_note(rows, study.profile) for rows in (could, could_not))
    # What an exact limiter lets through is known of the scenario's own algorithm only.
    is_own = shown.algorithm == scenario.limit.algorithm
    exact_worst = study.limit_pressure.exact_worst_excess if is_own else math.nan
    if chosen:
        said = [use(chosen, passing, currency, exact_worst, changes(chosen, scenario), prefer)]
    else:
        most = study.limit_pressure.exact_worst_excess
        itself = algorithm_note(scenario.requirements.max_worst_excess, scenario.limit.algorithm, most)
        said = [no_choice(ranked), changes_note(shown, scenario), itself]
    live = live_control(shown.candidate, study.live_rows)
    control = live.sentence if live and shown.candidate not in disagreement else ""
    verdict = " ".join(filter(None, (*said, control, disagreement)))
    of_shown = findings.results.rows["candidate"] == shown.candidate
    requests = int(findings.results.rows.loc[of_shown, "requests"].iloc[0])
    sure = no_confidence(ranked, requests, disagreement)
    if chosen:
        others = [each for each in passing if each is not chosen]
        sure = confidence(chosen, others, currency, requests, disagreement, live, aside)
    return Recommendation(
        scenario=scenario.name,
        limit=_limit(scenario),
        deployment=scenario.deployment.model_dump(mode="json"),
        traffic=dict(study.summary),
        requirements=_requirements(study.asked.requirements),
        choice=chosen.candidate if chosen else None,
        verdict=verdict,
        numbers=numbers(shown, currency, _price_source(study), exact_worst),
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
            to_one_node=_to_one_node(study),
        ),
        limit_is_binding=study.limit_pressure.is_binding,
        limit_pressure_note=pressure_note,
        exact_worst_excess=study.limit_pressure.exact_worst_excess,
        assessments=tuple(ranked),
        front=tuple(each.candidate for each in front(passing or ranked)),
        rejected=_rejected(study, ranked, chosen),
        closest_misses=()
        if chosen
        else tuple(Rejection(each.candidate, changing(each, scenario, violations_text(each))) for each in nearest),
        relaxations=() if chosen else _noted(relaxations(ranked, prefer), lambda each: each.candidate, ranked, scenario),
        baseline=_compare(baseline_choice(scenario.requirements, scenario.deployment), ranked, chosen, study),
        claims=claims(findings.results.rows, study.live, study.profile),
        fault_impacts=findings.fault_impacts,
        headroom=findings.headroom,
        flips=_noted(findings.flips, lambda each: each.to, ranked, scenario),
        capacities=findings.results.capacities,
        whole=findings.whole.assessments,
        parts=findings.parts,
        files=_files(study, chosen, verdict) if chosen else {},
        currency=currency,
        profile=profile_origin(study.profile, study.environment),
        assumed=study.assumed,
        date=study.environment.get("date", ""),
        log=study.log,
        changes=changes(chosen, scenario) if chosen else (),
        alternatives=other_preferences(ranked, prefer, currency, partial(changes, scenario=scenario)),
        moving_parts={each.candidate: moving_parts(each) for each in ranked},
    )


def _to_one_node(study: Study) -> float:
    """Return the share of the busiest key, where that is more than twice the part of a node and one session."""
    share = float(study.summary.get("top_key_share", 0.0))
    is_more = study.scenario.workload.sessions is None and share > 2.0 / study.scenario.deployment.nodes
    return share if is_more else 0.0


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


def _noted(
    sayings: Sequence[Saying], names: Callable[[Saying], str | None], ranked: Sequence[Assessment], scenario: Scenario
) -> tuple[Saying, ...]:
    """Add to each sentence what the candidate that it names would change beside the storage."""
    by_name = {each.candidate: each for each in ranked}
    notes = [(each, changes_note(by_name.get(names(each) or ""), scenario)) for each in sayings]
    return tuple(replace(each, sentence=f"{each.sentence} {note}") if note else each for each, note in notes)


def _price_source(study: Study) -> str:
    if study.prices == Prices.load():
        return f"example prices of {study.prices.date}; yours differ"
    return f"your prices of {study.prices.date}"


def _rejected(study: Study, ranked: Sequence[Assessment], chosen: Assessment | None) -> tuple[Rejection, ...]:
    """List the contenders, then the candidates that were only screened, with their figures of that one run."""
    currency, prefer = study.prices.currency, study.scenario.requirements.prefer
    rejected = [
        Rejection(each.candidate, changing(each, study.scenario, rejection_reason(each, chosen, currency, prefer)))
        for each in ranked
        if each is not chosen
    ]
    screened = {each.candidate: each for each in study.findings.screened.assessments}
    chosen_then = screened.get(chosen.candidate) if chosen else None
    contenders = {each.candidate for each in ranked}
    requests = study.findings.screened.rows.set_index("candidate")["requests"]
    whole = requests.max() if study.findings.parts["screening"].startswith("all ") else math.inf
    for name, each in screened.items():
        if name in contenders:
            continue
        reason = "passes, but others come first"
        if each.missed or chosen_then is not None:
            reason = rejection_reason(each, None if each.missed else chosen_then, currency, prefer)
        on = "in one run:" if requests[name] >= whole else "on the small part:"
        rejected.append(Rejection(name, f"{on} {changing(each, study.scenario, reason)}"))
    return tuple(rejected)


def _requirements(asked: Requirements) -> dict[str, float | int | str | list[str] | None]:
    """Return the requirements as they were asked; `assumed` has those that were not."""
    written: dict[str, float | int | str | list[str] | None] = asked.model_dump(mode="json")
    return written | ({"max_over_admission": "any"} if asked.says_any_over_admission else {})


def _limit(scenario: Scenario) -> str:
    limit = scenario.limit
    burst = "" if limit.burst is None else f", burst {limit.burst:g}"
    options = "".join(f", {name} {value:g}" for name, value in limit.options.items())
    return f"{limit.rate}{scenario.workload.counted}, {limit.algorithm}{burst}{options}"


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
    baseline: BaselineChoice, ranked: Sequence[Assessment], chosen: Assessment | None, study: Study
) -> BaselineChoice:
    rule = f"The rule-of-thumb baseline chooses {baseline.backend} ({baseline.rule})"
    if chosen is not None and chosen.backend == baseline.backend:
        return replace(baseline, sentence=f"{rule}, and so does the evidence.")
    same_backend = [each for each in ranked if each.backend == baseline.backend]
    if not same_backend:
        return replace(baseline, sentence=f"{rule}, which was not among the candidates.")
    prefer = study.scenario.requirements.prefer
    first = min(same_backend, key=lambda each: (each.violation, rank(each, prefer)))
    why = rejection_reason(first, chosen, study.prices.currency, prefer) if first.missed or chosen else "passes"
    why = changing(first, study.scenario, why)
    return replace(baseline, sentence=f"{rule}, but {first.candidate}, its best, {why}.")
