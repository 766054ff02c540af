"""The traffic that a page takes of a log has the log's keys, costs and rhythm, and the page's rate."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.notebook import NotebookError
from ratesim.pages.log_traffic import LogFields, LogTraffic
from ratesim.simulation.scenario.workload import EPOCH
from traffic import Trace

LIMIT = Limit(2.0, 1.0)


def logged(times, keys="abcd", cost=1.0) -> LogTraffic:
    key = np.arange(len(times)) % len(keys)
    return LogTraffic("access.log", Trace(times, key, list(keys), cost=cost))


def test_gaps_and_costs_are_those_of_the_log_at_another_rate():
    trace = logged([100.5, 101.0, 103.0, 107.5], cost=[1.0, 2.0, 3.0, 4.0]).fitted(4.0, 1.0, 1)
    gaps = np.diff(trace.time)
    assert gaps / gaps[0] == pytest.approx([1.0, 4.0, 9.0], rel=1e-5)
    assert trace.cost.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert trace.time[0] == EPOCH
    assert trace.time[-1] - EPOCH == pytest.approx(0.8, rel=1e-5)  # the next one would come at the end


def test_of_a_longer_log_the_first_requests_are_taken_and_only_their_keys():
    trace = logged([0.5, 1.0, 2.0, 3.0, 4.0], "abcde").fitted(3.0, 1.0, 1)
    assert (len(trace), trace.keys) == (3, ("a", "b", "c"))


def test_a_shorter_log_is_superposed_with_keys_of_its_own_and_every_run_has_other_shifts():
    log = logged([0.5, 1.0, 2.0, 3.5])
    first, again, other = (log.fitted(10.0, 1.0, seed) for seed in (1, 1, 2))
    assert len(first) == 10
    assert {"a", "a#2"} <= set(first.keys)
    assert first == again
    assert first != other
    assert "3 superposed copies of access.log, cut to 10 requests, at 10 requests per second" in log.sentence(LIMIT, 10, 1)


def test_all_requests_can_be_of_one_key():
    trace = logged([0.5, 1.0, 2.0, 3.5]).fitted(4.0, 1.0, 1, one_key=True)
    assert trace.keys == ("all",)
    assert set(trace.key.tolist()) == {0}


def test_it_is_said_what_is_replayed_how_fast_and_that_the_limit_does_not_bind():
    log = logged(np.arange(100) * 2.5 + 0.25)
    said = log.sentence(Limit(100.0, 1.0), 20.0, 2.0)
    assert said.startswith(
        "The traffic is the first 40 requests of access.log at 20 requests per second, 48.8 times as fast as in the log. "
        "The limit 100/second hardly ever binds here: an exact limiter denies nothing"
    )
    assert log.describe(Limit(100.0, 1.0), 10).startswith("Your log: the first 10 requests of access.log, with their keys, ")
    assert log.describe(Limit(1.0, 60.0)).startswith("Your log: all 100 requests of access.log, with their keys, costs")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time,who\n1700000000,a\n", "parameter log: only one request is left of it"),
        ("time,who\n1700000000.123456,a\n1700000000.123456,b\n", "parameter log: the first 2 requests have one time"),
    ],
)
def test_a_log_without_a_rhythm_is_refused(tmp_path, text, said):
    (tmp_path / "short.csv").write_text(text)
    with pytest.raises(NotebookError, match=said):
        LogFields(log=str(tmp_path / "short.csv"), key="who").traffic().fitted(2.0, 1.0, 1)


def test_the_busiest_part_and_the_columns_are_taken(tmp_path):
    (tmp_path / "mine.csv").write_text("when,who,x\n" + "".join(f"{t},{t % 2},{t}\n" for t in (1e9, 1e9 + 500, 1e9 + 501)))
    fields = LogFields(log=str(tmp_path / "mine.csv"), key="who", time="when", cost="x/1000000000", busiest="10s")
    trace = fields.traffic().trace
    assert len(trace) == 2
    assert trace.cost == pytest.approx([1.0, 1.0], rel=1e-5)
    assert len({trace.keys[each] for each in trace.key}) == 2
    assert LogFields().traffic() is None
