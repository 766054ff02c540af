import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from traffic.distributions import Draws


def kolmogorov(values: list[float]) -> float:
    ordered, n = np.sort(values), len(values)
    return float(np.abs(ordered - (np.arange(n) + 0.5) / n).max() * np.sqrt(n))


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**40), max_size=3))
def test_a_draw_is_inside_the_unit_interval_and_always_the_same(seed: int, purpose: list[int]) -> None:
    drawn = Draws(seed).uniform(*purpose)
    assert 0 < drawn < 1
    assert Draws(seed).uniform(*purpose) == drawn


def test_a_seed_comes_from_the_generator_and_nothing_else_does() -> None:
    rng, twin = np.random.default_rng(1), np.random.default_rng(1)
    assert Draws.of(rng) == Draws.of(twin) != Draws.of(np.random.default_rng(2))
    assert rng.random() == twin.random()


def test_draws_for_neighboring_purposes_are_uniform_and_independent() -> None:
    draws = Draws(0)  # the weakest seed
    grid = np.array([[draws.uniform(user, turn) for turn in range(100)] for user in range(100)])
    assert len(np.unique(grid)) == 10_000
    assert kolmogorov(grid.ravel().tolist()) < 1.95  # Kolmogorov-Smirnov, 0.1 %
    for one, other in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid, grid.T)):
        off = ~np.eye(100, dtype=bool)[: one.shape[0], : one.shape[1]]
        # Correlations of some 10,000 pairs have a standard error of 0.01; pairs of the transpose count twice.
        assert abs(np.corrcoef(one[off], other[off])[0, 1]) < 0.05


def test_seeds_that_follow_one_another_draw_differently() -> None:
    assert kolmogorov([Draws(seed).uniform(0) for seed in range(5000)]) < 1.95
