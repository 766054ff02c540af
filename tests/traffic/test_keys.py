import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from traffic import Churning, HotKey, InTurn, Uniform, Zipf
from traffic.keys import Keys

POPULATIONS = [Uniform(1), Uniform(20), Zipf(1), Zipf(20), Zipf(20, 0.0), Zipf(20, 0.64), Zipf(20, 3.5)]


@pytest.mark.parametrize("keys", POPULATIONS, ids=repr)
def test_draws_are_indices_into_distinct_names(keys: Keys) -> None:
    drawn = keys.draw(1000, np.random.default_rng(0))
    assert drawn.dtype == np.int64
    assert drawn.shape == (1000,)
    assert 0 <= drawn.min() <= drawn.max() < len(keys.names())
    assert len(set(keys.names())) == len(keys.names())


@pytest.mark.parametrize("keys", POPULATIONS, ids=repr)
def test_the_same_seed_draws_the_same_keys(keys: Keys) -> None:
    one, same = (keys.draw(500, np.random.default_rng(4)).tobytes() for _ in range(2))
    assert one == same


@pytest.mark.parametrize("s", [0.0, 0.64, 1.0, 1.5])
def test_zipf_frequencies_follow_the_law(s: float) -> None:
    n, size = 50, 100_000
    weights = np.arange(1, n + 1) ** -s
    counts = np.bincount(Zipf(n, s).draw(size, np.random.default_rng(11)), minlength=n)
    assert stats.chisquare(counts, size * weights / weights.sum()).pvalue > 0.001


def test_uniform_frequencies_are_equal() -> None:
    counts = np.bincount(Uniform(50).draw(100_000, np.random.default_rng(12)), minlength=50)
    assert stats.chisquare(counts).pvalue > 0.001


class Extremes(np.random.Generator):
    """Draws the smallest and the largest number that a generator can, and the one in the middle."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.array([0.0, np.nextafter(1.0, 0.0), 0.5])


@given(st.integers(1, 2000), st.floats(0, 5))
def test_zipf_stays_in_range_at_the_ends_of_the_unit_interval(n: int, s: float) -> None:
    first, last, _ = Zipf(n, s).draw(3, Extremes())
    assert first == 0
    assert 0 <= last < n


def test_a_key_owns_the_lower_end_of_its_interval() -> None:
    assert Zipf(2, 0.0).draw(3, Extremes()).tolist() == [0, 1, 1]


def test_zipf_describes_itself_by_its_parameters_alone() -> None:
    assert repr(Zipf(10, 1.5)) == "Zipf(n=10, s=1.5)"
    assert Zipf(10, 1.5) == Zipf(10, 1.5)


@pytest.mark.parametrize("kind", [Uniform, Zipf])
@pytest.mark.parametrize("n", [0, -3])
def test_a_population_has_at_least_one_key(kind: type[Zipf], n: int) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: n "):
        kind(n)


@pytest.mark.parametrize("s", [-0.1, np.inf, np.nan])
def test_the_exponent_must_be_finite_and_not_negative(s: float) -> None:
    with pytest.raises(ValueError, match="Zipf: s "):
        Zipf(10, s)


def test_a_hot_key_has_its_share_and_the_others_ask_equally_often() -> None:
    counts = np.bincount(HotKey(5, 0.4).draw(100_000, np.random.default_rng(1)), minlength=5)
    # Standard errors are 0.0015 and 0.0011.
    np.testing.assert_allclose(counts / 100_000, [0.4, 0.15, 0.15, 0.15, 0.15], atol=0.006)
    assert HotKey(5, 0.4).names() == Uniform(5).names()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, np.nan, np.inf])
def test_the_share_of_a_hot_key_is_between_0_and_1(share: float) -> None:
    with pytest.raises(ValueError, match="HotKey: share"):
        HotKey(5, share)


def test_a_hot_key_is_one_of_at_least_two() -> None:
    with pytest.raises(ValueError, match="HotKey: n"):
        HotKey(1, 0.5)


def test_keys_in_turn_ask_one_after_the_other_and_draw_nothing() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert InTurn(3).draw(7, rng).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert rng.random() == untouched.random()
    assert InTurn(3).names() == Uniform(3).names()
    with pytest.raises(ValueError, match="InTurn: n"):
        InTurn(0)


# A population that changes


def test_a_churning_population_replaces_its_keys_and_keeps_how_often_they_ask() -> None:
    keys = Churning(Zipf(20, 1.0), replaced=4.0)
    drawn = keys.draw(100_000, np.random.default_rng(5))
    assert 0 <= drawn.min() <= drawn.max() < len(keys.names())
    assert (drawn % 20).tolist() == Zipf(20, 1.0).draw(100_000, np.random.default_rng(5)).tolist()
    generations = drawn // 20
    # Of key number 0 there are five, one after the other, each for a quarter of the requests or the rest of one at the ends.
    first = generations[drawn % 20 == 0]
    assert (np.diff(first) >= 0).all()
    assert np.bincount(first)[1:4] == pytest.approx(len(first) / 4, rel=0.05)
    assert len(np.unique(first)) == 5


def test_a_churning_population_changes_little_by_little() -> None:
    drawn = Churning(Uniform(100), replaced=1.0).draw(100_000, np.random.default_rng(6))
    new = [np.count_nonzero(np.unique(part) >= 100) for part in np.array_split(drawn, 20)]
    assert np.diff(new) == pytest.approx(5, abs=2), "five of a hundred in each twentieth"


def test_a_population_that_never_changes_is_not_churning() -> None:
    with pytest.raises(ValueError, match="replaced must be a positive"):
        Churning(Uniform(5), 0.0)
    assert len(Churning(Uniform(5), 2.0).draw(0, np.random.default_rng(0))) == 0
