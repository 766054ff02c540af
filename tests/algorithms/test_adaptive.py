"""The adaptive limit's own rule: at the end of a window it is raised by a step, cut, or left where it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ratesim import Limit
from ratesim.algorithms import adaptive, bind
from ratesim.limit import InvalidLimitError
from ratesim.runtime import AsyncioRuntime
from ratesim.storage import MemoryStorage

PERIOD = 8.0
NOW = 1_700_000_000.0  # a multiple of the period
LATE = 7.0  # seconds into a window: of what the one before admitted, an eighth still counts

LIMIT = Limit(100.0, PERIOD, "adaptive")
LATEST = Limit(100.0, PERIOD, "adaptive", options={"weight": 1.0})  # its mean score is the latest one


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))


async def fields(storage: MemoryStorage) -> dict[str, float | list[float]]:
    state = await storage.get_state("user")
    assert state is not None
    return state.algorithm_data.fields


async def pass_window(storage: MemoryStorage, limit: Limit, n: int, used: float, scores: Sequence[float]) -> float:
    """Admit `used` in window n and observe the scores; the limit at the start of window n + 1."""
    start = NOW + n * PERIOD
    if used:
        assert (await storage.acquire("user", limit, used, start + LATE)).allowed
    for score in scores:
        await storage.observe("user", limit, score, start + LATE)
    entry = storage.live_entry("user")
    assert entry is not None
    state = list(entry.load())
    adaptive.refresh(
        state, bind(limit).params, start + PERIOD
    )  # on a copy: a limit that fell may admit not even a cost of 0
    return state[adaptive.CURRENT]


# -- when the limit moves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "used", "after"),
    [
        (1.0, 100.0, 105.0),
        (1.0, 80.0, 105.0),
        (0.9, 80.0, 105.0),
        (1.0, 79.9, 100.0),  # too little was asked to know whether more would do
        (0.89, 100.0, 100.0),
        (0.6, 100.0, 100.0),
        (0.6, 0.0, 100.0),
        (0.59, 100.0, 50.0),
        (0.0, 0.0, 50.0),  # a cut does not depend on how much was used
    ],
)
async def test_a_window_raises_cuts_or_leaves_the_limit(
    storage: MemoryStorage, score: float, used: float, after: float
) -> None:
    assert await pass_window(storage, LATEST, 0, used, [score]) == after


async def test_the_used_share_is_of_the_limit_as_it_stands_and_not_of_the_rate(storage: MemoryStorage) -> None:
    assert await pass_window(storage, LATEST, 0, 0.0, [0.0]) == 50.0
    assert await pass_window(storage, LATEST, 2, 39.9, [1.0]) == 50.0
    assert await pass_window(storage, LATEST, 4, 40.0, [1.0]) == 55.0  # by 5 % of the rate, not of the limit


async def test_a_window_without_an_observation_leaves_the_limit_whatever_was_observed_before(storage: MemoryStorage) -> None:
    assert await pass_window(storage, LATEST, 0, 100.0, []) == 100.0
    assert await pass_window(storage, LATEST, 1, 0.0, [0.0]) == 50.0
    assert await pass_window(storage, LATEST, 2, 45.0, []) == 50.0
    assert (await fields(storage))["performance_score"] == 0.0


async def test_windows_in_which_nothing_came_move_the_limit_no_further(storage: MemoryStorage) -> None:
    await storage.observe("user", LATEST, 0.0, NOW + LATE)
    await storage.acquire("user", LATEST, 0.0, NOW + 10 * PERIOD)
    assert (await fields(storage))["current_limit"] == 50.0


async def test_the_limit_stays_between_a_tenth_of_the_rate_and_twice_the_rate(storage: MemoryStorage) -> None:
    cuts = [await pass_window(storage, LATEST, n, 0.0, [0.0]) for n in range(5)]
    assert cuts == [50.0, 25.0, 12.5, 10.0, 10.0]
    current, raised = 10.0, []
    for n in range(5, 45):
        current = await pass_window(storage, LATEST, n, 0.875 * current, [1.0])
        raised.append(current)
    assert raised == [min(10.0 + 5.0 * n, 200.0) for n in range(1, 41)]


async def test_the_options_replace_every_constant_of_the_rule(storage: MemoryStorage) -> None:
    options = {"min_rate": 60, "max_rate": 120, "raise_above": 0.5, "cut_below": 0.25, "used_share": 0.1, "increase": 0.15}
    limit = Limit(100.0, PERIOD, "adaptive", options={**options, "decrease": 0.75, "weight": 1.0})
    assert await pass_window(storage, limit, 0, 10.0, [0.5]) == 115.0
    assert await pass_window(storage, limit, 2, 11.5, [0.5]) == 120.0
    assert await pass_window(storage, limit, 4, 120.0, [0.24]) == 90.0
    assert await pass_window(storage, limit, 6, 90.0, [0.25]) == 90.0
    assert await pass_window(storage, limit, 8, 90.0, [0.24]) == 67.5
    assert await pass_window(storage, limit, 10, 0.0, [0.24]) == 60.0


async def test_what_is_admitted_follows_the_limit(storage: MemoryStorage) -> None:
    assert (await storage.peek("user", LATEST, 1.0, NOW)).remaining == 100.0
    await pass_window(storage, LATEST, 0, 0.0, [0.0])
    assert (await storage.peek("user", LATEST, 1.0, NOW + PERIOD)).remaining == 50.0
    assert not (await storage.acquire("user", LATEST, 51.0, NOW + PERIOD)).allowed


# -- what it knows ----------------------------------------------------------------------------------------------------


async def test_the_score_is_a_mean_in_which_the_newest_weighs_three_tenths(storage: MemoryStorage) -> None:
    seen = []
    for score in (0.0, 0.0, 1.0, 0.5):
        await storage.observe("user", LIMIT, score, NOW)
        seen.append((await fields(storage))["performance_score"])
    assert seen == pytest.approx([0.7, 0.49, 0.643, 0.6001], rel=1e-12)


async def test_the_mean_decides_and_not_the_latest_score(storage: MemoryStorage) -> None:
    assert await pass_window(storage, LIMIT, 0, 100.0, [0.0]) == 100.0  # 0.7
    assert await pass_window(storage, LIMIT, 1, 0.0, [0.0]) == 50.0  # 0.49
    assert await pass_window(storage, LIMIT, 2, 0.0, [1.0]) == 50.0  # 0.643
    assert await pass_window(storage, LIMIT, 3, 0.0, [0.0]) == 25.0  # 0.4501


async def test_the_history_keeps_the_last_sixteen_windows_newest_first(storage: MemoryStorage) -> None:
    for n in range(1, 21):
        assert (await storage.acquire("user", LIMIT, float(n), NOW + n * PERIOD)).allowed
    found = await fields(storage)
    assert found["count"] == 20.0
    assert found["traffic_history"] == [float(n) for n in range(19, 3, -1)]


async def test_windows_in_which_nothing_was_admitted_stand_in_the_history_as_zeros(storage: MemoryStorage) -> None:
    await storage.observe("user", LIMIT, 0.5, NOW)  # else it would be as good as new after two windows, and be dropped
    for n, cost in ((0, 5.0), (1, 6.0), (4, 7.0)):
        assert (await storage.acquire("user", LIMIT, cost, NOW + n * PERIOD + 1.0)).allowed
    assert (await fields(storage))["traffic_history"] == [0.0, 0.0, 6.0, 5.0] + [0.0] * 12


@pytest.mark.parametrize(("silence", "current"), [(16 * PERIOD - 0.25, 50.0), (16 * PERIOD, 100.0)])
@pytest.mark.parametrize("last", ["request", "score"])
async def test_a_limit_starts_areset_after_sixteen_windows_of_silence(
    storage: MemoryStorage, silence: float, current: float, last: str
) -> None:
    await storage.observe("user", LATEST, 0.0, NOW + LATE)
    heard = NOW + PERIOD + 5.0
    if last == "request":
        assert (await storage.acquire("user", LATEST, 2.0, heard)).allowed
    else:
        await storage.observe("user", LATEST, 0.7, heard)
    assert not (await storage.acquire("user", LATEST, 200.0, heard + PERIOD)).allowed  # a denied request breaks no silence
    now = heard + silence
    assert (await storage.peek("user", LATEST, 1.0, now)).remaining == current
    assert (await storage.acquire("user", LATEST, 1.0, now)).allowed
    found = await fields(storage)
    assert found["current_limit"] == current
    assert (found["performance_score"] == 1.0) == (current == 100.0)


# -- what may be told -------------------------------------------------------------------------------------------------


async def test_only_limits_that_learn_take_a_score_and_only_from_0_to_1(storage: MemoryStorage) -> None:
    for score in (-0.01, 1.01, float("nan")):
        with pytest.raises(InvalidLimitError, match="from 0 "):
            await storage.observe("user", LIMIT, score, NOW)
    with pytest.raises(InvalidLimitError, match="does not learn"):
        await storage.observe("user", Limit(100.0, PERIOD, "token_bucket"), 1.0, NOW)
    assert await storage.get_state("user") is None


async def test_of_several_limits_only_those_that_learn_are_told(storage: MemoryStorage) -> None:
    learns, plain = Limit(100.0, PERIOD, "adaptive", name="learns"), Limit(5.0, 1.0, "fixed_window", name="plain")
    await storage.observe("user", (learns, plain), 0.0, NOW)
    assert await storage.get_state("user", "plain") is None
    state = await storage.get_state("user", "learns")
    assert state is not None
    assert state.algorithm_data.fields["observations"] == 1.0
