"""The impact of faults on a candidate: those of the scenario, or a failover of the store, a node's crash and a partition.

Each fault is run by itself on a part of the traffic, beside the same part without it, and begins when that part is busiest.
The blast radius of a candidate is the largest affected share of its faults. Of a cluster one primary fails over, that of the
hottest key, for as long as a takeover lasts there: primaries fail one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ratesim.formatting import format_percent, format_seconds
from ratesim.recommendation.assess.model_error import latency_error
from ratesim.recommendation.investigate.sampling import busiest_window, sample_keys
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.scenario.faults import Fault
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["NOT_STRUCK", "FaultImpact", "FaultTrial", "blast_radius", "fault_impact", "plan_fault_trials"]

LASTS = 30.0  # seconds, of each of the faults that are tried unless the scenario has its own
AROUND = 4.0  # times as long is what is simulated, at least
EARLIEST = 0.2  # of that, before a fault begins
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
        Share of these requests that got no decision.
    p99
        99th percentile of their latency, in seconds.
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
    p99: float
    over_admission: float
    healthy: float
    affected_share: float
    p99_is_lower_bound: bool = False


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
    """

    scenario: Scenario
    faults: tuple[Fault, ...]
    hottest: str = ""

    def of(self, fault: Fault, candidate: Candidate) -> Fault:
        """Return the fault as it is tried on a candidate."""
        servers = self.scenario.servers(candidate)
        if not self.hottest or fault.kind != "failover":
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

    def named(self, fault: Fault) -> str:
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
        return FaultTrial(sample_keys(scenario, trace, requests).model_copy(update={"faults": ()}), scenario.faults)
    part = busiest_window(scenario, trace, requests, AROUND * LASTS)
    stretch = cut(part)
    thin = sample_keys(part, stretch, requests)
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
    thin_trace = cut(thin)
    hottest = thin_trace.keys[int(np.bincount(thin_trace.key).argmax())] if len(thin_trace) else ""
    return FaultTrial(thin, faults, hottest)


def fault_impact(
    candidates: Sequence[Candidate], trial: FaultTrial, profile: Profile
) -> AdaptiveRuns[tuple[FaultImpact, ...]]:
    """Run each candidate with each fault, and without any."""
    jobs: list[Job] = jobs_of(trial.scenario, candidates, [trial.scenario.seed], None, profile)
    for fault in trial.faults:
        for candidate in candidates:
            scenario = trial.scenario.model_copy(update={"faults": (trial.of(fault, candidate),)})
            jobs += jobs_of(scenario, [candidate], [scenario.seed], None, profile)
    rows = yield jobs
    healthy, rows = rows[: len(candidates)], rows[len(candidates) :]
    impacts = []
    for number, fault in enumerate(trial.faults):
        faulty = rows[number * len(candidates) : (number + 1) * len(candidates)]
        for candidate, well, ill in zip(candidates, healthy, faulty, strict=True):
            tried = trial.of(fault, candidate)
            name = trial.named(tried) + (NOT_STRUCK if trial.misses(tried, candidate) else "")
            impacts.append(_impact(candidate.name, name, well, ill, profile))
    return tuple(impacts)


def blast_radius(impacts: Iterable[FaultImpact]) -> dict[str, float]:
    """Return the largest affected share of each candidate, over the faults that struck it and during which requests came."""
    worst: dict[str, float] = {}
    for each in impacts:
        if each.requests and not each.fault.endswith(NOT_STRUCK):
            worst[each.candidate] = max(worst.get(each.candidate, 0.0), each.affected_share)
    return worst


def _impact(candidate: str, fault: str, healthy: Row, faulty: Row, profile: Profile) -> FaultImpact:
    requests = int(faulty["faulty_requests"])
    each = faulty["asked_total"] / faulty["requests"]  # cost of one request
    misdecided = max(_misdecided(faulty) - _misdecided(healthy), 0.0) / each if each else 0.0
    return FaultImpact(
        candidate=candidate,
        fault=fault,
        requests=requests,
        failed_share=faulty["faulty_failed"] / max(requests, 1),
        p99=float(faulty["faulty_latency_p99"]),
        over_admission=float(faulty["over_admission"]),
        healthy=float(healthy["over_admission"]),
        affected_share=(faulty["failed"] - healthy["failed"] + misdecided) / max(requests, 1),
        p99_is_lower_bound=latency_error([faulty], profile).p99_is_lower_bound,
    )


def _misdecided(row: Row) -> float:
    """Cost that an exact limiter decides otherwise; all that was admitted, where an exact limiter admits nothing."""
    if not row["exact_total"]:
        return float(row["admitted"] * row["asked_total"] / row["requests"])
    return float((row["over_admission"] + row["false_denial"]) * row["exact_total"])
