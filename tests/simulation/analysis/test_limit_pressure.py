"""The limit that is suggested, and how many keys are alive at once."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.simulation.analysis.alive_keys import AliveKeys, alive_keys
from ratesim.simulation.analysis.limit_pressure import limit_pressure
from ratesim.simulation.analysis.limit_suggestion import Trial
from traffic import Trace


def clients(times):
    """One key for each list of times."""
    key = np.repeat(np.arange(len(times)), [len(each) for each in times])
    time = np.concatenate([np.asarray(each, float) for each in times])
    order = np.argsort(time, kind="stable")
    return Trace(time[order], key[order], [f"client {i}" for i in range(len(times))])


UNEVEN = clients([np.linspace(0, 59, 3 + i % 40) for i in range(400)])


def test_the_same_traffic_has_the_same_suggestion_wherever_it_is_asked():
    suggested = Trial(UNEVEN).suggest(60.0).effect
    loose = limit_pressure(Limit.parse("1000/minute"), UNEVEN)
    strict = limit_pressure(Limit.parse("2/minute"), UNEVEN)
    assert loose.suggestion == strict.suggestion == f"{suggested.limit.rate:g}/minute"
    assert loose.suggested_denied_share == suggested.denied_share
    assert not loose.is_binding
    assert strict.exact_denied_share > 0.3


def test_a_limit_that_is_suggested_is_not_sent_on_to_another_one():
    suggested = Trial(UNEVEN).suggest(60.0).effect.limit
    assert limit_pressure(suggested, UNEVEN).suggestion is None


def test_where_nothing_costs_anything_nothing_is_suggested():
    free = Trace(UNEVEN.time, UNEVEN.key, UNEVEN.keys, cost=0.0)
    assert limit_pressure(Limit.parse("10/minute"), free).suggestion is None


@pytest.mark.parametrize(
    ("algorithm", "most"), [("fixed_window", 3), ("sliding_log", 4), ("sliding_window", 4), ("token_bucket", 2)]
)
def test_a_key_is_alive_until_its_state_is_as_good_as_new(algorithm, most):
    # Three keys at 6 to 8.5 s, and two at 17 s. A fixed window of 10 s ends at 10 s, a log's entries after 10 s each,
    # and a window that slides at 20 s. A bucket has a cost of 1 back after 1 s.
    trace = clients([[6.0, 17.5], [8.0], [8.5], [17.0]])
    assert alive_keys(Limit.parse("10 per 10 seconds", algorithm), trace).most == most


def test_a_key_that_is_only_denied_has_no_state_and_one_that_goes_on_is_counted_once():
    limit = Limit.parse("10 per 10 seconds", "sliding_log")
    denied = Trace([0.0, 1.0, 2.0], [0, 1, 1], ["a", "b"], cost=[1.0, 11.0, 11.0])
    assert alive_keys(limit, denied).most == 1
    assert alive_keys(limit, clients([np.arange(0.0, 100.0, 5.0)])).most == 1
    assert alive_keys(limit, Trace([], [], [])) == AliveKeys(0, 0.0, False)
    assert AliveKeys(1, 0.0, False).sentence.startswith("Room for 1 key: 1 alive at once")


def test_the_room_grows_as_the_most_did_in_the_last_tenth():
    limit = Limit.parse("10 per 10 seconds", "sliding_log")
    starts = [0.0] * 20 + [95.0] * 22 + [100.0]  # 20 at once in the first nine tenths, 23 in the last
    found = alive_keys(limit, clients([[each] for each in starts]))
    assert (found.most, found.growth) == (23, pytest.approx(0.15))
    assert found.room == 27  # 23 * 1.15, rounded up
    assert found.sentence.startswith("Room for 27 keys: 23 alive at once in the traffic, growing 15 % in its last tenth; ")
    shrinking = alive_keys(limit, clients([[0.0]] * 20 + [[100.0]] * 5))
    assert (shrinking.most, shrinking.growth, shrinking.room) == (20, 0.0, 20)


def test_a_trace_shorter_than_the_life_of_a_state_says_that_there_may_be_more():
    found = alive_keys(Limit.parse("10/day"), clients([[0.0], [5.0], [60.0]]))
    assert found.is_cut
    assert "shorter than the life of a state" in found.sentence
