"""Bounds of a hybrid whose nodes cannot reach the shared store: docs/bounds.md, 10."""

from __future__ import annotations

import numpy as np
import pytest
from admitted import PERIOD, ROUNDING, asked, comes_near, eventual, generated, limits, own_limits_are_kept, play, traffic
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.storage import StorageURL

THREE = ["fixed_window", "sliding_log", "token_bucket"]
CUT = {"kind": "partition", "start": 1.0, "duration": 12.0}


@pytest.mark.parametrize("algorithm", THREE)
@generated
@given(data=st.data())
def test_nodes_that_are_cut_off_and_fail_open_still_admit_at_most_n_times_the_limit(
    algorithm: str, data: st.DataObject
) -> None:
    direction = data.draw(st.sampled_from(["both", "to_server", "from_server"]))
    result, _ = data.draw(eventual(algorithm, {**CUT, "direction": direction}, command_timeout="0.25", retries="0"))
    own_limits_are_kept(result)


def test_nodes_that_are_cut_off_and_fail_open_each_give_the_whole_limit() -> None:
    limit = Limit(20.0, PERIOD, "fixed_window")
    flood, cut = asked(np.arange(0.0, 2 * PERIOD, 1 / 256)), {**CUT, "start": 0.0, "duration": 60.0}
    result = play(flood, "hybrid+redis://h?sync_interval=0.5&l1_ttl=0.5", limit, 8, cut)
    comes_near("cut off, fail_open", result.accuracy.over_admission, 7)


@generated
@given(data=st.data())
def test_nodes_that_are_cut_off_and_fail_closed_admit_nothing_once_their_views_are_too_old(data: st.DataObject) -> None:
    result, trip = data.draw(eventual("fixed_window", CUT, on_store_failure="fail_closed", command_timeout="0.5"))
    hybrid = StorageURL.parse(result.candidate.storage).hybrid
    assert hybrid is not None
    since = result.trace.time - result.trace.time[0]
    last_view = CUT["start"] + min(trip, 0.5)
    away = (since > last_view + hybrid.l1_ttl) & (since + result.latency < CUT["start"] + CUT["duration"])
    assert not result.allowed[away].any()


@pytest.mark.parametrize("algorithm", THREE)
@generated
@given(data=st.data())
def test_strong_nodes_that_fail_open_admit_too_much_at_most_what_they_admitted_without_asking(
    algorithm: str, data: st.DataObject
) -> None:
    nodes, limit = data.draw(st.integers(1, 4)), data.draw(limits(algorithm))
    cut = {**CUT, "direction": "to_server", "nodes": data.draw(st.lists(st.integers(0, nodes - 1), min_size=1))}
    result = play(data.draw(traffic()), "hybrid+redis://h?consistency=strong", limit, nodes, cut)
    blind = result.allowed & (result.sequence == 0)
    extra = float(result.trace.cost[blind].sum())
    assert result.accuracy.net_over_admission * result.accuracy.exact_total <= extra * (1 + ROUNDING)


def test_strong_nodes_that_fail_open_admit_all_that_is_asked_while_they_are_cut_off() -> None:
    limit = Limit(20.0, PERIOD, "fixed_window")
    flood = asked(np.concatenate([np.linspace(0.0, 0.5, 30), np.linspace(1.5, 7.0, 1000)]))
    result = play(flood, "hybrid+redis://h?consistency=strong", limit, 4, CUT)
    blind = result.allowed & (result.sequence == 0)
    comes_near("strong, fail_open", result.accuracy.over_admission * result.accuracy.exact_total, float(blind.sum()))
