"""The benchmark of excerpts: how often a part of a long log says of a candidate what all of the log does not.

    python -m ratesim.benchmarks.excerpts 1000000 SECONDS

makes three logs of so many requests: a day with bursts, a day with an incident, and the tokens of a language model, whose
costs have a heavy tail. Of each log it shows

- the screening: how the order of all candidates on a part agrees with that on all of the log (Kendall's tau, by the key that
  chooses contenders), how many of the contenders of all of the log are among those of the part, and whether its choice is;
  and the same of all of it with another seed, which is the most that a part can reach;
- the excerpt: which contenders pass on the busiest 50,000 requests and not on all of the log, or the other way round.

SECONDS bounds the nominal seconds of a run on all of a log, so that candidates that SimPy has to play are left out.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from ratesim.formatting import format_percent
from ratesim.recommendation.assess.assessment import Assessment
from ratesim.recommendation.assess.assessor import Assessor
from ratesim.recommendation.assess.pareto import best, rank
from ratesim.recommendation.assess.prices import Prices
from ratesim.recommendation.investigate.budget import run_cost
from ratesim.recommendation.investigate.full_runs import FULL, run_table
from ratesim.recommendation.investigate.plan import choose_contenders
from ratesim.recommendation.investigate.sampling import busiest_window
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.experiments.adaptive import AdaptiveRuns, run_adaptive
from ratesim.simulation.experiments.job import jobs_of, share_log
from ratesim.simulation.scenario.candidates import default_candidates
from ratesim.simulation.scenario.scenario import Candidate, Scenario, ScenarioError
from traffic import Trace, Workload
from traffic.arrivals import MMPP, Arrivals, Poisson
from traffic.costs import Lognormal
from traffic.keys import Uniform, Zipf
from traffic.nonstationary import Diurnal, FlashCrowd

__all__ = ["Comparison", "compare", "logs", "main"]

RATE = 100.0  # requests/s of a log in the mean
SIZES = (1_000, 10_000, 100_000, 300_000)  # requests of a screening
LIMITS = {"a day with bursts": "200/minute", "a day with an incident": "200/minute", "tokens": "300000/minute"}
REQUIREMENTS = {"p99": "3ms", "max_over_admission": "1%", "persistence": "none", "key_count": 10_000}


def logs(requests: int, seed: int = 22) -> Iterator[tuple[str, Trace]]:
    """Make the three logs, of about so many requests each."""
    rng, duration = np.random.default_rng(seed), requests / RATE

    def made(arrivals: Arrivals, keys: int, cost: float | Lognormal = 1.0, zipf: float = 1.0) -> Trace:
        dealt = Zipf(keys, zipf) if zipf else Uniform(keys)
        return Workload(arrivals, dealt, duration, cost, 1.7e9).trace(rng)

    bursts = MMPP(0.1 * RATE, 8.0 * RATE, 300.0, 8.0)
    yield "a day with bursts", _merged(made(Diurnal(0.7 * RATE, 0.9, duration), 2000), made(bursts, 20))
    crowd = FlashCrowd(0.1 * RATE, 100.0, 0.6 * duration, 0.001 * duration, 0.02 * duration, 0.005 * duration)
    yield "a day with an incident", _merged(made(Poisson(0.7 * RATE), 2000), made(crowd, 300, zipf=0.0))
    yield "tokens", made(Diurnal(RATE, 0.6, duration), 300, Lognormal(2000.0, 1.5))


def _merged(*traces: Trace) -> Trace:
    """Merge traces whose keys are different clients."""
    before = np.cumsum([0, *(len(each.keys) for each in traces)])
    time, cost = (np.concatenate([getattr(each, name) for each in traces]) for name in ("time", "cost"))
    key = np.concatenate([each.key + first for each, first in zip(traces, before, strict=False)])
    order = np.argsort(time, kind="stable")
    return Trace(time[order], key[order], [f"client-{each}" for each in range(before[-1])], cost=cost[order])


@dataclass(frozen=True)
class Comparison:
    """A log, and what parts of it say.

    Attributes
    ----------
    requests
        Of the log.
    agreement
        By the requests of a screening: Kendall's tau of the order of all candidates, the share of the contenders of all of
        the log that are among those of the part, and whether the choice is among them. The last is all of it with another
        seed.
    verdicts
        By contender: whether it passes on the busiest 50,000 requests, and on all of the log.
    choices
        The choice on the busiest 50,000 requests, and on all of the log.
    left_out
        Candidates that were not run on all of the log, since SimPy has to play them.
    """

    requests: int
    agreement: dict[int, tuple[float, float, bool]]
    verdicts: dict[str, tuple[bool, bool]]
    choices: tuple[str | None, str | None]
    left_out: tuple[str, ...]

    @property
    def wrong(self) -> dict[str, tuple[bool, bool]]:
        """The contenders of which the excerpt and all of the log say different things."""
        return {name: each for name, each in self.verdicts.items() if each[0] != each[1]}


def compare(
    trace: Trace,
    limit: str,
    candidates: Sequence[Candidate] | None = None,
    sizes: Sequence[int] = SIZES,
    excerpt: int = FULL,
    seconds: float = 60.0,
    processes: int | None = None,
) -> Comparison:
    """Compare what parts of a log say with what all of it says.

    Parameters
    ----------
    trace, limit
        The log, and the limit of each key.
    candidates
        The default ones unless given.
    sizes, excerpt
        Requests of screenings, and of the excerpt that contenders were judged on.
    seconds
        Nominal seconds of a run on all of the log, at most.
    processes
        As many as cores unless given.

    Raises
    ------
    ScenarioError
        If no candidate can be run on all of the log within the seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        trace.to_parquet(path)
        asked = {"workload": {"log": str(path), "spread": False}, "limit": {"rate": limit, "algorithm": "token_bucket"}}
        scenario = Scenario.of({**asked, "deployment": {"nodes": 8}, "requirements": REQUIREMENTS})
        log = share_log(scenario, scenario.workload.read())
        chosen = tuple(candidates or default_candidates(scenario))
        return run_adaptive(_compared(scenario, log, chosen, sizes, excerpt, seconds), processes=processes).result


