import numpy as np
import pytest

from ratesim.limit import InvalidLimitError, Limit
from ratesim.simulation.analysis.backend_saturation import saturate

LIMIT = Limit(100, 1.0, "adaptive")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_limit_saws_around_the_capacity_with_its_mean_below_and_comes_back_when_the_backend_heals(seed: int) -> None:
    told = saturate(LIMIT, 200.0, [(0, 80.0), (150, 30.0), (300, 80.0)], 450.0, np.random.default_rng(seed))
    for begin, end, capacity in ((40, 150, 80.0), (170, 300, 30.0), (340, 450, 80.0)):
        part = told[(told.time > begin) & (told.time <= end)]
        assert 0.7 * capacity < part.limit.mean() < capacity
        assert 0.7 * capacity < part.admitted.mean() < capacity
        # The sawtooth: it climbs above the capacity by a twentieth of the rate a window, and is halved there, often.
        change = part.limit.diff().dropna()
        above = part.limit > capacity
        assert above.any()
        assert (~above).any()
        assert part.limit.max() < 2 * capacity
        assert set(change[change > 0].round(9)) <= {5.0}
        assert (change < 0).sum() >= 5
        assert np.allclose(
            part.limit[change[change < 0].index], np.maximum(part.limit.shift()[change[change < 0].index] / 2, 10)
        )


def test_a_backend_that_keeps_up_lets_the_limit_rise_to_its_maximum() -> None:
    told = saturate(LIMIT, 400.0, [(0, 1000.0)], 60.0, np.random.default_rng(1))
    assert told.limit.iloc[-1] == 200.0
    assert told.slow.max() == 0.0


def test_a_limit_that_is_not_used_stays_where_it_is() -> None:
    told = saturate(LIMIT, 40.0, [(0, 1000.0)], 30.0, np.random.default_rng(1))
    assert set(told.limit) == {100.0}


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = (saturate(LIMIT, 150.0, [(0, 80.0)], 20.0, np.random.default_rng(7)) for _ in range(2))
    assert one.equals(other)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(InvalidLimitError, match="gcra: does not learn"):
        saturate(Limit(100, 1.0, "gcra"), 200.0, [(0, 80.0)], 1.0, np.random.default_rng(1))
    for capacity in ([], [(1, 80.0)], [(0, 80.0), (5, 10.0), (3, 20.0)]):
        with pytest.raises(ValueError, match="capacity"):
            saturate(LIMIT, 200.0, capacity, 1.0, np.random.default_rng(1))
