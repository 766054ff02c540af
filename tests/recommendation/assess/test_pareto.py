"""The order of candidates: what a topology adds to the parts that can break."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from made_assessments import an_assessment

from ratesim.recommendation.assess.pareto import best, parts
from ratesim.recommendation.assess.rejections import rejection_reason
from ratesim.recommendation.decide.verdict import numbers, use


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


def test_less_than_a_hundredth_a_month_changes_no_routing():
    plain = an_assessment("memory", "memory://", cost=0.0012)
    sticky = replace(plain, candidate="memory, sticky", routing="sticky", cost=0.0007)
    assert best([sticky, plain]) is plain
    assert use(plain, [plain, sticky], "USD").endswith(
        "at less than 0.01 USD a month, the simplest of the 2 that pass at that cost."
    )
    assert "1 more moving part (sticky routing)" in rejection_reason(sticky, plain, "USD")
    dear = replace(plain, candidate="redis", cost=0.011)
    assert rejection_reason(dear, plain, "USD").endswith("0.011 USD a month against less than 0.01 USD a month")


def test_the_card_of_a_cost_reads_as_the_table_does():
    cards = [numbers(an_assessment(cost=cost), "USD", "yours")[-1].value for cost in (44.4, 0.001, math.nan)]
    assert cards == ["44 USD", "less than 0.01 USD", "unknown"]
