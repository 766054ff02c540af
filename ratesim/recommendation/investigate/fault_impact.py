"""What faults do to a candidate: those of the scenario, or a failover of the store, a node's crash and a partition.

Each fault is run by itself on a part of the traffic, beside the same part without it, and begins when that part is busiest.
The blast radius of a candidate is its worst of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ratesim.formatting import format_percent
from ratesim.recommendation.investigate.sampling import busiest_window, sample_keys
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, Row
from ratesim.simulation.experiments.job import Job, jobs_of
from ratesim.simulation.scenario.faults import Fault

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = ["FaultImpact", "FaultTrial", "fault_impact", "plan_fault_trials"]

LASTS = 30.0  # seconds, of each of the faults that are tried unless the scenario has its own
AROUND = 4.0  # times as long is what is simulated, at least
EARLIEST = 0.2  # of that, before a fault begins


@dataclass(frozen=True)
class FaultImpact:
    """What one fault did to one candidate.

    fault: in words. requests: that came while it held. failed_share: of these, without a decision. p99: seconds, of these.
    over_admission, healthy: shares, of the whole run with the fault and of the same without it. harmed: requests that got no
    decision, and cost that was decided otherwise than an exact limiter would beyond what is so without the fault, over what
    was asked while the fault held; above 1 where the harm outlasts the fault.
    """

    candidate: str
    fault: str
    requests: int
    failed_share: float
    p99: float
    over_admission: float
    healthy: float
    affected_share: float


@dataclass(frozen=True)
class FaultTrial:
    """In which faults are tried. scenario: without any. faults: one by one."""

    scenario: Scenario
    faults: tuple[Fault, ...]

    def named(self, fault: Fault) -> str:
        """In words, with where and how long."""
        what = {
            "failover": "failover of the store",
            "crash": "crash of the store",
            "restart": "crash of a node" if fault.nodes and len(fault.nodes) == 1 else "restart of nodes",
            "partition": "partition",
            "lossy": f"{format_percent(fault.loss)} of messages lost",
            "slow": f"store {fault.factor:g} times as slow",
            "clock_skew": "clock skew",
        }[fault.kind]
        return f"{what}, {fault.duration:g} s"


def plan_fault_trials(scenario: Scenario, trace: Trace, requests: int, cut: Callable[[Scenario], Trace]) -> FaultTrial:
    """A part of the traffic with about `requests` requests, and the faults to try in it. cut: makes the trace of a scenario
    that was cut; `trace` is the whole.

    The scenario's own faults keep their times, so that all of its time is kept, of fewer keys. The others begin when most
    requests come, after the first fifth and the warm-up, and last 30 s, or a quarter of all the time there is."""
    if scenario.faults:
        return FaultTrial(sample_keys(scenario, trace, requests).model_copy(update={"faults": ()}), scenario.faults)
    part = busiest_window(scenario, trace, requests, AROUND * LASTS)
    kept = cut(part)
    thin = sample_keys(part, kept, requests)
    lasts = min(LASTS, max(kept.duration / AROUND, 1e-3))
    begins = float(kept.time[0]) + max(EARLIEST * kept.duration, part.warmup)
    ends = float(kept.time[-1]) - lasts
    middle = kept.window(begins, max(ends, begins))
    start = float(middle.busiest(lasts).time[0] if len(middle) else begins) - float(kept.time[0])
    chosen = (
        Fault(kind="failover", start=start, duration=lasts),
        Fault(kind="restart", start=start, duration=lasts, nodes=(0,)),
        Fault(kind="partition", start=start, duration=lasts),
    )
    return FaultTrial(thin, chosen)


def fault_impact(
    candidates: Sequence[Candidate], where: FaultTrial, profile: Profile
) -> AdaptiveRuns[tuple[FaultImpact, ...]]:
    """One for each candidate and fault."""
    seeds = [where.scenario.seed]
    asked: list[Job] = []
    for faults in ((), *((fault,) for fault in where.faults)):
        asked += jobs_of(where.scenario.model_copy(update={"faults": faults}), candidates, seeds, None, profile)
    rows = yield asked
    healthy, rows = rows[: len(candidates)], rows[len(candidates) :]
    found = []
    for number, fault in enumerate(where.faults):
        faulty = rows[number * len(candidates) : (number + 1) * len(candidates)]
        for candidate, well, ill in zip(candidates, healthy, faulty, strict=True):
            found.append(_harm(candidate.name, where.named(fault), well, ill))
    return tuple(found)


def _harm(candidate: str, fault: str, healthy: Row, faulty: Row) -> FaultImpact:
    requests = int(faulty["faulty_requests"])
    each = faulty["asked_total"] / faulty["requests"]  # cost of one request
    wrong = max(_wrong(faulty) - _wrong(healthy), 0.0) / each if each else 0.0
    return FaultImpact(
        candidate=candidate,
        fault=fault,
        requests=requests,
        failed_share=faulty["faulty_failed"] / max(requests, 1),
        p99=float(faulty["faulty_latency_p99"]),
        over_admission=float(faulty["over_admission"]),
        healthy=float(healthy["over_admission"]),
        affected_share=(faulty["failed"] - healthy["failed"] + wrong) / max(requests, 1),
    )


def _wrong(row: Row) -> float:
    """Cost that was decided otherwise than by an exact limiter; all that was admitted, where that admits nothing."""
    if not row["exact_total"]:
        return float(row["admitted"] * row["asked_total"] / row["requests"])
    return float((row["over_admission"] + row["false_denial"]) * row["exact_total"])
