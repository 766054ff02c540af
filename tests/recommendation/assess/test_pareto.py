"""The order of candidates: what a topology adds to the parts that can break."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ratesim.recommendation.assess.assessment import Assessment, Interval
from ratesim.recommendation.assess.pareto import best, parts

SURE = Interval(1e-3, 1e-3, 1e-3, 3)
NONE = Interval(0.0, 0.0, 0.0, 3)


def an_assessment(name: str = "redis", storage: str = "redis://h", p99: float = 1e-3, **changes) -> Assessment:
    found = Assessment(
        candidate=name,
        backend="redis",
        routing="round_robin",
        storage=storage,
        algorithm="sliding_window",
        persistence="session",
        p50=SURE,
        p99=Interval(p99, p99, p99, 3),
        over_admission=NONE,
        false_denial=NONE,
        worst_excess=0.0,
        failed_share=0.0,
        l2_operations_per_request=1.0,
        l2_busy_per_request=1e-5,
        bytes_per_key=300.0,
        checks=(),
        cost=44.0,
        topology="standalone",
        servers=1,
    )
    return replace(found, **changes)


@pytest.mark.parametrize("topology", ["cluster", "sentinel"])
def test_more_servers_are_one_part_more(topology):
    for storage in ("redis://h", "hybrid+redis://h"):
        one = an_assessment(storage=storage)
        assert parts(replace(one, topology=topology)) == parts(one) + 1


def test_a_standby_that_answers_wait_for_and_partitions_are_one_part_more_each():
    one = an_assessment("postgres", "postgresql://h")
    assert parts(replace(one, standby="on")) == parts(one) + 1
    for storage in ("postgresql://h?partition=time:1d", "postgresql://h?partition=hash:16"):
        assert parts(replace(one, storage=storage)) == parts(one) + 1


def test_one_server_comes_before_a_cluster_at_the_same_cost():
    one, three = an_assessment(), an_assessment("redis cluster, 3 primaries", p99=9e-4, topology="cluster", servers=3)
    assert best([three, one]) is one


def test_one_server_that_has_to_be_a_cluster_gives_way_to_the_cluster():
    one, three = (
        an_assessment(name, p99=p99, topology="cluster", servers=3) for name, p99 in (("redis", 1e-3), ("cluster", 9e-4))
    )
    assert best([one, three]) is three
