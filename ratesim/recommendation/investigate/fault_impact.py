"""The impact of faults on a candidate: those of the scenario, or a failover of the store, a node's crash and a partition.

Each fault is run by itself on a part of the traffic, beside the same part without it, and begins when that part is busiest.
The blast radius of a candidate is the largest affected share of its faults. Of a cluster one primary fails over, that of the
hottest key, for as long as a takeover lasts there: primaries fail one at a time. The node that crashes is the busiest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np

from ratesim.formatting import format_percent, format_seconds
from ratesim.recommendation.assess.model_error import latency_error
from ratesim.recommendation.investigate.sampling import AT_MOST, busiest_window, sample_keys
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.network.load_balancer import Routing, route
from ratesim.simulation.scenario.faults import Fault
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["NOT_STRUCK", "FaultImpact", "FaultTrial", "blast_radius", "fault_impact", "plan_fault_trials"]

LASTS = 30.0  # seconds, of each of the faults that are tried unless the scenario has its own
AROUND = 4.0  # times as long is what is simulated, at least
LONG = 12.0  # times the requests that are simulated, which a stretch may have before keys are left out of it
EARLIEST = 0.2  # of that, before a fault begins
DURING = 1_000  # requests during a fault: a share of them is known to about 3 points
KEEPING: tuple[Routing, ...] = ("sticky", "key_hash")  # whose node has all that is known of some keys
NOT_STRUCK = ", elsewhere"  # a fault of a primary that a candidate does not have


@dataclass(frozen=True)
class FaultImpact:
    """The impact of one fault on one candidate.

    Attributes
    ----------
    fault
        The fault in words; with ", elsewhere" where it is one of a primary that the candidate does not have.
    requests
        Requests that came while the fault held.
    failed_share
        Share of these requests that got an error.
    undecided_share
        Share of them without a decision: an error, or an answer of a hybrid by `on_store_failure`.
    p99
        99th percentile of the latency of those that were decided, in seconds; None where none was.
    answer_p99
        99th percentile of the time until any answer, also an error, of all of them.
    open_over_admission
        Over-admission while the fault held if the API lets requests without a decision through, as a share of what an exact
        limiter admits then; None where that is nothing.
    closed_false_denial
        False denials while the fault held if it refuses them, as the same share.
    over_admission, healthy
        Over-admission of the whole run with the fault, and of the same run without it, as shares.
    affected_share
        (Failed requests + misdecided cost above the fault-free baseline) / cost requested during the fault. Exceeds 1 if the
        damage outlasts the fault.
    p99_is_lower_bound
        Whether `p99` is a lower bound, since the model was not validated at the load of that run.
    """

    candidate: str
    fault: str
    requests: int
    failed_share: float
    p99: float | None
    over_admission: float
    healthy: float
    affected_share: float
    p99_is_lower_bound: bool = False
    undecided_share: float = 0.0
    answer_p99: float = 0.0
    open_over_admission: float | None = 0.0
    closed_false_denial: float = 0.0

    @property
    def is_thin(self) -> bool:
        """Whether its shares rest on fewer requests than a fault is meant to be tried with."""
        return 0 < self.requests < DURING


@dataclass(frozen=True)
class FaultTrial:
    """The conditions under which faults are tried.

    Attributes
    ----------
    scenario
        A part of the traffic, without faults.
    faults
        The faults, to be tried one by one.
    hottest
        The key with most requests of that part; "" where the faults are the scenario's own, which are tried as they are.
    busiest
        The node with most requests of that part, by each routing that keeps something on its node.
    """

    scenario: Scenario
    faults: tuple[Fault, ...]
    hottest: str = ""
    busiest: Mapping[Routing, int] = field(default_factory=dict)

    def of(self, fault: Fault, candidate: Candidate) -> Fault:
        """Return the fault as it is tried on a candidate."""
        servers = self.scenario.servers(candidate)
        if not self.hottest:
            return fault
        if fault.kind == "restart":
            routing = candidate.routing or self.scenario.deployment.routing
            return fault.model_copy(update={"nodes": (self.busiest.get(routing, 0),)})
        if fault.kind != "failover":
            return fault
        shard = None
        if servers.primaries > 1:
            prefix = StorageURL.parse(candidate.storage).config.key_prefix
            shard = shard_of(self.hottest, servers.primaries, prefix)
        if candidate.replicas == 0:  # so it says itself, and nothing can take over
            return Fault(kind="crash", start=fault.start, duration=fault.duration, shard=shard)
        behind = fault.model_copy(update={"lag": servers.lag})
        if shard is None:
            return behind
        return behind.model_copy(update={"shard": shard, "duration": min(fault.duration, servers.takeover)})

    def misses(self, fault: Fault, candidate: Candidate) -> bool:
        """Tell whether a fault of one primary strikes no server of a candidate, which has no such primary."""
        servers = self.scenario.servers(candidate)
        if StorageURL.parse(candidate.storage).backend == "memory":
            return False  # it has no store at all, which is the point of it
        return (fault.shard or 0) >= servers.primaries or (fault.kind == "reshard" and servers.primaries == 1)

    @staticmethod
    def named(fault: Fault) -> str:
        """Return a fault in words, with its place and duration."""
        store = "the store" if fault.shard is None else "one primary"
        what = {
            "failover": f"failover of {store}",
            "crash": f"crash of {store}",
            "restart": "crash of a node" if fault.nodes and len(fault.nodes) == 1 else "restart of nodes",
            "partition": "partition" if fault.shard is None else f"partition from {store}",
            "lossy": f"{format_percent(fault.loss)} of messages{'' if fault.shard is None else f' with {store}'} lost",
            "slow": f"{'store' if fault.shard is None else store} {fault.factor:g} times as slow",
            "reshard": f"{fault.slots:,} slots of {store} moved",
            "clock_skew": "clock skew",
        }[fault.kind]
        return f"{what}, {format_seconds(fault.duration)}"


def plan_fault_trials(scenario: Scenario, trace: Trace, requests: int, cut: Callable[[Scenario], Trace]) -> FaultTrial:
    """Choose a part of the traffic, and the faults to try in it.

    The scenario's own faults keep their times, so all of its time is kept, with fewer keys. Without any, three are tried.
    They begin when most requests come, after the first fifth and the warm-up, and last 30 s, or a quarter of the time.

    Parameters
    ----------
    scenario, trace
        The scenario and its whole traffic.
    requests
        How many requests the part has, about.
    cut
        Makes the trace of a scenario that was cut.
    """
    if scenario.faults:
        spans = [(each.start, each.duration) for each in scenario.faults]
        return FaultTrial(_thinned(scenario, trace, requests, spans, cut).model_copy(update={"faults": ()}), scenario.faults)
    part = busiest_window(scenario, trace, requests, AROUND * LASTS, LONG)
    stretch = cut(part)
    lasts = min(LASTS, max(stretch.duration / AROUND, 1e-3))
    begins = float(stretch.time[0]) + max(EARLIEST * stretch.duration, part.warmup)
    ends = float(stretch.time[-1]) - lasts
    middle = stretch.window(begins, max(ends, begins))
    start = float(middle.busiest(lasts).time[0] if len(middle) else begins) - float(stretch.time[0])
    faults = (
        Fault(kind="failover", start=start, duration=lasts),
        Fault(kind="restart", start=start, duration=lasts, nodes=(0,)),
        Fault(kind="partition", start=start, duration=lasts),
    )
    thin = _thinned(part, stretch, requests, [(start, lasts)], cut)
    thin_trace = cut(thin)
    if not len(thin_trace):
        return FaultTrial(thin, faults)
    hottest = thin_trace.keys[int(np.bincount(thin_trace.key).argmax())]
    places = {routing: route(thin_trace, routing, scenario.deployment.nodes) for routing in KEEPING}
    busiest = {routing: int(np.bincount(nodes).argmax()) for routing, nodes in places.items() if nodes is not None}
    return FaultTrial(thin, faults, hottest, busiest)


def _thinned(
    scenario: Scenario,
    trace: Trace,
    requests: int,
    spans: Sequence[tuple[float, float]],
    cut: Callable[[Scenario], Trace],
) -> Scenario:
    """Leave out keys until about so many requests are left, or more as long as a fault has fewer than `DURING`.

    Parameters
    ----------
    scenario, trace
        The part of the traffic, and its requests.
    requests
        How many are left, about. There are up to `AT_MOST` times as many for the sake of `spans`.
    spans
        Beginning and duration of each fault, in seconds after the first request.
    cut
        Makes the trace of a scenario that was cut.
    """
    wanted, target = [min(_within(trace, span), DURING) for span in spans], requests
    while True:
        thin = sample_keys(scenario, trace, target)
        left = cut(thin)
        reached = min((_within(left, span) / want for span, want in zip(spans, wanted, strict=True) if want), default=1.0)
        if reached >= 1.0 or target >= min(len(trace), AT_MOST * requests):
            return thin
        target = math.ceil(target * min(1.2 / max(reached, 1e-9), AT_MOST))


def _within(trace: Trace, span: tuple[float, float]) -> int:
    """Count the requests within a span after the first one."""
    if not len(trace):
        return 0
    first, last = np.searchsorted(trace.time, float(trace.time[0]) + np.array([span[0], span[0] + span[1]]))
    return int(last - first)


def fault_impact(
    candidates: Sequence[Candidate], trial: FaultTrial, profile: Profile, detail: bool = False, show_keys: bool = False
) -> AdaptiveRuns[tuple[FaultImpact, ...]]:
    """Run each candidate with each fault, and without any. detail, show_keys: of the runs without, as of `jobs_of`."""
    shown: dict[str, Any] = {"detail": detail, "show_keys": show_keys}
    jobs: list[Job] = jobs_of(trial.scenario, candidates, [trial.scenario.seed], None, profile, **shown)
    for fault in trial.faults:
        for candidate in candidates:
            scenario = trial.scenario.model_copy(update={"faults": (trial.of(fault, candidate),)})
            jobs += jobs_of(scenario, [candidate], [scenario.seed], None, profile)
    tried = jobs[len(candidates) :]
    others = {(number, policy): job for number, each in enumerate(tried) for policy, job in _other_policies(each).items()}
    rows = yield [*others.values(), *jobs]  # at once, and first what takes longest, so that no core waits
    ran = dict(zip(others, rows[: len(others)], strict=True))
    rows = rows[len(others) :]
    healthy, faulty = rows[: len(candidates)], rows[len(candidates) :]
    impacts = []
    for number, (job, ill) in enumerate(zip(tried, faulty, strict=True)):
        (fault,), candidate = job.scenario.faults, job.candidate
        name = trial.named(fault) + (NOT_STRUCK if trial.misses(fault, candidate) else "")
        opened, closed = (ran.get((number, policy), ill) for policy in ("fail_open", "fail_closed"))
        impacts.append(_impact(candidate.name, name, healthy[number % len(candidates)], ill, opened, closed, profile))
    return tuple(impacts)


def _other_policies(job: Job) -> dict[str, Job]:
    """Return the jobs of a hybrid under the failure policies whose figures its own run does not show.

    A run that lets requests through shows which they are. One that refuses them, or decides them by a share of the limit,
    does not show which of them a view would admit. Where the store is away, requests that are let through change no other
    decision; where it only answers late or seldom, they come back in the views.
    """
    url = StorageURL.parse(job.candidate.storage)
    if url.hybrid is None:
        return {}
    away = all(each.kind in ("failover", "crash", "partition", "restart") for each in job.scenario.faults)
    wanted = ["fail_open"] if away or url.hybrid.consistency in ("strong", "lease") else ["fail_open", "fail_closed"]
    return {policy: _under(job, policy) for policy in wanted if policy != url.hybrid.on_store_failure}


def _under(job: Job, policy: str) -> Job:
    """Return the job of the same hybrid with another `on_store_failure`."""
    parts = urlsplit(job.candidate.storage)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | {"on_store_failure": policy}
    storage = parts._replace(query=urlencode(query)).geturl()
    return replace(job, candidate=job.candidate.model_copy(update={"storage": storage}))


def blast_radius(impacts: Iterable[FaultImpact]) -> dict[str, float]:
    """Return the largest affected share of each candidate, over the faults that struck it and during which requests came."""
    worst: dict[str, float] = {}
    for each in impacts:
        if each.requests and not each.fault.endswith(NOT_STRUCK):
            worst[each.candidate] = max(worst.get(each.candidate, 0.0), each.affected_share)
    return worst


def failing(scenario: Scenario) -> str:
    """List the scenario's own faults in words, with their places, durations and starts."""
    return "; ".join(f"{FaultTrial.named(each)}, from {format_seconds(each.start)} on" for each in scenario.faults)


