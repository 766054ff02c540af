"""Made numbers of contenders, for tests of pictures: a choice of memory, two that nearly coincide, one that over-admits."""

from __future__ import annotations

from types import SimpleNamespace

from ratesim.recommendation.assess.assessment import Interval
from ratesim.recommendation.investigate.contender_detail import ContenderDetail
from ratesim.simulation.results.run_detail import SHARES, KeyExcess, RunDetail
from ratesim.simulation.scenario.scenario import Requirements

REQUESTS, SEEDS, BINS = 1_000, 3, 20


def detail(scale: float, excess: tuple[tuple[str, float], ...] = ()) -> ContenderDetail:
    """Latencies that grow with the tail, from `scale` seconds on; 20 bins of 50 requests, of which 10 are denied."""
    latency = tuple(scale * (0.5 / (1 - share)) ** 0.25 for share in SHARES if REQUESTS * (1 - share) >= 1 - 1e-9)
    too_much = sum(cost for _, cost in excess)
    series = {
        "begin": [float(each) for each in range(BINS)],
        "offered": [50.0] * BINS,
        "denied": [10.0 - too_much / BINS] * BINS,
        "failed": [0.0] * BINS,
        "exact_denied": [10.0] * BINS,
        "over_admitted": [too_much / BINS] * BINS,
        "latency_p50": [scale] * BINS,
        "latency_p99": [2.7 * scale] * (BINS - 1) + [3.1 * scale],
    }
    keys = tuple(KeyExcess(key, 100, 80.0, cost) for key, cost in excess)
    return ContenderDetail(SEEDS, SEEDS * REQUESTS, latency, RunDetail(REQUESTS, latency, 1.0, series, 7, len(keys), keys))


def contender(name: str, backend: str, of: ContenderDetail, *, passes: bool = True) -> SimpleNamespace:
    """What pictures read of an assessment."""
    quantile = dict(zip(of.shares, of.latency, strict=True))
    over = sum(key.over_admitted for key in of.first.keys) / 800
    return SimpleNamespace(
        candidate=name,
        backend=backend,
        p50=Interval(quantile[0.5], quantile[0.5], quantile[0.5], SEEDS),
        p99=Interval(quantile[0.99], 0.9 * quantile[0.99], 1.1 * quantile[0.99], SEEDS),
        over_admission=Interval(over, over, over, SEEDS),
        cost=12.0,
        passes=passes,
        fails=not passes,
    )


def made(
    choice: str = "memory, sticky", over: str = "memory", key: str = "tenant-7"
) -> tuple[SimpleNamespace, SimpleNamespace]:
    """A study and its recommendation, as far as pictures read them. over: the contender that over-admits, 40 to `key`."""
    details = {
        choice: detail(30e-6),
        "redis": detail(1e-3),
        "hybrid strong": detail(1.01e-3),
        "postgres": detail(2e-3),
        over: detail(32e-6, ((key, 40.0), ("tenant-8", 20.0))),
    }
    backends = dict(zip(details, ("memory", "redis", "hybrid", "postgres", "memory"), strict=True))
    contenders = tuple(contender(name, backends[name], details[name], passes=name != over) for name in details)
    scenario = SimpleNamespace(requirements=Requirements(p99="2ms", max_over_admission=0.01))
    study = SimpleNamespace(scenario=scenario, findings=SimpleNamespace(details=details))
    return study, SimpleNamespace(assessments=contenders, choice=choice)