def _compared(
    scenario: Scenario, trace: Trace, candidates: Sequence[Candidate], sizes: Sequence[int], excerpt: int, seconds: float
) -> AdaptiveRuns[Comparison]:
    assessor = Assessor(scenario, Profile.load(), Prices.load(), trace.summary())

    def runs(requests: int, those: Sequence[Candidate], seeds: Sequence[int]) -> AdaptiveRuns[tuple[Assessment, ...]]:
        part = busiest_window(scenario, trace, requests)
        rows = yield jobs_of(part, those, seeds, None, assessor.profile)
        names = [each.name for each in those for _ in seeds]
        return assessor.assess(run_table(zip(names, rows, strict=True))).assessments

    part = busiest_window(scenario, trace, min(sizes))
    rows = yield jobs_of(part, candidates, [scenario.seed], None, assessor.profile)
    costs = {each.name: run_cost(row).seconds for each, row in zip(candidates, rows, strict=True)}
    able = [each for each in candidates if len(trace) * costs[each.name] <= seconds]
    if not able:
        least = len(trace) * min(costs.values())
        raise ScenarioError(f"seconds {seconds:g}: no candidate can be run on all of it; the cheapest takes {least:.3g}")
    seeds = range(scenario.seed, scenario.seed + scenario.replications)
    whole = yield from runs(len(trace), able, [scenario.seed])
    wanted = {each.name for each in choose_contenders(able, whole)}
    first, places = best(whole), _places(whole)
    agreement = {}
    for size in (*(each for each in sizes if each < len(trace)), len(trace)):
        screened = yield from runs(size, able, [scenario.seed + (size == len(trace))])
        found = {each.name for each in choose_contenders(able, screened)}
        there = _places(screened)
        tau = float(kendalltau([places[each.name] for each in able], [there[each.name] for each in able]).statistic)
        agreement[size] = (tau, len(wanted & found) / len(wanted), first is None or first.candidate in found)
    contenders = choose_contenders(able, whole)
    cut = yield from runs(excerpt, contenders, seeds)
    full = yield from runs(len(trace), contenders, seeds)
    verdicts = {one.candidate: (one.passes, other.passes) for one, other in zip(cut, full, strict=True)}
    choices = tuple(None if (found_best := best(each)) is None else found_best.candidate for each in (cut, full))
    left_out = tuple(each.name for each in candidates if each not in able)
    return Comparison(len(trace), agreement, verdicts, (choices[0], choices[1]), left_out)


def _places(assessments: Sequence[Assessment]) -> Mapping[str, int]:
    """Return the place of each candidate in the order that chooses contenders."""
    ordered = sorted(assessments, key=lambda each: (not each.passes, each.violation, rank(each)))
    return {each.candidate: place for place, each in enumerate(ordered)}


def main(requests: int, seconds: float = 60.0) -> Iterator[str]:
    """Compare the three logs, and yield lines."""
    wrong = judged = 0
    for name, trace in logs(requests):
        found = compare(trace, LIMITS[name], seconds=seconds)
        wrong, judged = wrong + len(found.wrong), judged + len(found.verdicts)
        yield f"{name}, {found.requests:,} requests, {LIMITS[name]} for each client"
        for size, (tau, share, has_choice) in found.agreement.items():
            choice = "the choice is among them" if has_choice else "the choice is not among them"
            part = "all, with another seed" if size == found.requests else f"{size:,}"
            yield f"  screened on {part}: tau {tau:.2f}, {format_percent(share)} of the contenders found, and {choice}"
        for each, (then, now) in found.wrong.items():
            yield f"  {each}: {'passes' if then else 'does not pass'} on {FULL:,}, and {'passes' if now else 'not'} on all"
        yield f"  the choice on {FULL:,} is {found.choices[0]}, and on all {found.choices[1]}"
        if found.left_out:
            yield f"  not run on all of it: {len(found.left_out)} candidates that SimPy has to play"
    yield f"of {judged} contenders the excerpt was wrong about {wrong}"


if __name__ == "__main__":
    for line in main(int(sys.argv[1]), *map(float, sys.argv[2:])):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