def _impact(
    candidate: str, fault: str, healthy: Row, faulty: Row, opened: Row, closed: Row, profile: Profile
) -> FaultImpact:
    requests = int(faulty["faulty_requests"])
    each = faulty["asked_total"] / faulty["requests"]  # cost of one request
    misdecided = max(_misdecided(faulty) - _misdecided(healthy), 0.0) / each if each else 0.0
    return FaultImpact(
        candidate=candidate,
        fault=fault,
        requests=requests,
        failed_share=faulty["faulty_failed"] / max(requests, 1),
        p99=_finite(faulty["faulty_latency_p99"]),
        over_admission=float(faulty["over_admission"]),
        healthy=float(healthy["over_admission"]),
        affected_share=(faulty["failed"] - healthy["failed"] + misdecided) / max(requests, 1),
        p99_is_lower_bound=latency_error([faulty], profile).p99_is_lower_bound,
        undecided_share=faulty["faulty_undecided"] / max(requests, 1),
        answer_p99=float(faulty["faulty_answer_p99"]),
        open_over_admission=_finite(opened["faulty_open_over_admission"]),
        closed_false_denial=float(closed["faulty_closed_false_denial"]),
    )


def _finite(value: float | None) -> float | None:
    """Return a number that is one. A row that was kept has None where it had nan."""
    return None if value is None or not math.isfinite(value) else float(value)


def _misdecided(row: Row) -> float:
    """Cost that an exact limiter decides otherwise; all that was admitted, where an exact limiter admits nothing."""
    if not row["exact_total"]:
        return float(row["admitted"] * row["asked_total"] / row["requests"])
    return float((row["over_admission"] + row["false_denial"]) * row["exact_total"])
