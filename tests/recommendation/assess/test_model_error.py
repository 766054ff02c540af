"""The model's error of a latency: whose verdict it is, where it ends, and what it does to an interval and a check."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.formatting import format_seconds
from ratesim.recommendation.assess.assessment import Assessment, Interval, assess, student_interval
from ratesim.recommendation.assess.model_error import latency_error, verdict_of
from ratesim.simulation.cost_model.profile import BackendCosts, ModelError, Profile
from ratesim.simulation.scenario.scenario import Requirements

STORAGE = {
    "memory": "memory://",
    "redis": "redis://h",
    "postgres": "postgresql://h",
    "hybrid": "hybrid+redis://h?consistency=eventual&write=write_back&sync_interval=0.1",
}


def entry(utilization: float, p99: float, p50: float = 0.1) -> ModelError:
    return ModelError(utilization=utilization, p50=p50, p95=p99, p99=p99, throughput=0.05, rounds=20)


ENTRIES = (entry(0.3, 0.1), entry(0.6, 0.25, 0.15))


def profile(**errors: tuple[ModelError, ...]) -> Profile:
    """A profile in which these backends were validated, and which stands in for itself."""
    costs = BackendCosts(client_cpu=100e-6, fixed=50e-6, item=30e-6)
    backends = {name: msgspec.structs.replace(costs, errors=errors.get(name, ())) for name in STORAGE if name != "hybrid"}
    return Profile(machine="m", measured="2026-11-29", versions={}, backends=backends, source="mine.json")


def rows(kind: str, p99: list[float], store: float = 0.2, node: float = 0.1) -> list[dict[str, Any]]:
    fixed = {
        "candidate": kind,
        "backend": kind,
        "routing": "round_robin",
        "storage": STORAGE[kind],
        "algorithm": "sliding_window",
        "worst_excess": 0.0,
        "requests": 1000,
        "failed": 0,
        "over_admission": 0.0,
        "false_denial": 0.0,
        "l2_operations_per_request": 1.0,
        "l2_busy_per_request": 1e-5,
        "bytes_per_key": 200.0,
        "utilization_max": store,
        "node_utilization_max": node,
    }
    return [{**fixed, "seed": i, "latency_p50": each / 2, "latency_p99": each} for i, each in enumerate(p99)]


def assessed(table: list[dict[str, Any]], costs: Profile | None, **required: Any) -> Assessment:
    (found,) = assess(pd.DataFrame(table), Requirements(**required), 8, profile=costs)
    return found


# Whose verdict -----------------------------------------------------------------------------------------------


def test_a_profile_that_names_errors_wins_and_another_borrows_the_shipped_verdict() -> None:
    mine, bare, shipped = profile(redis=ENTRIES), profile(), profile(redis=(entry(0.85, 0.5),))
    assert verdict_of(mine, "redis", shipped) == (ENTRIES, "profile")
    assert verdict_of(bare, "redis", shipped) == ((entry(0.85, 0.5),), "shipped")
    assert verdict_of(bare, "postgres", shipped) == ((), "unknown")
    lent = latency_error(rows("redis", [1e-3]), bare, shipped)
    assert (lent.p99, lent.limit) == (0.5, 0.85)
    assert lent.sentence == (
        "50 % at 20 % utilization of its store; redis was validated up to 85 % utilization in 20 rounds with the shipped "
        "profile, on another machine (m)"
    )
    own = latency_error(rows("redis", [1e-3]), mine, shipped)
    assert own.verdict == "redis was validated up to 60 % utilization in 20 rounds on m"


def test_nobody_s_verdict_leaves_the_seeds_alone_and_says_so() -> None:
    found = latency_error(rows("postgres", [1e-3]), profile(), profile())
    assert (found.source, found.p50, found.p99, found.p99_is_lower_bound) == ("unknown", 0.0, 0.0, False)
    assert found.share == "not known at 20 % utilization"
    assert found.verdict == "postgres was not validated"


# Which entry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("store", "node", "p99", "part", "is_bound"),
    [
        (0.2, 0.1, 0.1, "store", False),
        (0.3, 0.1, 0.1, "store", False),
        (0.1, 0.31, 0.25, "node", False),
        (0.6, 0.2, 0.25, "store", False),
        (0.61, 0.2, 0.25, "store", True),
        (0.2, 0.99, 0.25, "node", True),
    ],
)
def test_it_is_the_first_entry_that_reaches_the_busiest_part(
    store: float, node: float, p99: float, part: str, is_bound: bool
) -> None:
    found = latency_error(rows("redis", [1e-3], store, node), profile(redis=ENTRIES))
    assert (found.p99, found.part, found.p99_is_lower_bound, found.p50_is_lower_bound) == (p99, part, is_bound, is_bound)
    assert found.utilization == max(store, node)


def test_the_mean_over_the_seeds_counts() -> None:
    table = rows("redis", [1e-3], store=0.5) + rows("redis", [1e-3], store=0.6)
    assert latency_error(table, profile(redis=ENTRIES)).utilization == pytest.approx(0.55)


def test_memory_has_no_utilization_up_to_which_it_is_believed() -> None:
    busy = rows("memory", [3e-6], store=0.0, node=0.95)
    found = latency_error(busy, profile(memory=(entry(0.5, 0.3),)))
    assert (found.p99, found.p99_is_lower_bound, found.is_local) == (0.3, False, True)
    assert latency_error(busy, profile()).p99 == 0.0


def test_a_hybrid_has_the_error_of_its_store_in_the_latencies_that_have_a_part_there() -> None:
    costs = profile(redis=ENTRIES, memory=(entry(1.0, 0.05, 0.02),))
    near = latency_error(rows("hybrid", [140e-6], store=0.9), costs)  # a question takes 65 + 80 us
    assert (near.p50, near.p99, near.p99_is_lower_bound, near.is_local) == (0.02, 0.05, False, True)
    both = latency_error(rows("hybrid", [200e-6], store=0.9), costs)  # its p50 is 100 us
    assert (both.p50, both.p50_is_lower_bound, both.p99, both.p99_is_lower_bound) == (0.02, False, 0.25, True)
    assert latency_error(rows("hybrid", [1e-3], store=0.5), costs).p99 == 0.25


# What it does ------------------------------------------------------------------------------------------------


def test_an_interval_has_the_seeds_and_the_model_s_error() -> None:
    seeds = student_interval([1.0e-3, 1.1e-3, 1.2e-3])
    whole = seeds.with_model_error(0.25)
    assert (whole.mean, whole.low, whole.high) == (seeds.mean, 0.75 * seeds.low, 1.25 * seeds.high)
    assert whole.spread == seeds.spread == pytest.approx(seeds.high - seeds.mean)
    assert seeds.with_model_error(0.0) == seeds
    assert seeds.with_model_error(2.0).low == 0.0
    endless = student_interval([math.inf])
    assert endless.with_model_error(0.25, True) == endless


def test_a_lower_bound_reads_at_least() -> None:
    bound = student_interval([2.0e-3]).with_model_error(0.25, True)
    assert (bound.low, bound.high, bound.is_lower_bound) == (1.5e-3, math.inf, True)
    assert bound.figure(format_seconds) == "at least 1.5 ms"
    assert bound.text(format_seconds) == "at least 1.5 ms [2 ms simulated]"


def test_above_the_last_entry_a_p99_cannot_pass_and_may_fail() -> None:
    costs = profile(redis=ENTRIES)
    (check, *_) = assessed(rows("redis", [1e-3] * 3, store=0.7), costs, p99="100ms").checks
    assert (check.verdict, check.undecided_by, check.margin) == ("too close to call", "load", 0.0)
    assert check.evidence == "p99 at least 0.75 ms [1 ms simulated]"
    (check, *_) = assessed(rows("redis", [1e-3] * 3, store=0.7), costs, p99="0.7ms").checks
    assert (check.verdict, check.undecided_by) == ("fails", "")
    free = assessed(rows("redis", [1e-3] * 3, store=0.7), costs)
    assert free.passes
    assert free.checks[0].measured == "p99 at least 0.75 ms"


def test_it_is_told_whether_more_seeds_would_decide() -> None:
    def undecided(p99: list[float], allowed: str) -> str:
        return assessed(rows("redis", p99), profile(redis=ENTRIES), p99=allowed).checks[0].undecided_by

    assert undecided([1.95e-3, 1.95e-3, 1.95e-3], "2ms") == "model error"
    assert undecided([1.7e-3, 1.5e-3, 1.6e-3], "2ms") == "seeds"  # 1.6 ms and a tenth are within 2 ms
    assert undecided([1.0e-3, 1.0e-3, 1.0e-3], "2ms") == ""


def test_a_margin_is_measured_from_the_end_of_the_interval() -> None:
    table = rows("redis", [1e-3] * 3)
    assert assessed(table, None, p99="2ms").checks[0].margin == pytest.approx(2.0)
    assert assessed(table, profile(redis=ENTRIES), p99="2ms").checks[0].margin == pytest.approx(2.0 / 1.1)


SECONDS = st.floats(1e-5, 1.0)
SHARES = st.floats(0.0, 3.0)


@given(st.lists(SECONDS, min_size=1, max_size=5), SECONDS, SHARES, SHARES, st.floats(0.0, 1.0))
def test_a_larger_error_never_decides_more_and_never_shrinks_an_interval(
    p99: list[float], allowed: float, one: float, other: float, busy: float
) -> None:
    small, large = (
        assessed(rows("redis", p99, store=busy), profile(redis=(entry(0.5, error),)), p99=f"{allowed}s")
        for error in sorted((one, other))
    )
    assert large.p99.low <= small.p99.low <= small.p99.mean <= small.p99.high <= large.p99.high
    assert large.p99.mean == small.p99.mean
    verdicts = small.checks[0].verdict, large.checks[0].verdict
    assert verdicts[0] == verdicts[1] or verdicts[1] == "too close to call"
    assert large.checks[0].margin is not None
    assert small.checks[0].margin is not None
    assert large.checks[0].margin <= small.checks[0].margin
    if busy > 0.5:
        assert not small.passes
        assert not large.passes


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_more_load_never_shrinks_an_interval_where_errors_grow_with_it(one: float, other: float) -> None:
    less, more = (
        assessed(rows("redis", [1e-3, 1.1e-3], store=busy), profile(redis=ENTRIES)).p99 for busy in sorted((one, other))
    )
    assert more.low <= less.low
    assert less.high <= more.high


def test_an_interval_of_before_has_no_error() -> None:
    assert Interval(1.0, 0.9, 1.1, 3).is_lower_bound is False
    assert assessed(rows("redis", [1e-3]), None).model_error is None
